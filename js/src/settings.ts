/** How masks look and how they are cleaned, folded away below the list. */

import type { Command } from "./commands";
import { icon, node, setText } from "./dom";
import { KernelField } from "./kernelfield";
import type { State } from "./state";

export interface SettingsHost {
  run(command: Command): Promise<unknown>;
  setOpacity(value: number): void;
  toggleOutline(): void;
}

export class SettingsBox {
  readonly element: HTMLDetailsElement;
  #opacity = node("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.01,
    "aria-label": "Mask opacity",
    "data-testid": "sam3w-opacity",
  });
  #opacityText = node("output");
  #outline = node("input", { type: "checkbox", "data-testid": "sam3w-outline-box" });
  #threshold: KernelField;
  #holes: KernelField;
  #islands: KernelField;

  constructor(host: SettingsHost, signal: AbortSignal) {
    const field = (
      input: HTMLInputElement,
      output: HTMLElement | null,
      make: (value: number, gesture: string) => Command,
    ) => new KernelField(input, output, make, host.run, signal);
    this.#threshold = field(
      node("input", {
        type: "range",
        min: 0.01,
        max: 0.99,
        step: 0.01,
        "aria-label": "Mask threshold",
        "data-testid": "sam3w-threshold",
      }),
      node("output"),
      (value, gesture) => ({ name: "set_mask_threshold", args: { value, gesture } }),
    );
    this.#holes = field(
      number("Fill holes up to this many pixels", "sam3w-holes"),
      null,
      (area, gesture) => ({
        name: "set_fill_holes",
        args: { area, gesture },
      }),
    );
    this.#islands = field(
      number("Drop islands below this many pixels", "sam3w-islands"),
      null,
      (area, gesture) => ({
        name: "set_min_area",
        args: { area, gesture },
      }),
    );
    const line = (text: string, ...controls: (HTMLElement | null)[]) =>
      node("label", { class: "sam3w-setting" }, node("span", {}, text), ...controls);
    this.element = node(
      "details",
      { class: "sam3w-settings", "data-testid": "sam3w-settings" },
      node("summary", {}, icon("settings"), "Masks"),
      line("Opacity", this.#opacity, this.#opacityText),
      line("Outlines only", this.#outline),
      line("Threshold", this.#threshold.input, this.#threshold.output),
      line("Fill holes up to", this.#holes.input, node("span", { class: "sam3w-unit" }, "px")),
      line("Drop islands below", this.#islands.input, node("span", { class: "sam3w-unit" }, "px")),
    );
    this.#opacity.addEventListener("input", () => host.setOpacity(this.#opacity.valueAsNumber), { signal });
    this.#outline.addEventListener("change", () => host.toggleOutline(), { signal });
  }

  update(state: State | null, opacity: number, outlineOnly: boolean): void {
    if (!this.#opacity.matches(":active")) this.#opacity.value = String(opacity);
    setText(this.#opacityText, `${Math.round(opacity * 100)} %`);
    this.#outline.checked = outlineOnly;
    this.#opacity.disabled = outlineOnly;
    this.#threshold.show(state?.settings.mask_threshold);
    this.#holes.show(state?.settings.fill_holes);
    this.#islands.show(state?.settings.min_area);
  }
}

function number(label: string, testid: string): HTMLInputElement {
  return node("input", {
    type: "number",
    min: 0,
    step: 1,
    "aria-label": label,
    title: label,
    "data-testid": testid,
  });
}
