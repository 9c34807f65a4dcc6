/** The data set below the canvas: what became of this image, and the way to the others. */

import { Cells, MARKS } from "./cells";
import { ClassChips } from "./classchips";
import type { Dataset, ImageStatus } from "./dataset";
import { node, setAttribute, setText } from "./dom";
import type { Editor } from "./editor";
import { Filters } from "./filters";
import type { State } from "./state";
import type { Thumbs } from "./thumbs";
import { type ButtonSpec, toolButton } from "./toolbutton";

export interface FilmstripHost {
  editor: Editor;
  takeFocus(): void;
}

type Decision = Exclude<ImageStatus, "open">;

const DECISIONS: readonly (readonly [status: Decision, name: string, word: string, key: string])[] = [
  ["accepted", "accept", "Accept", "E"],
  ["rejected", "reject", "Reject", "R"],
  ["skipped", "skip", "Skip", "Q"],
];
const REST = "Ask what this image was asked, in words, of every image that nobody has touched";

export class Filmstrip {
  readonly element: HTMLElement;
  #dataset: Dataset;
  #host: FilmstripHost;
  #signal: AbortSignal;
  #field = node("input", {
    class: "sam3w-frame-field",
    inputmode: "numeric",
    "aria-label": "Image",
    title: "Image, from 1: type a number and press Enter",
    "data-testid": "sam3w-image-field",
    spellcheck: "false",
    autocomplete: "off",
  });
  #total = node("span", { class: "sam3w-total", "data-testid": "sam3w-image-total" });
  #name = node("span", { class: "sam3w-image-name", "data-testid": "sam3w-image-name" });
  #decisions = new Map<Decision, HTMLButtonElement>();
  #rest: HTMLButtonElement;
  #filters: Filters;
  #classes: ClassChips;
  #cells: Cells;

  constructor(dataset: Dataset, thumbs: Thumbs, host: FilmstripHost, signal: AbortSignal) {
    this.#dataset = dataset;
    this.#host = host;
    this.#signal = signal;
    const takeFocus = () => host.takeFocus();
    this.#filters = new Filters(dataset, takeFocus, signal);
    this.#classes = new ClassChips(dataset, host.editor, takeFocus, signal);
    this.#cells = new Cells(dataset, thumbs, takeFocus, signal);
    this.#rest = this.#make({
      name: "apply",
      label: "Apply to the rest",
      key: "",
      icon: "rest",
      word: "Apply to the rest",
      run: () => dataset.toRest(),
    });
    this.element = node(
      "section",
      { class: "sam3w-dataset", "aria-label": "Data set", "data-testid": "sam3w-dataset" },
      this.#bar(),
      this.#filters.progress,
      this.#filters.element,
      this.#classes.element,
      this.#cells.element,
    );
    this.#listen();
  }

  /** Draws what has changed; the rest stays as it is. */
  update(state: State | null): void {
    const dataset = this.#dataset;
    const { target, shown, applied } = dataset;
    this.element.dataset.sam3wImage = String(shown);
    this.element.classList.toggle("sam3w-waiting", dataset.away);
    // Of a page without a kernel nobody knows which image it is.
    if (!this.#field.matches(":focus")) this.#field.value = state === null ? "" : String(target + 1);
    setText(this.#total, `/ ${dataset.length}`);
    const name = dataset.name(target);
    setText(this.#name, name);
    setAttribute(this.#name, "title", name);
    const { status } = dataset.row(shown);
    for (const [each, button] of this.#decisions) {
      setAttribute(button, "aria-pressed", String(each === status));
    }
    setAttribute(this.#rest, "aria-pressed", String(applied !== null));
    setAttribute(this.#rest, "title", applied === null ? REST : `${REST}. Now asked: ${applied}`);
    this.#filters.update();
    this.#classes.update(state?.classes ?? []);
    this.#cells.update();
  }

  #bar(): HTMLElement {
    const dataset = this.#dataset;
    const group = (...children: HTMLElement[]) => node("div", { class: "sam3w-tools" }, ...children);
    return node(
      "div",
      { class: "sam3w-image-bar", role: "toolbar", "aria-label": "This image" },
      group(
        this.#make({
          name: "prev",
          label: "Image before",
          key: "A",
          icon: "previous",
          run: () => dataset.step(-1),
        }),
        node("label", { class: "sam3w-frame-at" }, this.#field, this.#total),
        this.#make({ name: "next", label: "Next image", key: "D", icon: "next", run: () => dataset.step(1) }),
      ),
      this.#name,
      node(
        "div",
        { class: "sam3w-image-acts" },
        group(...DECISIONS.map(([status, name, word, key]) => this.#decision(status, name, word, key))),
        group(this.#rest),
      ),
    );
  }

  /** A second press takes the decision back. */
  #decision(status: Decision, name: string, word: string, key: string): HTMLButtonElement {
    const button = this.#make({
      name,
      label: word,
      key,
      icon: MARKS[status],
      word,
      run: () => {
        const { shown } = this.#dataset;
        void this.#dataset.decide(this.#dataset.row(shown).status === status ? "open" : status);
      },
    });
    button.dataset.status = status;
    this.#decisions.set(status, button);
    return button;
  }

  #make(spec: ButtonSpec): HTMLButtonElement {
    return toolButton(spec, () => this.#host.takeFocus(), this.#signal);
  }

  #listen(): void {
    const signal = this.#signal;
    this.#field.addEventListener(
      "keydown",
      (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        event.stopPropagation();
        this.#host.takeFocus();
      },
      { signal },
    );
    this.#field.addEventListener("change", () => this.#typed(), { signal });
    this.#field.addEventListener("focus", () => this.#field.select(), { signal });
  }

  #typed(): void {
    const typed = this.#field.value.trim();
    const { length } = this.#dataset;
    const wanted = /^\d+$/.test(typed) ? Number(typed) : 0;
    if (wanted >= 1 && wanted <= length) this.#dataset.go(wanted - 1);
    else this.#host.editor.say(`Images are numbered 1 to ${length}, and “${typed}” is none of them.`);
    this.#field.value = String(this.#dataset.target + 1);
  }
}
