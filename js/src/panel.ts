/** The list of objects beside the canvas, with the details of the selected one. */

import type { Command } from "./commands";
import type { DrawnConcept } from "./concepts";
import { icon, node, setAttribute, setText } from "./dom";
import type { Editor } from "./editor";
import type { PromptRef } from "./markers";
import { button, Row, refOf } from "./row";
import {
  capitalized,
  isCancelled,
  nameOf,
  nameOfInstance,
  remarkOf,
  type State,
  sharedLabels,
} from "./state";

export interface PanelHost {
  editor: Editor;
  run(command: Command): Promise<unknown>;
  takeFocus(): void;
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
  #fresh = node("span", { class: "sam3w-new-text" }, "New object");
  #new = node(
    "button",
    {
      type: "button",
      class: "sam3w-button sam3w-new",
      "data-action": "new",
      "data-testid": "sam3w-new",
    },
    icon("plus"),
    this.#fresh,
  );
  #reset = button("reset", "Delete all objects and concepts", icon("trash"));

  constructor(host: PanelHost, settings: HTMLElement, signal: AbortSignal) {
    this.#host = host;
    this.#reset.dataset.testid = "sam3w-reset";
    this.element = node(
      "aside",
      { class: "sam3w-panel", "aria-label": "Objects" },
      node(
        "header",
        { class: "sam3w-panel-head" },
        node("span", { class: "sam3w-title" }, "Objects"),
        this.#count,
        node("span", { class: "sam3w-spring" }),
        this.#new,
        this.#reset,
      ),
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
    setText(this.#empty, emptyText(state, this.#host.editor.concepts.active));
    const what = this.#host.editor.label ?? "object";
    setText(this.#fresh, `New ${what}`);
    setAttribute(this.#new, "title", `New ${what} (M): the next click starts it`);
    const concepts = new Map(state?.concepts.map((concept) => [concept.concept_id, concept]));
    this.#reset.disabled = instances.length === 0 && concepts.size === 0;
    if (state !== null && state.classes !== this.#shownClasses) {
      this.#shownClasses = state.classes;
      this.#classes.replaceChildren(...state.classes.map((value) => node("option", { value })));
    }
    // First, for an element that is moved past one that goes loses the keyboard.
    const kept = new Set(instances.map(({ object_id }) => object_id));
    for (const id of this.#rows.keys()) if (!kept.has(id)) this.#drop(id);
    const shared = sharedLabels(instances);
    let shown: HTMLElement | null = null;
    let place = this.#list.firstElementChild;
    for (const instance of instances) {
      const id = instance.object_id;
      let row = this.#rows.get(id);
      if (row === undefined) {
        row = new Row(id, this.#classes.id);
        this.#rows.set(id, row);
      }
      if (row.element === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.element, place);
      const isSelected = id === selected;
      const changed = row.update({
        instance,
        name: nameOfInstance(instance, shared),
        selected: isSelected,
        chosen: isSelected ? chosen : null,
        concept: concepts.get(instance.concept_id ?? -1) ?? null,
      });
      if (changed && isSelected) shown = row.element;
    }
    if (shown !== null) this.#reveal(shown);
  }

  #drop(id: number): void {
    const element = this.#rows.get(id)?.element;
    this.#rows.delete(id);
    const focused = element?.querySelector(":focus") ?? null;
    element?.remove();
    if (focused !== null) this.#host.takeFocus();
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
      editor.startNewObject();
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

function emptyText(state: State | null, active: DrawnConcept | null): string {
  if (state === null) return "Objects will be listed here.";
  if (active?.pending) return `Looking for ${nameOf(active)}…`;
  const remark = active === null ? null : remarkOf(active);
  if (active !== null && remark !== null) {
    return isCancelled(active.error) ? `${nameOf(active)}: ${remark}` : remark;
  }
  const { points, boxes, text } = state.model.capabilities;
  const ways: string[] = [];
  if (text === true) ways.push("name a thing above");
  if (points !== false) ways.push("click an object");
  if (boxes !== false)
    ways.push(ways.length > 0 && points !== false ? "drag a box around it" : "drag a box around an object");
  if (ways.length === 0) return "Paint an object with the brush.";
  const [first = "", ...others] = ways;
  const last = others.pop();
  const start = capitalized(first);
  if (last === undefined) return `${start} to begin.`;
  return `${[start, ...others].join(", ")}, or ${last}, to begin.`;
}
