/** The row of buttons above the canvas. */

import type { Mode } from "./concepteditor";
import { type IconName, icon, node, setAttribute } from "./dom";
import type { Editor } from "./editor";
import type { State } from "./state";
import { type ButtonSpec, toolButton } from "./toolbutton";

export interface ToolbarHost {
  editor: Editor;
  toggleOutline(): void;
  toggleHelp(): void;
  /** Puts the Python that makes these masks on the clipboard; null where there is none. */
  copyScript: (() => void) | null;
  /** Gives the keyboard back to the canvas after a press of the mouse. */
  takeFocus(): void;
}

export class Toolbar {
  readonly element = node("div", { class: "sam3w-toolbar", role: "toolbar", "aria-label": "Tools" });
  #host: ToolbarHost;
  #buttons = new Map<string, HTMLButtonElement>();
  #radius = node("input", {
    type: "range",
    min: 0,
    max: 100,
    class: "sam3w-radius-slider",
    "aria-label": "Brush radius",
    "data-testid": "sam3w-radius",
    title: "Brush radius ( [ and ] )",
  });
  #radiusText = node("span", { class: "sam3w-radius-text" });
  #radiusGroup = node("label", { class: "sam3w-radius" }, this.#radius, this.#radiusText);

  constructor(host: ToolbarHost, signal: AbortSignal) {
    this.#host = host;
    const { editor } = host;
    const group = (...specs: ButtonSpec[]) =>
      node("div", { class: "sam3w-tools" }, ...specs.map((spec) => this.#button(spec, host, signal)));
    const spec = (name: string, label: string, key: string, image: IconName, run: () => void) => ({
      name,
      label,
      key,
      icon: image,
      run,
    });
    this.element.append(
      node(
        "div",
        { class: "sam3w-modes", role: "group", "aria-label": "What clicks and boxes are for" },
        this.#mode("object", "Object", signal),
        this.#mode("concept", "Concept", signal),
      ),
      group(
        spec("tool-point", "Point", "P", "point", () => editor.setTool("point", true)),
        spec("tool-box", "Box", "B", "box", () => editor.setTool("box", true)),
        spec("tool-brush", "Brush", "S", "brush", () => editor.setTool("brush", true)),
        spec("tool-eraser", "Eraser", "S, then T", "eraser", () => editor.setTool("brush", false)),
      ),
      group(spec("polarity", "Exclude", "T", "polarity", () => editor.flip())),
      group(
        spec("undo", "Undo", "Ctrl+Z", "undo", () => editor.undo()),
        spec("redo", "Redo", "Ctrl+Shift+Z", "redo", () => editor.redo()),
      ),
      // Last on this side: it comes and goes with the brush, and no button moves for it.
      this.#radiusGroup,
      node("span", { class: "sam3w-spring" }),
      group(
        spec("outline", "Outlines only", "O", "outline", () => host.toggleOutline()),
        spec("zoom-out", "Zoom out", "−", "zoomOut", () => editor.zoom(0.8)),
        spec("zoom-in", "Zoom in", "+", "zoomIn", () => editor.zoom(1.25)),
        spec("fit", "Fit", "F", "fit", () => editor.fit()),
      ),
      ...(host.copyScript === null
        ? []
        : [group(spec("script", "Copy as Python", "", "code", () => host.copyScript?.()))]),
      group(spec("help", "Keys and mouse", "?", "help", () => host.toggleHelp())),
    );
    // Even steps in size, not in pixels: one pixel matters to a small brush and is nothing to a large one.
    this.#radius.addEventListener("input", () => editor.setRadius(this.#chosenRadius(editor.radius)), {
      signal,
    });
  }

  #button(spec: ButtonSpec, host: ToolbarHost, signal: AbortSignal): HTMLButtonElement {
    const button = toolButton(spec, () => host.takeFocus(), signal);
    this.#buttons.set(spec.name, button);
    return button;
  }

  #mode(mode: Mode, label: string, signal: AbortSignal): HTMLButtonElement {
    const button = node(
      "button",
      { type: "button", class: "sam3w-button sam3w-mode", "data-testid": `sam3w-mode-${mode}` },
      icon(mode),
      node("span", {}, label),
    );
    button.addEventListener(
      "click",
      (event) => {
        this.#host.editor.setMode(mode);
        if (event.detail > 0) this.#host.takeFocus();
      },
      { signal },
    );
    this.#buttons.set(`mode-${mode}`, button);
    return button;
  }

  #chosenRadius(radius: number): number {
    const place = this.#radius.valueAsNumber;
    const chosen = fromSlider(place);
    if (chosen !== radius || this.#radius.matches(":active")) return chosen;
    // A key press moves the slider by less than a pixel where the brush is small.
    return radius + Math.sign(place - toSlider(radius));
  }

  update(editor: Editor, state: State | null, outlineOnly: boolean, helpOpen: boolean): void {
    const { tool, positive, concepts } = editor;
    this.#press("mode-object", concepts.mode === "object");
    this.#press("mode-concept", concepts.mode === "concept");
    this.#titles(state === null || concepts.canShow ? null : concepts.advice("exemplars"));
    this.#press("tool-point", tool === "point");
    this.#press("tool-box", tool === "box");
    this.#press("tool-brush", tool === "brush" && positive);
    this.#press("tool-eraser", tool === "brush" && !positive);
    this.#press("polarity", !positive);
    this.#press("outline", outlineOnly);
    this.#press("help", helpOpen);
    const focused = this.element.querySelector(":focus");
    this.#capability("tool-point", "Point (P)", editor.canClick, state?.model.advice.points);
    this.#capability("tool-box", "Box (B)", editor.canDrawBoxes, state?.model.advice.boxes);
    this.#history("undo", "Undo", "Ctrl+Z", state?.history.undo ?? null);
    this.#history("redo", "Redo", "Ctrl+Shift+Z", state?.history.redo ?? null);
    this.#radiusGroup.hidden = tool !== "brush";
    // A control that goes while it has the focus would hand the keyboard to the page.
    if (focused?.matches(":disabled, [hidden] *")) this.#host.takeFocus();
    if (!this.#radius.matches(":active")) this.#radius.value = String(toSlider(editor.radius));
    this.#radiusText.textContent = `${Math.round(editor.radius)} px`;
    setAttribute(this.#radius, "aria-valuetext", `${Math.round(editor.radius)} pixels`);
  }

  /** The button of a mode that cannot be stays there to say why. */
  #titles(advice: string | null): void {
    const object = this.#buttons.get("mode-object");
    const concept = this.#buttons.get("mode-concept");
    if (!object || !concept) return;
    setAttribute(object, "title", "Object (C): clicks and boxes are for one object");
    setAttribute(concept, "title", advice ?? "Concept (C): a click or a box shows what to find everywhere");
    setAttribute(concept, "aria-disabled", advice === null ? null : "true");
  }

  #press(name: string, on: boolean): void {
    const button = this.#buttons.get(name);
    if (button) setAttribute(button, "aria-pressed", String(on));
  }

  #capability(name: string, title: string, can: boolean, advice: string | undefined): void {
    const button = this.#buttons.get(name);
    if (!button) return;
    button.disabled = !can;
    setAttribute(button, "title", can ? title : (advice ?? title));
  }

  #history(name: string, verb: string, key: string, what: string | null): void {
    const button = this.#buttons.get(name);
    if (!button) return;
    button.disabled = what === null;
    setAttribute(
      button,
      "title",
      what === null ? `Nothing to ${verb.toLowerCase()}` : `${verb}: ${what} (${key})`,
    );
  }
}

const fromSlider = (value: number) => Math.round(500 ** (value / 100));
const toSlider = (radius: number) => Math.round((100 * Math.log(Math.max(1, radius))) / Math.log(500));
