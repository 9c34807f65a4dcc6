/** The classes on offer, each with its key and how many objects of a data set are of it. */

import type { Dataset } from "./dataset";
import { node, setAttribute, setText } from "./dom";
import type { Editor } from "./editor";

const count = new Intl.NumberFormat("en");

export class ClassChips {
  readonly element = node("div", { class: "sam3w-class-chips", role: "group", "aria-label": "Classes" });
  #counts = new Map<string, HTMLElement>();
  #made = "";
  #dataset: Dataset;
  #editor: Editor;

  constructor(dataset: Dataset, editor: Editor, takeFocus: () => void, signal: AbortSignal) {
    this.#dataset = dataset;
    this.#editor = editor;
    this.element.addEventListener(
      "click",
      (event) => {
        const chip = (event.target as Element).closest<HTMLElement>("button");
        if (chip === null) return;
        editor.setClass(Number(chip.dataset.index));
        if (event.detail > 0) takeFocus();
      },
      { signal },
    );
  }

  update(offered: readonly string[]): void {
    const told = this.#dataset.classes;
    const isMixed = (told.get("") ?? 0) > 0;
    const key = JSON.stringify([offered, isMixed]);
    if (key !== this.#made) {
      this.#made = key;
      this.#make(offered, isMixed);
    }
    this.element.hidden = offered.length === 0 && !isMixed;
    for (const [label, number] of this.#counts) setText(number, count.format(told.get(label) ?? 0));
    for (const chip of this.element.querySelectorAll<HTMLElement>("button")) {
      setAttribute(chip, "aria-pressed", String(chip.dataset.label === this.#editor.label));
    }
  }

  /** `isMixed`: some objects have no class. */
  #make(offered: readonly string[], isMixed: boolean): void {
    this.#counts.clear();
    const number = (label: string) => {
      const made = node("span", { class: "sam3w-count" });
      this.#counts.set(label, made);
      return made;
    };
    const name = (text: string) => node("span", { class: "sam3w-class-name" }, text);
    this.element.replaceChildren(
      ...offered.map((label, index) => {
        const key = index < 10 ? String((index + 1) % 10) : null;
        return node(
          "button",
          {
            type: "button",
            class: "sam3w-filter",
            "data-testid": "sam3w-class",
            "data-label": label,
            "data-index": index,
            title: `${label}: of the selected object, else of new ones${key === null ? "" : ` (${key})`}`,
          },
          key === null ? null : node("kbd", {}, key),
          name(label),
          number(label),
        );
      }),
      isMixed
        ? node(
            "span",
            { class: "sam3w-filter sam3w-plain", "data-testid": "sam3w-class-none" },
            name("no class"),
            number(""),
          )
        : "",
    );
  }
}
