/** The line below the canvas, and the errors, which lie over its lower edge: nothing on the page moves for them. */

import { icon, node, setAttribute, setText } from "./dom";
import { type Concept, nameOf, type Status } from "./state";

/** What the model is at, in words. */
export function phaseOf({ phase, fraction, seconds_left }: Status, concepts: readonly Concept[]): string {
  if (phase === "idle") return "";
  const percent = fraction === null ? "" : ` ${Math.round(fraction * 100)} %`;
  if (phase === "encoding") return `Encoding the image, once…${percent}`;
  if (phase === "refining") return `Refining…${percent}`;
  if (phase === "propagating") return `Propagating…${percent}${timeLeft(seconds_left)}`;
  const [first, ...others] = concepts.filter(({ pending }) => pending);
  const more = others.length > 0 ? ` and ${others.length} more` : "";
  return `Looking for ${first === undefined ? "concepts" : nameOf(first)}${more}…${percent}`;
}

function timeLeft(seconds: number | undefined): string {
  if (seconds === undefined) return "";
  if (seconds < 90) return ` · ${Math.ceil(seconds)} s left`;
  return seconds < 5400
    ? ` · ${Math.round(seconds / 60)} min left`
    : ` · ${Math.round(seconds / 3600)} h left`;
}

export class StatusBar {
  readonly element: HTMLElement;
  readonly alert: HTMLElement;
  /** What a screen reader is told. */
  readonly live = node("div", {
    class: "sam3w-sr",
    role: "status",
    "aria-live": "polite",
    "data-testid": "sam3w-live",
  });
  #phase = node("span", { class: "sam3w-phase", "data-testid": "sam3w-phase" });
  #bar = node("progress", { class: "sam3w-progress", max: 1, hidden: true, "aria-label": "Progress" });
  #cancel = node(
    "button",
    { type: "button", class: "sam3w-button sam3w-cancel", hidden: true, "data-testid": "sam3w-cancel" },
    icon("stop"),
    "Cancel",
  );
  #place = node("span", { class: "sam3w-place", "data-testid": "sam3w-place" });
  #zoom = node("span", { class: "sam3w-zoom", "data-testid": "sam3w-zoom" });
  #error = node("span", { "data-testid": "sam3w-error-text" });

  constructor(onCancel: () => void, onDismiss: () => void, signal: AbortSignal) {
    const dismiss = node(
      "button",
      { type: "button", class: "sam3w-button sam3w-small", "aria-label": "Dismiss", title: "Dismiss (Esc)" },
      icon("close"),
    );
    dismiss.dataset.testid = "sam3w-dismiss";
    this.alert = node(
      "div",
      { class: "sam3w-error", role: "alert", hidden: true, "data-testid": "sam3w-error" },
      this.#error,
      dismiss,
    );
    this.element = node(
      "footer",
      { class: "sam3w-status" },
      this.#phase,
      this.#bar,
      this.#cancel,
      node("span", { class: "sam3w-spring" }),
      this.#place,
      this.#zoom,
    );
    this.#cancel.addEventListener("click", onCancel, { signal });
    dismiss.addEventListener("click", onDismiss, { signal });
  }

  /** `other` is what there is to say while the model rests. */
  update(status: Status, concepts: readonly Concept[], other: string, error: string | null): void {
    const told = error !== null && (other.includes(error) || error.includes(other));
    const phase = phaseOf(status, concepts) || (told ? "" : other);
    setText(this.#phase, phase);
    setAttribute(this.#phase, "title", phase || null);
    this.#bar.hidden = status.phase === "idle";
    setAttribute(this.#bar, "value", status.fraction === null ? null : String(status.fraction));
    this.#cancel.hidden = status.phase === "idle" || !status.cancellable;
    this.alert.hidden = error === null;
    setText(this.#error, error ?? "");
  }

  where(place: string, zoom: string): void {
    setText(this.#place, place);
    setText(this.#zoom, zoom);
  }
}
