/** The sheet of keys, made from the table that dispatches them. */

import { icon, node } from "./dom";
import { BINDINGS, POINTER_HELP } from "./keys";

function section(title: string, lines: readonly (readonly [shown: string, what: string])[]): HTMLElement {
  const items = lines.flatMap(([shown, what]) => [
    node("dt", {}, node("kbd", {}, shown)),
    node("dd", {}, what),
  ]);
  return node("section", {}, node("h3", {}, title), node("dl", {}, ...items));
}

export class Help {
  readonly element: HTMLElement;
  #close = node(
    "button",
    { type: "button", class: "sam3w-button sam3w-small", "aria-label": "Close", title: "Close (Esc)" },
    icon("close"),
  );

  /** `own` is the group of keys for what the widget shows beside a picture. */
  constructor(onClose: () => void, own: "Video" | "Images" | null, signal: AbortSignal) {
    const groups = ["Draw", "Objects", ...(own === null ? [] : [own]), "View", "General"];
    this.element = node(
      "div",
      {
        class: "sam3w-help",
        role: "dialog",
        "aria-label": "Keys and mouse",
        hidden: true,
        "data-testid": "sam3w-help-sheet",
      },
      node("header", {}, node("h2", {}, "Keys and mouse"), this.#close),
      node(
        "div",
        { class: "sam3w-help-body" },
        // Columns of a box that scrolls would flow out sideways.
        node(
          "div",
          { class: "sam3w-help-columns" },
          section("Mouse and touch", POINTER_HELP),
          ...groups.map((group) =>
            section(
              group,
              BINDINGS.filter((binding) => binding.group === group).map(({ shown, what }) => [shown, what]),
            ),
          ),
        ),
      ),
    );
    this.#close.addEventListener("click", onClose, { signal });
  }

  get open(): boolean {
    return !this.element.hidden;
  }

  show(on: boolean): void {
    this.element.hidden = !on;
    if (on) this.#close.focus({ preventScroll: true });
  }
}
