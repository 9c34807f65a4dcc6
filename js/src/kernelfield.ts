/** A slider or a number whose value is the kernel's; one drag of it is one step of the history. */

import { type Command, Throttle } from "./commands";
import { setText } from "./dom";

let gestures = 0;

export class KernelField {
  readonly input: HTMLInputElement;
  readonly output: HTMLElement | null;
  #throttle = new Throttle<() => Promise<unknown>>((send) => send());
  #gesture = "";
  /** What the kernel has. */
  #value: number | undefined;

  /** `make` may return null where there is nothing to change. */
  constructor(
    input: HTMLInputElement,
    output: HTMLElement | null,
    make: (value: number, gesture: string) => Command | null,
    run: (command: Command) => Promise<unknown>,
    signal: AbortSignal,
  ) {
    this.input = input;
    this.output = output;
    input.addEventListener(
      "input",
      () => {
        const typed = input.valueAsNumber;
        // Pixels are whole; a slider has its own steps.
        const value = input.type === "number" ? Math.round(typed) : typed;
        if (!Number.isFinite(value) || value < 0) return;
        if (this.#gesture === "") {
          this.#gesture = `${input.dataset.testid}-${++gestures}-${Date.now().toString(36)}`;
        }
        const command = make(value, this.#gesture);
        if (command === null) return;
        this.#write(value);
        this.#throttle.push(() => run(command));
      },
      { signal },
    );
    input.addEventListener("change", () => this.end(), { signal });
    input.addEventListener("blur", () => this.show(this.#value), { signal });
  }

  /** The end of a drag: the next one is an undo step of its own. */
  end(): void {
    this.#gesture = "";
  }

  /** A control in use shows the hand's value, not the answer to an earlier one. */
  show(value: number | undefined): void {
    const { input } = this;
    this.#value = value;
    input.disabled = value === undefined;
    const inUse = this.#throttle.busy || input.matches(input.type === "number" ? ":focus" : ":active");
    if (value === undefined || inUse) return;
    if (input.value !== String(value)) input.value = String(value);
    this.#write(value);
  }

  #write(value: number): void {
    if (this.output !== null) setText(this.output, value.toFixed(2));
  }
}
