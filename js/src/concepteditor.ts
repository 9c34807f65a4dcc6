/** What a person does to concepts: names them, shows examples, and whether clicks are for a concept or an object. */

import type { Command, Commands, ShowCommand } from "./commands";
import { type Concepts, conceptsOf, type DrawnConcept, phrases, tidy } from "./concepts";
import { nameOf, type Seen } from "./state";

export type Mode = "object" | "concept";

export interface ConceptHost {
  say(message: string): void;
  changed(): void;
}

export class ConceptEditor {
  #mode: Mode = "object";
  #seen: Seen;
  #commands: Commands;
  #host: ConceptHost;

  constructor(seen: Seen, commands: Commands, host: ConceptHost) {
    this.#seen = seen;
    this.#commands = commands;
    this.#host = host;
  }

  get now(): Concepts {
    return conceptsOf(this.#seen.state, this.#commands.here);
  }

  get active(): DrawnConcept | null {
    return this.now.active;
  }

  get canFind(): boolean {
    return this.#capability("text");
  }

  get canShow(): boolean {
    return this.#capability("exemplars");
  }

  /** Concept: clicks and boxes are exemplars. A model that takes none has objects alone. */
  get mode(): Mode {
    return this.canShow ? this.#mode : "object";
  }

  /** Returns whether the mode is another one now. */
  setMode(mode: Mode): boolean {
    if (mode === this.mode) return false;
    if (mode === "concept" && !this.canShow) {
      this.#host.say(this.advice("exemplars"));
      return false;
    }
    this.#mode = mode;
    if (mode === "object") this.#host.say("Object mode: clicks and boxes are for one object");
    else if (this.active === null) this.#host.say("Concept mode: a click or a box shows what to find");
    else this.#host.say(`Concept mode: clicks and boxes show what ${nameOf(this.active)} means`);
    this.#host.changed();
    return true;
  }

  advice(capability: "text" | "exemplars"): string {
    const model = this.#seen.state?.model;
    const what = capability === "text" ? "words" : "exemplars";
    return model?.advice[capability] ?? `This model takes no ${what}.`;
  }

  /** Finds everything that was typed; returns what the kernel refused, to be put right. */
  async find(typed: string): Promise<string> {
    const texts = phrases(typed);
    const done = await Promise.all(texts.map((text) => this.#run({ name: "add_concept", args: { text } })));
    return texts.filter((_, index) => !done[index]).join(", ");
  }

  /** `again` asks once more where the same words have failed. */
  rename(conceptId: number, typed: string, again = false): void {
    const concept = this.now.list.find((each) => each.conceptId === conceptId);
    const text = tidy(typed);
    if (concept === undefined || text === "") return;
    const same = text === concept.text;
    if (same && !(again && concept.error !== null)) return;
    // The same question is still for the same one.
    const at = same && concept.at !== null ? { at: concept.at } : {};
    this.#do({ name: "set_text", args: { text, concept_id: conceptId, ...at } });
  }

  activate(conceptId: number | null): void {
    if (this.now.target !== conceptId) {
      this.#do({ name: "select_concept", args: { concept_id: conceptId } });
    }
  }

  startNew(): void {
    this.activate(null);
    this.#host.say("The next click or box shows a new concept");
  }

  remove(conceptId: number): void {
    this.#do({ name: "remove_concept", args: { concept_id: conceptId } });
  }

  /** Why there can be no example of this kind now; null where there can be one. */
  refusal(positive: boolean): string | null {
    if (!this.canShow) return this.advice("exemplars");
    if (positive || this.now.target !== null) return null;
    const first = this.canFind ? "name a concept, or include an example" : "include an example";
    return `Nothing to exclude from: ${first} first.`;
  }

  /** Gives an example to the active concept. */
  show(command: ShowCommand): void {
    const refused = this.refusal(command.args.positive);
    if (refused !== null) return this.#host.say(refused);
    void this.#commands.add(command, this.now.target);
  }

  removeExemplar(exemplarId: number): void {
    this.#do({ name: "remove_exemplar", args: { exemplar_id: exemplarId } });
  }

  flipExemplar(exemplarId: number): void {
    this.#do({ name: "flip_exemplar", args: { exemplar_id: exemplarId } });
  }

  #capability(name: "text" | "exemplars"): boolean {
    return this.#seen.state?.model.capabilities[name] === true;
  }

  #do(command: Command): void {
    void this.#run(command);
  }

  async #run(command: Command): Promise<boolean> {
    if (this.#seen.state !== null) return this.#commands.run(command);
    this.#host.say("No kernel has answered yet: this is a view only.");
    return false;
  }
}
