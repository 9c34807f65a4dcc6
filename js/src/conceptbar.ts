/** The row above the canvas where things are named: a field, and a chip for each concept. */

import type { Command } from "./commands";
import { ConceptChip } from "./conceptchip";
import type { DrawnConcept } from "./concepts";
import { icon, node, setAttribute, setText } from "./dom";
import type { Editor } from "./editor";
import { KernelField } from "./kernelfield";
import type { PromptRef } from "./markers";
import { capitalized, type State } from "./state";
import { Strip } from "./strip";

export interface ConceptBarHost {
  editor: Editor;
  run(command: Command): Promise<unknown>;
  takeFocus(): void;
}

const EXAMPLES = "handle, person, dog";

export class ConceptBar {
  readonly element: HTMLElement;
  #host: ConceptBarHost;
  #chips = new Map<string, ConceptChip>();
  #field = node("input", {
    type: "text",
    class: "sam3w-find",
    enterkeyhint: "search",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    "aria-label": "Find every",
    "data-testid": "sam3w-find",
  });
  #prefix = node("span", { class: "sam3w-find-prefix", "aria-hidden": "true" }, "Find every");
  #label = node("label", { class: "sam3w-find-box" }, icon("find"), this.#prefix, this.#field);
  #hint = node("p", { class: "sam3w-concept-hint", hidden: true });
  #list = node("ul", { class: "sam3w-concepts", "aria-label": "Concepts", "data-testid": "sam3w-concepts" });
  #threshold: KernelField;
  #slider: HTMLElement;
  #strip: Strip;
  #active: DrawnConcept | null = null;

  constructor(host: ConceptBarHost, signal: AbortSignal) {
    this.#host = host;
    this.#threshold = new KernelField(
      node("input", {
        type: "range",
        min: 0.05,
        max: 0.95,
        step: 0.01,
        "aria-label": "Score threshold",
        "data-testid": "sam3w-score-threshold",
      }),
      node("output"),
      (value, gesture) => this.#thresholdCommand(value, gesture),
      host.run,
      signal,
    );
    this.#slider = node(
      "label",
      {
        class: "sam3w-score-threshold",
        title: "Score threshold: shows what scores at least this. Moving it never asks the model.",
      },
      this.#threshold.input,
      this.#threshold.output,
    );
    this.element = node(
      "div",
      { class: "sam3w-concept-bar", role: "group", "aria-label": "Concepts" },
      this.#label,
      this.#hint,
      this.#list,
    );
    this.#strip = new Strip(this.#list, signal);
    const listen = <K extends keyof HTMLElementEventMap>(
      name: K,
      act: (event: HTMLElementEventMap[K]) => void,
    ) => this.element.addEventListener(name, act, { signal });
    listen("click", (event) => this.#click(event));
    listen("dblclick", (event) => this.#doubleClick(event));
    listen("keydown", (event) => this.#key(event));
    listen("focusout", (event) => this.#left(event));
    const light = (event: Event) => host.editor.light(this.#chipOf(event)?.concept.conceptId ?? null);
    listen("pointerover", light);
    listen("pointerleave", () => host.editor.light(null));
    listen("focusin", (event) => {
      if ((event.target as Element).matches("[data-action=activate]:focus-visible")) light(event);
    });
    listen("focusout", () => {
      if (!this.#list.matches(":hover")) host.editor.light(null);
    });
  }

  /** Puts the keyboard into the field. */
  toField(): boolean {
    if (this.#field.disabled) return false;
    this.#field.focus({ preventScroll: true });
    this.#field.select();
    return true;
  }

  update(state: State | null, chosen: PromptRef | null): void {
    const { concepts } = this.#host.editor;
    const { list, active } = concepts.now;
    this.#showField(state, list.length);
    const stop = active ?? list[0];
    // First, for an element that is moved past one that goes loses the keyboard.
    const kept = new Set(list.map(({ key }) => key));
    for (const key of this.#chips.keys()) if (!kept.has(key)) this.#drop(key);
    let place = this.#list.firstElementChild;
    for (const concept of list) {
      let chip = this.#chips.get(concept.key);
      if (chip === undefined) {
        chip = new ConceptChip(concept);
        this.#chips.set(concept.key, chip);
      }
      if (chip.element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(chip.element, place);
      const isChosen = concept === active && chosen?.kind === "exemplar" ? chosen.id : null;
      chip.update(concept, concept === active, isChosen, concept === stop);
    }
    this.#showThreshold(active);
    if (active !== null && isNews(active, this.#active)) this.#reveal(active);
    this.#active = active;
    this.#strip.fade();
  }

  #showField(state: State | null, count: number): void {
    const { concepts } = this.#host.editor;
    const able = state !== null && concepts.canFind;
    const advice = state === null || able ? null : concepts.advice("text");
    const field = this.#field;
    // A field that is disabled under the keyboard would hand it to the page.
    if (!able && field.matches(":focus")) this.#host.takeFocus();
    field.disabled = !able;
    setAttribute(field, "placeholder", advice ?? EXAMPLES);
    setAttribute(field, "title", advice);
    this.#prefix.hidden = advice !== null;
    this.element.classList.toggle("sam3w-unable", advice !== null);
    // Where no concept can come the bar is a line; where one can, its place is kept.
    const never = advice !== null && !concepts.canShow && count === 0;
    this.element.classList.toggle("sam3w-never", never);
    this.#hint.hidden = count > 0 || !concepts.canShow;
    const how =
      concepts.mode === "concept" ? "click an example, or draw a box" : "press C and show an example";
    setText(this.#hint, able ? `or ${how}` : capitalized(how));
  }

  #showThreshold(active: DrawnConcept | null): void {
    const chip = active === null || active.conceptId === null ? undefined : this.#chips.get(active.key);
    if (chip === undefined || active === null) return this.#slider.remove();
    if (this.#slider.parentElement !== chip.element) {
      // What is dragged is another concept's now.
      this.#threshold.end();
      chip.element.lastElementChild?.before(this.#slider);
    }
    this.#threshold.show(active.score_threshold);
  }

  #thresholdCommand(value: number, gesture: string): Command | null {
    const concept_id = this.#host.editor.concepts.active?.conceptId ?? null;
    return concept_id === null ? null : { name: "set_score_threshold", args: { value, concept_id, gesture } };
  }

  #drop(key: string): void {
    const chip = this.#chips.get(key);
    this.#chips.delete(key);
    if (chip === undefined) return;
    if (chip.element.contains(this.#slider)) this.#slider.remove();
    const hadFocus = chip.element.matches(":focus-within");
    chip.element.remove();
    if (hadFocus) this.#host.takeFocus();
  }

  #reveal({ key }: DrawnConcept): void {
    const chip = this.#chips.get(key);
    if (chip !== undefined) this.#strip.reveal(chip.element);
  }

  #chipOf(event: Event): ConceptChip | undefined {
    const element = (event.target as Element).closest<HTMLElement>("[data-key]");
    return this.#chips.get(element?.dataset.key ?? "");
  }

  #click(event: MouseEvent): void {
    const chip = this.#chipOf(event);
    const control = (event.target as Element).closest<HTMLElement>("[data-action]");
    const conceptId = chip?.concept.conceptId ?? null;
    if (control === null || conceptId === null) return;
    const { editor } = this.#host;
    const { action } = control.dataset;
    if ((event.target as Element).closest(".sam3w-mark.sam3w-again") !== null) {
      editor.concepts.rename(conceptId, chip?.concept.text ?? "", true);
    } else if (action === "activate") editor.activate(conceptId);
    else if (action === "remove") editor.concepts.remove(conceptId);
    else if (action === "exemplar") editor.chooseExemplar(Number(control.dataset.id));
    // With the keyboard one goes on along the bar; only an example is acted on in the canvas.
    if (event.detail > 0 || action === "exemplar") this.#host.takeFocus();
  }

  #doubleClick(event: MouseEvent): void {
    if ((event.target as Element).closest("[data-action=activate]") === null) return;
    this.#edit(this.#chipOf(event));
  }

  #edit(chip: ConceptChip | undefined): void {
    if (chip === undefined || chip.concept.conceptId === null) return;
    if (!this.#host.editor.concepts.canFind)
      return this.#host.editor.say(this.#host.editor.concepts.advice("text"));
    chip.edit();
  }

  #key(event: KeyboardEvent): void {
    if (event.isComposing) return;
    const target = event.target as Element;
    const chip = this.#chipOf(event);
    const handled =
      target === this.#field
        ? this.#fieldKey(event.key)
        : chip !== undefined && chip.field === target
          ? this.#editKey(event.key, chip)
          : chip !== undefined && target.matches("[data-action=activate]") && this.#chipKey(event, chip);
    if (!handled) return;
    event.preventDefault();
    event.stopPropagation();
  }

  #fieldKey(key: string): boolean {
    if (key !== "Enter") return false;
    const typed = this.#field.value;
    this.#field.value = "";
    void this.#host.editor.concepts.find(typed).then((refused) => {
      // To be put right, unless the next is being typed.
      if (refused !== "" && this.#field.value === "") this.#field.value = refused;
    });
    return true;
  }

  #editKey(key: string, chip: ConceptChip): boolean {
    if (key !== "Enter" && key !== "Escape") return false;
    this.#endEdit(chip, key === "Enter", true);
    chip.focus();
    return true;
  }

  #chipKey({ key, ctrlKey, metaKey, altKey }: KeyboardEvent, chip: ConceptChip): boolean {
    if (ctrlKey || metaKey || altKey) return false;
    const { concept } = chip;
    const chips = [...this.#list.children].flatMap(
      (each) => this.#chips.get((each as HTMLElement).dataset.key ?? "") ?? [],
    );
    const at = chips.indexOf(chip);
    const steps: Record<string, number> = {
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      Home: 0,
      End: chips.length - 1,
    };
    const next = steps[key];
    if (next !== undefined) {
      const other = chips[next];
      other?.focus();
      if (other !== undefined) this.#reveal(other.concept);
    } else if (key === "F2" || (key === "Enter" && concept.key === this.#active?.key)) {
      this.#edit(chip);
    } else if ((key === "Delete" || key === "Backspace") && concept.conceptId !== null) {
      const neighbour = chips[at + 1] ?? chips[at - 1];
      this.#host.editor.concepts.remove(concept.conceptId);
      if (neighbour === undefined) this.#host.takeFocus();
      else neighbour.focus();
    } else return false;
    return true;
  }

  /** Words that were changed hold when one goes on to something else. */
  #left(event: FocusEvent): void {
    const chip = this.#chipOf(event);
    if (chip !== undefined && chip.field === event.target) this.#endEdit(chip, true);
  }

  #endEdit(chip: ConceptChip, keep: boolean, again = false): void {
    const { conceptId } = chip.concept;
    const typed = chip.endEdit();
    if (keep && typed !== null && conceptId !== null) {
      this.#host.editor.concepts.rename(conceptId, typed, again);
    }
  }
}

/** Whether its chip is another one, or may be wider than it was. */
function isNews(now: DrawnConcept, before: DrawnConcept | null): boolean {
  if (now.key !== before?.key || now.pending !== before.pending) return true;
  return now.exemplars.length !== before.exemplars.length;
}
