/** A button with a picture in a row of them. */

import { type IconName, icon, node } from "./dom";

export interface ButtonSpec {
  /** Of the test id. */
  name: string;
  label: string;
  /** The key that does the same, "" where there is none. */
  key: string;
  icon: IconName;
  /** Beside the picture, where there is room. */
  word?: string;
  run(): void;
}

/** `release` gives the keyboard back to the canvas after a press of the mouse. */
export function toolButton(spec: ButtonSpec, release: () => void, signal: AbortSignal): HTMLButtonElement {
  const { name, label, key } = spec;
  const button = node(
    "button",
    {
      type: "button",
      class: "sam3w-button",
      "aria-label": label,
      title: key === "" ? label : `${label} (${key})`,
      "data-testid": `sam3w-${name}`,
    },
    icon(spec.icon),
    spec.word === undefined ? null : node("span", { class: "sam3w-word" }, spec.word),
  );
  button.addEventListener(
    "click",
    (event) => {
      spec.run();
      if (event.detail > 0) release();
    },
    { signal },
  );
  return button;
}
