/** The list of objects beside the canvas, with the details of the selected one. */

import type { Command } from "./commands";
import { icon, node, setAttribute, setText } from "./dom";
import type { Editor } from "./editor";
import { type PromptRef, samePrompt } from "./markers";
import type { Instance, State } from "./state";

export interface PanelHost {
  editor: Editor;
  run(command: Command): Promise<unknown>;
  takeFocus(): void;
}

const count = new Intl.NumberFormat("en");

function button(action: string, label: string, ...children: (Node | string)[]): HTMLButtonElement {
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

/** One object. It is updated in place, so that a list of hundreds costs only what changed. */
class Row {
  readonly element: HTMLLIElement;
  #swatch = button("select", "Select");
  #label: HTMLInputElement;
  #score = node("span", { class: "sam3w-score" });
  #area = node("span", { class: "sam3w-area" });
  #error = node("p", { class: "sam3w-row-error", hidden: true });
  #visible = button("visible", "Hide");
  #locked = button("locked", "Lock");
  #remove = button("remove", "Delete object", icon("trash"));
  #details = node("div", { class: "sam3w-details", hidden: true });
  #shown: { instance: Instance; selected: boolean; chosen: PromptRef | null } | null = null;

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
          node("div", { class: "sam3w-row-meta" }, this.#score, this.#area),
        ),
        node("div", { class: "sam3w-row-tools" }, this.#visible, this.#locked, this.#remove),
      ),
      this.#error,
      this.#details,
    );
  }

  /** Returns whether anything changed. */
  update(instance: Instance, selected: boolean, chosen: PromptRef | null): boolean {
    const was = this.#shown;
    if (was?.instance === instance && was.selected === selected && samePrompt(was.chosen, chosen))
      return false;
    this.#shown = { instance, selected, chosen };
    const name = instance.label || `object ${instance.object_id}`;
    this.element.classList.toggle("sam3w-selected", selected);
    this.element.classList.toggle("sam3w-unseen", !instance.visible);
    this.element.classList.toggle("sam3w-pending", instance.pending);
    setAttribute(this.element, "aria-current", selected ? "true" : null);
    this.#swatch.style.setProperty("--sam3w-object", instance.color);
    setAttribute(this.#swatch, "aria-label", `Select ${name}`);
    setAttribute(this.#swatch, "title", `Select ${name}`);
    if (!this.#label.matches(":focus")) this.#label.value = instance.label;
    setAttribute(this.#label, "title", instance.label || null);
    setText(this.#score, instance.score === null ? "" : instance.score.toFixed(2));
    setText(this.#area, areaText(instance));
    this.#toggle(this.#visible, instance.visible ? "eye" : "eyeOff", !instance.visible, `Hide ${name}`);
    this.#toggle(this.#locked, instance.locked ? "lock" : "unlock", instance.locked, `Lock ${name}`);
    setAttribute(this.#remove, "aria-label", `Delete ${name}`);
    this.#error.hidden = instance.error === null;
    setText(this.#error, instance.error ?? "");
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

function areaText({ area, pending, error }: Instance): string {
  if (pending) return "working…";
  if (error !== null) return "failed";
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

let lists = 0;

export class Panel {
  readonly element: HTMLElement;
  #host: PanelHost;
  #rows = new Map<number, Row>();
  #classes = node("datalist", { id: `sam3w-classes-${++lists}` });
  #shownClasses: readonly string[] = [];
  #count = node("span", { class: "sam3w-count" });
  #list = node("ul", { class: "sam3w-list", "data-testid": "sam3w-list", "aria-label": "Objects" });
  #empty = node("p", { class: "sam3w-empty", "data-testid": "sam3w-empty" });
  #advice = node("p", { class: "sam3w-advice", hidden: true, "data-testid": "sam3w-advice" });
  #reset = button("reset", "Delete all objects", icon("trash"));

  constructor(host: PanelHost, settings: HTMLElement, signal: AbortSignal) {
    this.#host = host;
    this.#reset.dataset.testid = "sam3w-reset";
    const fresh = node(
      "button",
      {
        type: "button",
        class: "sam3w-button sam3w-new",
        "data-action": "new",
        "data-testid": "sam3w-new",
        title: "New object (M): the next click starts it",
      },
      icon("plus"),
      "New object",
    );
    this.element = node(
      "aside",
      { class: "sam3w-panel", "aria-label": "Objects" },
      node(
        "header",
        { class: "sam3w-panel-head" },
        node("span", { class: "sam3w-title" }, "Objects"),
        this.#count,
        node("span", { class: "sam3w-spring" }),
        fresh,
        this.#reset,
      ),
      this.#advice,
      this.#empty,
      this.#list,
      settings,
      this.#classes,
    );
    this.element.addEventListener("click", (event) => this.#click(event), { signal });
    // Unfolding the settings shortens the list, which may leave the selected row below its edge.
    settings.addEventListener("toggle", () => this.#revealSelected(), { signal });
    this.#list.addEventListener("change", (event) => this.#labelled(event), { signal });
    this.#list.addEventListener("keydown", (event) => this.#labelKey(event), { signal });
    this.#list.addEventListener("focusin", (event) => this.#focused(event), { signal });
  }

  update(state: State | null, selected: number | null, chosen: PromptRef | null): void {
    const instances = state?.instances ?? [];
    this.#empty.hidden = instances.length > 0;
    this.#list.hidden = instances.length === 0;
    setText(this.#count, instances.length > 0 ? String(instances.length) : "");
    setText(this.#empty, emptyText(state));
    this.#reset.disabled = instances.length === 0;
    const advice = state?.model.capabilities.text === false ? state.model.advice.text : undefined;
    this.#advice.hidden = advice === undefined;
    setText(this.#advice, advice ?? "");
    if (state !== null && state.classes !== this.#shownClasses) {
      this.#shownClasses = state.classes;
      this.#classes.replaceChildren(...state.classes.map((value) => node("option", { value })));
    }
    const gone = new Set(this.#rows.keys());
    let shown: HTMLElement | null = null;
    let place = this.#list.firstElementChild;
    for (const instance of instances) {
      const id = instance.object_id;
      gone.delete(id);
      let row = this.#rows.get(id);
      if (row === undefined) {
        row = new Row(id, this.#classes.id);
        this.#rows.set(id, row);
      }
      if (row.element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.element, place);
      const isSelected = id === selected;
      const changed = row.update(instance, isSelected, isSelected ? chosen : null);
      if (changed && isSelected) shown = row.element;
    }
    for (const id of gone) {
      this.#rows.get(id)?.element.remove();
      this.#rows.delete(id);
    }
    if (shown !== null) this.#reveal(shown);
  }

  #revealSelected(): void {
    const row = this.#list.querySelector<HTMLElement>(".sam3w-selected");
    if (row !== null) this.#reveal(row);
  }

  /** By hand: `scrollIntoView` would scroll the page as well. */
  #reveal(element: HTMLElement): void {
    const list = this.#list;
    const top = element.offsetTop;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + element.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top + element.offsetHeight - list.clientHeight;
    }
  }

  #rowOf(event: Event): { id: number; row: Row } | null {
    const element = (event.target as Element).closest<HTMLElement>("[data-object-id]");
    const id = Number(element?.dataset.objectId);
    const row = this.#rows.get(id);
    return element === null || row === undefined ? null : { id, row };
  }

  #click(event: MouseEvent): void {
    const target = event.target as Element;
    const control = target.closest<HTMLElement>("[data-action]");
    const { editor, run } = this.#host;
    const action = control?.dataset.action;
    if (action === "new") {
      editor.startNew();
      return this.#host.takeFocus();
    }
    if (action === "reset") {
      void run({ name: "reset", args: {} });
      // The button is about to be disabled, and the focus would be lost with it.
      return this.#host.takeFocus();
    }
    const found = this.#rowOf(event);
    if (found === null) return;
    const { id } = found;
    const pressed = control?.getAttribute("aria-pressed") === "true";
    if (action === undefined || action === "select") {
      editor.select(id);
      if (event.detail > 0) this.#host.takeFocus();
    } else if (action === "visible") {
      void run({ name: "set_visible", args: { object_id: id, visible: pressed } });
    } else if (action === "locked") {
      void run({ name: "set_locked", args: { object_id: id, locked: !pressed } });
    } else if (action === "remove") {
      void run({ name: "remove_object", args: { object_id: id } });
      this.#host.takeFocus();
    } else if (action === "candidate") {
      void run({ name: "choose_candidate", args: { object_id: id, index: Number(control?.dataset.index) } });
      this.#host.takeFocus();
    } else if (action === "choose" || action === "drop") {
      const chip = target.closest<HTMLElement>(".sam3w-chip");
      const ref = chip === null ? null : refOf(chip);
      if (ref === null) return;
      if (action === "drop") editor.removePrompt(ref);
      else {
        editor.chosen = ref;
        editor.setDraft(null);
      }
      this.#host.takeFocus();
    }
  }

  #focused(event: FocusEvent): void {
    if (!(event.target instanceof HTMLInputElement)) return;
    const found = this.#rowOf(event);
    if (found !== null) this.#host.editor.select(found.id);
  }

  #labelled(event: Event): void {
    const found = this.#rowOf(event);
    if (found === null || !(event.target instanceof HTMLInputElement)) return;
    const label = event.target.value.trim();
    const { id, row } = found;
    // What is refused, or was the label already, leaves the field as it was.
    void this.#host.run({ name: "set_label", args: { object_id: id, label } }).then(() => row.resetLabel());
  }

  #labelKey(event: KeyboardEvent): void {
    if (!(event.target instanceof HTMLInputElement)) return;
    if (event.key !== "Enter" && event.key !== "Escape") return;
    if (event.key === "Escape") this.#rowOf(event)?.row.resetLabel(true);
    event.preventDefault();
    event.stopPropagation();
    // Losing the focus is what commits a changed field.
    this.#host.takeFocus();
  }
}

function refOf({ dataset }: HTMLElement): PromptRef | null {
  const id = Number(dataset.id);
  if (dataset.kind === "box") return { kind: "box", objectId: id };
  return dataset.kind === "point" || dataset.kind === "stroke" ? { kind: dataset.kind, id } : null;
}

function emptyText(state: State | null): string {
  if (state === null) return "Objects will be listed here.";
  const { points, boxes } = state.model.capabilities;
  if (points === false && boxes === false) return "Paint an object with the brush.";
  if (points === false) return "Drag a box around an object to begin.";
  return boxes === false
    ? "Click an object to begin."
    : "Click an object, or drag a box around it, to begin.";
}
