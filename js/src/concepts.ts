/** The concepts as a person has them: what the kernel confirmed, changed by what it was asked since. */

import { type Command, isShow, type Pending, type Selection } from "./commands";
import { type Box, type Concept, type Exemplar, numbered, type Polarity, type State } from "./state";

export interface DrawnExemplar {
  exemplarId: number | null;
  positive: Polarity;
  box: Box | null;
  point: readonly [x: number, y: number] | null;
  pending: boolean;
}

export interface DrawnConcept extends Omit<Concept, "concept_id" | "exemplars"> {
  /** Null while the kernel has not made it. */
  conceptId: number | null;
  /** The same for as long as it is shown. */
  key: string;
  exemplars: DrawnExemplar[];
}

export interface Concepts {
  list: readonly DrawnConcept[];
  active: DrawnConcept | null;
  /** What the next exemplar goes to. */
  target: Selection;
}

/** Colour of a concept that has none yet. */
const UNKNOWN = "#8a919c";

/** Two spellings of one phrase, as the kernel sees them. */
export function tidy(text: string): string {
  return text.trim().replace(/\s+/g, " ");
}

/** The phrases that a person typed, of which a comma ends each. */
export function phrases(typed: string): string[] {
  return [...new Set(typed.split(/[,\n]/).map(tidy))].filter((text) => text !== "");
}

function fromExemplar({ exemplar_id, positive, box, point }: Exemplar): DrawnExemplar {
  return { exemplarId: exemplar_id, positive, box, point, pending: box === null };
}

function fromState({ concept_id, exemplars, nth, ...told }: Concept): DrawnConcept {
  const key = String(concept_id);
  return { ...told, conceptId: concept_id, key, exemplars: exemplars.map(fromExemplar) };
}

function toBe(key: string, text: string, score_threshold: number): DrawnConcept {
  const told = { count: 0, presence: null, pending: true, error: null, note: null, at: null, exemplars: [] };
  return { ...told, conceptId: null, key, text, color: UNKNOWN, score_threshold };
}

/** The concepts once the kernel has carried out everything asked of it so far, its answers aside. */
export function conceptsOf(state: State | null, pending: Iterable<Pending>): Concepts {
  const drafts = (state?.concepts ?? []).map(fromState);
  const known = state?.concept ?? null;
  const concepts = new Drafts(drafts, known === null ? null : String(known), state?.settings.score_threshold);
  for (const each of pending) concepts.take(each);
  const list = numbered(drafts);
  const active = list.find(({ key }) => key === concepts.active) ?? null;
  const target = active === null ? null : (active.conceptId ?? { newFrom: active.key });
  return { list, active, target };
}

/** Carries out on the concepts what the kernel was asked and has not answered. */
class Drafts {
  active: string | null;
  #list: DrawnConcept[];
  #threshold: number;

  constructor(list: DrawnConcept[], active: string | null, threshold = 0.5) {
    this.#list = list;
    this.active = active;
    this.#threshold = threshold;
  }

  take({ key, command, after }: Pending): void {
    const { name, args } = command;
    if (name === "add_concept") this.#add(key, tidy(args.text));
    else if (name === "select_concept") this.active = idKey(args.concept_id);
    else if (name === "remove_concept") this.#remove(String(args.concept_id));
    else if (name === "set_text") this.#rename(key, args);
    else if (isShow(command)) this.#show(key, command, after);
    else if (name === "remove_exemplar") this.#change(args.exemplar_id, () => null);
    else if (name === "flip_exemplar") this.#change(args.exemplar_id, flipped);
    else if (name === "reset") this.#clear();
  }

  #find(key: string | null): DrawnConcept | undefined {
    return this.#list.find((concept) => concept.key === key);
  }

  #add(key: string, text: string): void {
    const there = this.#list.find((concept) => concept.text === text);
    if (there === undefined) this.#list.push(toBe(key, text, this.#threshold));
    this.active = there?.key ?? key;
  }

  #remove(key: string): void {
    const at = this.#list.findIndex((concept) => concept.key === key);
    if (at < 0) return;
    this.#list.splice(at, 1);
    if (this.active === key) this.active = (this.#list[at] ?? this.#list[at - 1])?.key ?? null;
  }

  #clear(): void {
    this.#list.length = 0;
    this.active = null;
  }

  #rename(key: string, { text, concept_id }: { text: string; concept_id?: number }): void {
    const concept = this.#find(concept_id === undefined ? this.active : String(concept_id));
    if (concept === undefined) return this.#add(key, tidy(text));
    const words = tidy(text);
    this.active = concept.key;
    if (words === concept.text) {
      // What failed is asked again.
      if (concept.error !== null) Object.assign(concept, { error: null, pending: true });
      return;
    }
    // Other words make another concept of it, of which the old examples show nothing.
    if (concept.text !== "") concept.exemplars = [];
    concept.text = words;
    concept.pending = true;
  }

  /** An exemplar of no concept makes one, which is the active one then. */
  #show(
    key: string,
    { args }: Extract<Command, { name: "add_exemplar" | "add_exemplar_point" }>,
    after?: string,
  ) {
    const positive: Polarity = args.positive ? 1 : 0;
    const place =
      "box" in args ? { box: args.box, point: null } : { box: null, point: [args.x, args.y] as const };
    const aim = after ?? (args.concept_id === undefined ? this.active : String(args.concept_id));
    let concept = this.#find(aim);
    if (concept === undefined) {
      if (aim !== null) return;
      concept = toBe(key, "", this.#threshold);
      this.#list.push(concept);
      this.active = key;
    }
    concept.exemplars.push({ exemplarId: null, positive, ...place, pending: true });
    concept.pending = true;
    this.active = concept.key;
  }

  #change(exemplarId: number, to: (exemplar: DrawnExemplar) => DrawnExemplar | null): void {
    for (const concept of [...this.#list]) {
      const at = concept.exemplars.findIndex((exemplar) => exemplar.exemplarId === exemplarId);
      const old = concept.exemplars[at];
      if (old === undefined) continue;
      const changed = to(old);
      concept.exemplars.splice(at, 1, ...(changed === null ? [] : [changed]));
      concept.pending = true;
      this.active = concept.key;
      if (concept.text === "" && concept.exemplars.length === 0) this.#remove(concept.key);
    }
  }
}

function flipped(exemplar: DrawnExemplar): DrawnExemplar {
  return { ...exemplar, positive: exemplar.positive ? 0 : 1, pending: true };
}

const idKey = (id: number | null) => (id === null ? null : String(id));
