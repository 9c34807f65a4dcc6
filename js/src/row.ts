/** One object in the list, with its details while it is selected. */

import { icon, node, setAttribute, setText } from "./dom";
import { type PromptRef, samePrompt } from "./markers";
import { type Concept, type Instance, isCancelled, nameOf } from "./state";

const count = new Intl.NumberFormat("en");

export function button(action: string, label: string, ...children: (Node | string)[]): HTMLButtonElement {
  return node(
    "button",
    {
      type: "button",
      class: "sam3w-button sam3w-small",
      "data-action": action,
      "aria-label": label,
      title: label,
    },
    ...children,
  );
}

interface Shown {
  instance: Instance;
  /** What it is called, unlike all others. */
  name: string;
  selected: boolean;
  chosen: PromptRef | null;
  /** The concept that found it. */
  concept: Concept | null;
}

/** It is updated in place, so that a list of hundreds costs only what changed. */
export class Row {
  readonly element: HTMLLIElement;
  #swatch = button("select", "Select");
  #label: HTMLInputElement;
  #concept = node("span", {
    class: "sam3w-dot",
    role: "img",
    hidden: true,
    "data-testid": "sam3w-row-concept",
  });
  #score = node("span", { class: "sam3w-score" });
  #area = node("span", { class: "sam3w-area" });
  #truth = node("div", { class: "sam3w-row-meta sam3w-truth", "data-testid": "sam3w-truth" });
  #error = node("p", { class: "sam3w-row-error", hidden: true });
  #note = node("p", { class: "sam3w-row-note", hidden: true });
  #visible = button("visible", "Hide");
  #locked = button("locked", "Lock");
  #remove = button("remove", "Delete object", icon("trash"));
  #details = node("div", { class: "sam3w-details", hidden: true });
  #shown: Shown | null = null;

  constructor(id: number, classes: string) {
    this.#swatch.classList.add("sam3w-swatch");
    this.#label = node("input", {
      class: "sam3w-label",
      list: classes,
      placeholder: `object ${id}`,
      "aria-label": `Label of object ${id}`,
      "data-action": "label",
      spellcheck: "false",
      autocomplete: "off",
    });
    this.element = node(
      "li",
      { class: "sam3w-row", "data-object-id": id, "data-testid": "sam3w-row" },
      node(
        "div",
        { class: "sam3w-row-main" },
        this.#swatch,
        node(
          "div",
          { class: "sam3w-row-text" },
          this.#label,
          node("div", { class: "sam3w-row-meta" }, this.#concept, this.#score, this.#area),
          this.#truth,
        ),
        node("div", { class: "sam3w-row-tools" }, this.#visible, this.#locked, this.#remove),
      ),
      this.#error,
      this.#note,
      this.#details,
    );
  }

  /** Returns whether anything changed. */
  update(now: Shown): boolean {
    const was = this.#shown;
    const { instance, name, selected, chosen, concept } = now;
    const same = was?.instance === instance && was.selected === selected && samePrompt(was.chosen, chosen);
    if (same && was.name === name && sameLook(was.concept, concept)) return false;
    this.#shown = now;
    this.element.classList.toggle("sam3w-selected", selected);
    this.element.classList.toggle("sam3w-unseen", !instance.visible);
    this.element.classList.toggle("sam3w-pending", instance.pending);
    setAttribute(this.element, "aria-current", selected ? "true" : null);
    this.#swatch.style.setProperty("--sam3w-object", instance.color);
    setAttribute(this.#swatch, "aria-label", `Select ${name}`);
    setAttribute(this.#swatch, "title", `Select ${name}`);
    if (!this.#label.matches(":focus")) this.#label.value = instance.label;
    setAttribute(this.#label, "title", instance.label || null);
    this.#showConcept(concept);
    setText(this.#score, instance.score === null ? "" : instance.score.toFixed(2));
    setText(this.#area, areaText(instance));
    setText(this.#truth, truthText(instance));
    this.#toggle(this.#visible, instance.visible ? "eye" : "eyeOff", !instance.visible, `Hide ${name}`);
    this.#toggle(this.#locked, instance.locked ? "lock" : "unlock", instance.locked, `Lock ${name}`);
    setAttribute(this.#remove, "aria-label", `Delete ${name}`);
    this.#error.hidden = instance.error === null;
    setText(this.#error, instance.error ?? "");
    this.#note.hidden = instance.note === null;
    setText(this.#note, instance.note ?? "");
    // Hundreds of rows would be hundreds of stops on the way out of the widget.
    for (const control of [this.#swatch, this.#label, this.#visible, this.#locked, this.#remove]) {
      control.tabIndex = selected ? 0 : -1;
    }
    this.#details.hidden = !selected;
    if (selected) this.#describe(instance, chosen);
    else this.#details.replaceChildren();
    return true;
  }

  /** Puts back what the kernel has, unless a person is typing again. */
  resetLabel(always = false): void {
    if (!always && this.#label.matches(":focus")) return;
    this.#label.value = this.#shown?.instance.label ?? "";
  }

  #showConcept(concept: Concept | null): void {
    this.#concept.hidden = concept === null;
    if (concept === null) return;
    const found = `Found as ${nameOf(concept)}`;
    this.#concept.style.setProperty("--sam3w-object", concept.color);
    setAttribute(this.#concept, "aria-label", found);
    setAttribute(this.#concept, "title", found);
  }

  #toggle(
    control: HTMLButtonElement,
    image: "eye" | "eyeOff" | "lock" | "unlock",
    on: boolean,
    label: string,
  ) {
    if (control.dataset.icon !== image) {
      control.replaceChildren(icon(image));
      control.dataset.icon = image;
    }
    setAttribute(control, "aria-pressed", String(on));
    setAttribute(control, "aria-label", label);
  }

  #describe(instance: Instance, chosen: PromptRef | null): void {
    const parts: Node[] = [];
    if (instance.candidates.length > 1) {
      const choices = instance.candidates.map((score, index) => {
        const choice = node(
          "button",
          {
            type: "button",
            class: "sam3w-candidate",
            "data-action": "candidate",
            "data-index": index,
            "aria-pressed": String(index === instance.candidate),
            "aria-label": `Candidate ${index + 1}, score ${score.toFixed(2)}`,
            title: `Candidate ${index + 1} (X: next)`,
          },
          node("b", {}, String(index + 1)),
          ` ${score.toFixed(2)}`,
        );
        return choice;
      });
      parts.push(
        node("div", { class: "sam3w-candidates", role: "group", "aria-label": "Candidates" }, ...choices),
      );
    }
    const chips = promptChips(instance, chosen);
    if (instance.imported) chips.unshift(node("span", { class: "sam3w-chip sam3w-plain" }, "imported mask"));
    if (chips.length > 0) parts.push(node("div", { class: "sam3w-chips" }, ...chips));
    this.#details.replaceChildren(...parts);
    this.#details.hidden = parts.length === 0;
  }
}

function sameLook(a: Concept | null, b: Concept | null): boolean {
  return a?.color === b?.color && a?.text === b?.text && a?.nth === b?.nth;
}

function truthText({ iou, points, box, strokes }: Instance): string {
  if (iou === undefined) return "";
  const said = points.length + strokes.length + (box === null ? 0 : 1);
  return `IoU ${iou.toFixed(2)} after ${said} prompt${said === 1 ? "" : "s"}`;
}

function areaText({ area, pending, error }: Instance): string {
  if (pending) return "working…";
  if (error !== null) return isCancelled(error) ? "cancelled" : "failed";
  return area === null ? "no mask" : `${count.format(area)} px`;
}

function promptChips(instance: Instance, chosen: PromptRef | null): HTMLElement[] {
  const chip = (ref: PromptRef, sign: string, text: string, name: string) => {
    const id = ref.kind === "box" ? ref.objectId : ref.id;
    const data = { "data-kind": ref.kind, "data-id": id };
    const polarity = sign === "+" ? " sam3w-plus" : sign === "−" ? " sam3w-minus" : "";
    return node(
      "span",
      {
        class: `sam3w-chip${samePrompt(ref, chosen) ? " sam3w-chosen" : ""}`,
        "data-testid": "sam3w-chip",
        ...data,
      },
      node(
        "button",
        { type: "button", "data-action": "choose", "aria-label": `Choose ${name}`, class: "sam3w-chip-name" },
        node("span", { class: `sam3w-sign${polarity}` }, sign),
        text,
      ),
      node(
        "button",
        { type: "button", "data-action": "drop", "aria-label": `Delete ${name}`, class: "sam3w-chip-close" },
        icon("close"),
      ),
    );
  };
  const chips = instance.points.map(([id, x, y, label]) => {
    const at = `${Math.floor(x)}, ${Math.floor(y)}`;
    return chip(
      { kind: "point", id },
      label ? "+" : "−",
      at,
      `${label ? "positive" : "negative"} point ${at}`,
    );
  });
  if (instance.box !== null)
    chips.push(chip({ kind: "box", objectId: instance.object_id }, "▭", "box", "box"));
  for (const [id, label] of instance.strokes) {
    const name = label ? "brush" : "eraser";
    chips.push(chip({ kind: "stroke", id }, label ? "+" : "−", name, `${name} stroke`));
  }
  return chips;
}

/** The prompt that a chip of a row stands for. */
export function refOf({ dataset }: HTMLElement): PromptRef | null {
  const id = Number(dataset.id);
  if (dataset.kind === "box") return { kind: "box", objectId: id };
  return dataset.kind === "point" || dataset.kind === "stroke" ? { kind: dataset.kind, id } : null;
}
