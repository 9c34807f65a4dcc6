/** One concept in the bar: its words, what was found, and while it is active its examples. */

import type { DrawnConcept, DrawnExemplar } from "./concepts";
import { icon, node, setAttribute, setText } from "./dom";
import { nameOf } from "./state";

const LIKE = "like the examples";

export class ConceptChip {
  readonly element: HTMLLIElement;
  #swatch = node("span", { class: "sam3w-swatch" });
  #text = node("span", { class: "sam3w-concept-text" });
  #pin = node("span", { class: "sam3w-pin" }, icon("pin"));
  #count = node("span", { class: "sam3w-count", "data-testid": "sam3w-concept-count" });
  #meter = node("span", { class: "sam3w-presence" });
  #mark = node("span", { class: "sam3w-mark", hidden: true });
  #name = node(
    "button",
    {
      type: "button",
      class: "sam3w-concept-name",
      "data-action": "activate",
      "data-testid": "sam3w-concept-name",
    },
    this.#swatch,
    this.#text,
    this.#pin,
    this.#count,
    this.#meter,
    this.#mark,
  );
  #signs = node("span", { class: "sam3w-signs", role: "group", "aria-label": "Examples", hidden: true });
  #remove = node(
    "button",
    {
      type: "button",
      class: "sam3w-chip-close",
      "data-action": "remove",
      "data-testid": "sam3w-concept-remove",
    },
    icon("close"),
  );
  #edit: HTMLInputElement | null = null;
  #shownSigns = "";
  #concept: DrawnConcept;

  constructor(concept: DrawnConcept) {
    this.#concept = concept;
    this.element = node(
      "li",
      { class: "sam3w-concept", "data-key": concept.key, "data-testid": "sam3w-concept" },
      this.#name,
      this.#signs,
      this.#remove,
    );
  }

  get concept(): DrawnConcept {
    return this.#concept;
  }

  /** The field in the place of the words while they are edited. */
  get field(): HTMLInputElement | null {
    return this.#edit;
  }

  /** `chosen` is the chosen exemplar, `stop` whether Tab stops at it: of many chips at one. */
  update(concept: DrawnConcept, active: boolean, chosen: number | null, stop: boolean): void {
    this.#concept = concept;
    const { element } = this;
    const known = concept.conceptId !== null;
    element.classList.toggle("sam3w-active", active);
    element.classList.toggle("sam3w-pending", concept.pending);
    element.style.setProperty("--sam3w-object", concept.color);
    setText(this.#text, concept.text || LIKE);
    this.#text.classList.toggle("sam3w-wordless", concept.text === "");
    this.#pin.toggleAttribute("hidden", concept.at === null);
    setText(this.#count, String(concept.count));
    this.#count.classList.toggle("sam3w-none", concept.count === 0);
    this.#count.hidden = concept.presence === null && concept.count === 0;
    this.#meter.hidden = concept.presence === null;
    this.#meter.style.setProperty("--sam3w-share", String(concept.presence ?? 0));
    this.#showMark(concept);
    setAttribute(this.#name, "aria-pressed", String(active));
    setAttribute(this.#name, "aria-label", labelOf(concept));
    setAttribute(this.#name, "title", titleOf(concept, active));
    setAttribute(this.#remove, "aria-label", `Delete ${nameOf(concept)}`);
    setAttribute(this.#remove, "title", `Delete ${nameOf(concept)} and what it found, refined objects aside`);
    this.#name.disabled = !known;
    this.#remove.disabled = !known;
    this.#name.tabIndex = stop ? 0 : -1;
    this.#remove.tabIndex = active ? 0 : -1;
    this.#showSigns(active ? concept.exemplars : [], chosen);
  }

  focus(): void {
    this.#name.focus({ preventScroll: true });
  }

  /** Puts a field in the place of the words. */
  edit(): void {
    if (this.#edit === null) {
      this.#edit = node("input", {
        class: "sam3w-concept-edit",
        "aria-label": `Words of the concept ${nameOf(this.#concept)}`,
        "data-testid": "sam3w-concept-edit",
        spellcheck: "false",
        autocomplete: "off",
        size: Math.min(28, Math.max(8, this.#concept.text.length + 1)),
      });
      this.#edit.value = this.#concept.text;
      this.#name.hidden = true;
      this.#name.before(this.#edit);
    }
    this.#edit.focus({ preventScroll: true });
    this.#edit.select();
  }

  /** Takes the field away; returns what was typed, null where there was no field. */
  endEdit(): string | null {
    const edit = this.#edit;
    this.#edit = null;
    this.#name.hidden = false;
    edit?.remove();
    return edit?.value ?? null;
  }

  #showMark({ error, note, pending }: DrawnConcept): void {
    const words = pending ? null : (error ?? note);
    this.#mark.hidden = words === null;
    setText(this.#mark, error === null ? "i" : "!");
    this.#mark.classList.toggle("sam3w-bad", error !== null);
  }

  #showSigns(exemplars: readonly DrawnExemplar[], chosen: number | null): void {
    this.#signs.hidden = exemplars.length === 0;
    const key = JSON.stringify([exemplars.map((e) => [e.exemplarId, e.positive, e.pending]), chosen]);
    if (key === this.#shownSigns) return;
    this.#shownSigns = key;
    this.#signs.replaceChildren(...exemplars.map((exemplar, index) => signOf(exemplar, index, chosen)));
  }
}

function signOf({ exemplarId, positive, pending }: DrawnExemplar, index: number, chosen: number | null) {
  const isChosen = exemplarId !== null && exemplarId === chosen;
  const polarity = positive ? "sam3w-plus" : "sam3w-minus";
  const name = `Example ${index + 1}, ${positive ? "included" : "excluded"}`;
  return node(
    "button",
    {
      type: "button",
      class: `sam3w-sign ${polarity}${isChosen ? " sam3w-chosen" : ""}${pending ? " sam3w-waiting" : ""}`,
      "data-action": "exemplar",
      "data-id": exemplarId ?? "",
      "data-testid": "sam3w-exemplar",
      "aria-label": name,
      "aria-pressed": String(isChosen),
      title: `${name} (then Del deletes it, T flips it)`,
      disabled: exemplarId === null,
    },
    positive ? "+" : "−",
  );
}

const placeOf = ([x, y]: readonly [number, number]) => `only the one at ${Math.floor(x)}, ${Math.floor(y)}`;
const percent = (share: number) => `${Math.round(share * 100)} %`;

function labelOf(concept: DrawnConcept): string {
  const parts = [`Concept ${concept.text || LIKE}`];
  if (concept.at !== null) parts.push(placeOf(concept.at));
  if (concept.pending) parts.push("looking");
  else parts.push(`${concept.count} found`);
  if (concept.presence !== null) parts.push(`presence ${percent(concept.presence)}`);
  if (concept.error !== null || concept.note !== null) parts.push(concept.error ?? concept.note ?? "");
  return parts.join(", ");
}

function titleOf(concept: DrawnConcept, active: boolean): string {
  const lines = [concept.at === null ? concept.text || LIKE : `${concept.text}, ${placeOf(concept.at)}`];
  if (concept.presence !== null) {
    lines.push(`Presence ${percent(concept.presence)}: how sure the model is that there is any`);
  }
  if (concept.error !== null || concept.note !== null) lines.push(concept.error ?? concept.note ?? "");
  lines.push(active ? "Double click or F2: other words" : "Click: make it the active concept");
  return lines.join("\n");
}
