/** One concept in the bar: its words, what was found, and while it is active its examples. */

import type { DrawnConcept, DrawnExemplar } from "./concepts";
import { icon, node, setAttribute, setText } from "./dom";
import { isCancelled, nameOf, remarkOf, titleOf } from "./state";

const NARROW = 8;
const WIDE = 48;

export class ConceptChip {
  readonly element: HTMLLIElement;
  #swatch = node("span", { class: "sam3w-swatch" });
  #text = node("span", { class: "sam3w-concept-text" });
  #pin = node("span", { class: "sam3w-pin" }, icon("pin"));
  #count = node("span", { class: "sam3w-count", "data-testid": "sam3w-concept-count" });
  #meter = node("span", { class: "sam3w-presence" });
  #mark = node("span", { class: "sam3w-mark", hidden: true });
  #frame = node("span", { class: "sam3w-concept-frame" });
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
    this.#frame,
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
    setText(this.#text, titleOf(concept));
    this.#text.classList.toggle("sam3w-wordless", concept.text === "");
    this.#pin.toggleAttribute("hidden", concept.at === null);
    setText(this.#frame, concept.frame_idx === undefined ? "" : `frame ${concept.frame_idx}`);
    setText(this.#count, String(concept.count));
    this.#count.classList.toggle("sam3w-none", concept.count === 0);
    this.#count.hidden = concept.presence === null && concept.count === 0;
    this.#meter.hidden = concept.presence === null;
    this.#meter.style.setProperty("--sam3w-share", String(concept.presence ?? 0));
    this.#showMark(concept);
    setAttribute(this.#name, "aria-pressed", String(active));
    setAttribute(this.#name, "aria-label", labelOf(concept));
    setAttribute(this.#name, "title", hintOf(concept, active));
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
      });
      const edit = this.#edit;
      const grow = () => {
        edit.size = Math.min(WIDE, Math.max(NARROW, edit.value.length + 1));
      };
      edit.value = this.#concept.text;
      edit.addEventListener("input", grow);
      grow();
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

  #showMark(concept: DrawnConcept): void {
    const { error, pending } = concept;
    this.#mark.hidden = pending || remarkOf(concept) === null;
    setText(this.#mark, error === null ? "i" : isCancelled(error) ? "↻" : "!");
    this.#mark.classList.toggle("sam3w-bad", error !== null && !isCancelled(error));
    this.#mark.classList.toggle("sam3w-again", canAskAgain(concept));
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

function canAskAgain({ text, error }: DrawnConcept): boolean {
  return error !== null && text !== "";
}

function labelOf(concept: DrawnConcept): string {
  const parts = [`Concept ${titleOf(concept)}`];
  if (concept.frame_idx !== undefined) parts.push(`asked on frame ${concept.frame_idx}`);
  if (concept.at !== null) parts.push(placeOf(concept.at));
  if (concept.pending) parts.push("looking");
  else parts.push(`${concept.count} found`);
  if (concept.presence !== null) parts.push(`presence ${percent(concept.presence)}`);
  const remark = remarkOf(concept);
  if (remark !== null) parts.push(remark);
  return parts.join(", ");
}

function hintOf(concept: DrawnConcept, active: boolean): string {
  const lines = [concept.at === null ? titleOf(concept) : `${concept.text}, ${placeOf(concept.at)}`];
  if (concept.presence !== null) {
    lines.push(`Presence ${percent(concept.presence)}: how sure the model is that there is any`);
  }
  const remark = remarkOf(concept);
  if (remark !== null) lines.push(remark);
  if (canAskAgain(concept)) lines.push("Click the mark, or F2 and Enter: ask again");
  const go =
    concept.frame_idx === undefined ? "" : `go to frame ${concept.frame_idx}, where it was asked, and `;
  lines.push(active ? "Double click or F2: other words" : `Click: ${go}make it the active concept`);
  return lines.join("\n");
}
