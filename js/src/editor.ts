/** What a person is doing in this view: tool, cursor, chosen prompt; and what the acts ask of the kernel. */

import {
  type AddCommand,
  type Command,
  type Commands,
  type Prompts,
  promptsOf,
  selectionOf,
} from "./commands";
import type { Connection } from "./connection";
import type { Intents, Tool } from "./gestures";
import { boxOf, hitPrompt, type PromptRef, type Target } from "./markers";
import type { Draft } from "./stage";
import { type Box, type Instance, instanceOf, topmostAt } from "./state";
import { type Path, simplify } from "./strokes";
import type { Spot, Viewport } from "./viewport";

export interface EditorHost {
  /** Says something in words, in the status bar and to a screen reader. */
  say(message: string): void;
  changed(): void;
  moved(): void;
  hasFocus(): boolean;
  takeFocus(): void;
}

export class Editor implements Intents {
  tool: Tool = "point";
  positive = true;
  radius = 12;
  chosen: PromptRef | null = null;
  draft: Draft | null = null;
  hovered: Spot | null = null;
  /** Image position of the keyboard's cursor; null until an arrow key is used. */
  cursor: Spot | null = null;
  #pointer: Spot = { x: -1, y: -1 };
  #corner: Spot | null = null;
  #stroke: { path: Path; positive: boolean } | null = null;
  #connection: Connection;
  #commands: Commands;
  #viewport: Viewport;
  #host: EditorHost;

  constructor(connection: Connection, commands: Commands, viewport: Viewport, host: EditorHost) {
    this.#connection = connection;
    this.#commands = commands;
    this.#viewport = viewport;
    this.#host = host;
  }

  get #state() {
    return this.#connection.state;
  }

  get selection() {
    return selectionOf(this.#state, this.#commands.pending);
  }

  /** The selected instance, once it has an id. */
  get selected(): Instance | null {
    const { selection } = this;
    return typeof selection === "number" ? instanceOf(this.#state, selection) : null;
  }

  get prompts(): Prompts {
    return promptsOf(this.#state, this.#commands.pending, this.selection);
  }

  get canClick(): boolean {
    return this.#state?.model.capabilities.points !== false;
  }

  get canDrawBoxes(): boolean {
    return this.#state?.model.capabilities.boxes !== false;
  }

  /** The chosen prompt may be gone: undone, or removed in another view. */
  refresh(): void {
    const { chosen, selected } = this;
    if (chosen === null) return;
    const there =
      chosen.kind === "point"
        ? selected?.points.some(([id]) => id === chosen.id)
        : chosen.kind === "stroke"
          ? selected?.strokes.some(([id]) => id === chosen.id)
          : selected?.object_id === chosen.objectId && selected.box !== null;
    if (!there) this.chosen = null;
  }

  // What the pointer means.

  hit(css: Spot): Target | null {
    return hitPrompt(this.prompts, this.selected?.object_id ?? null, this.#viewport, css);
  }

  click(at: Spot, positive: boolean): void {
    if (this.tool === "box") return this.#setCorner(at);
    if (!this.#live()) return;
    if (!this.canClick) return this.#host.say(this.#advice("points"));
    this.#add({ name: "add_point", args: { ...round(at), positive, object_id: null } }, at, positive);
  }

  pick(at: Spot): void {
    if (this.#state === null) return;
    const found = topmostAt(this.#state, at.x, at.y);
    if (found === null) return this.#host.say("There is no object here to select.");
    this.select(found.object_id);
  }

  choose(target: Target): void {
    this.chosen = target.kind === "point" ? target : { kind: "box", objectId: target.objectId };
    this.#host.changed();
  }

  movePoint(pointId: number, to: Spot): void {
    this.#run({ name: "move_point", args: { point_id: pointId, ...round(to) } });
  }

  addBox(box: Box): void {
    if (!this.#live()) return;
    if (!this.canDrawBoxes) return this.#host.say(this.#advice("boxes"));
    this.#add({ name: "add_box", args: { box: roundBox(box), object_id: null } }, null, true);
  }

  changeBox(objectId: number, box: Box): void {
    this.#run({ name: "add_box", args: { box: roundBox(box), object_id: objectId } });
  }

  stroke(path: Path, positive: boolean): void {
    const first = path[0];
    if (first === undefined || !this.#live()) return;
    const slim = simplify(path, 0.35 / this.#viewport.scale);
    this.#add(
      { name: "add_stroke", args: { path: slim, radius: this.radius, positive, object_id: null } },
      { x: first[0], y: first[1] },
      positive,
    );
  }

  setDraft(draft: Draft | null): void {
    this.draft = draft;
    this.#host.changed();
  }

  hover(css: Spot | null): void {
    this.hovered = css === null ? null : this.#viewport.toImage(css.x, css.y);
    // Browsers repeat a resting pointer's place after a layout; that must not take the keyboard's cursor away.
    const { x, y } = css ?? this.#pointer;
    if (x !== this.#pointer.x || y !== this.#pointer.y) this.cursor = null;
    this.#pointer = { x, y };
    if (this.#corner !== null && this.hovered !== null) this.#draftFrom(this.#viewport.clamp(this.hovered));
    this.#host.changed();
  }

  moved(): void {
    this.#host.moved();
  }

  hasFocus(): boolean {
    return this.#host.hasFocus();
  }

  takeFocus(): void {
    this.#host.takeFocus();
  }

  hintWheel(): void {
    this.#host.say("Click the image, or hold Ctrl, to zoom");
  }

  // What keys and buttons mean.

  setTool(tool: Tool, positive: boolean): void {
    this.#drop();
    this.tool = tool;
    this.positive = positive;
    this.#host.changed();
  }

  /** Of the chosen marker if there is one, else of the next clicks. */
  flip(): void {
    if (this.chosen?.kind === "point") {
      return this.#run({ name: "flip_point", args: { point_id: this.chosen.id } });
    }
    this.positive = !this.positive;
    const what =
      this.tool === "brush" ? ["Brush paints", "Brush erases"] : ["Clicks include", "Clicks exclude"];
    this.#host.say(what[this.positive ? 0 : 1] ?? "");
    this.#host.changed();
  }

  /** A brush that suits the picture, until a person chooses another. */
  startWith(width: number, height: number): void {
    this.#drop();
    this.chosen = null;
    this.cursor = null;
    const fine = Math.max(3, Math.max(width, height) / 80);
    this.radius = Math.max(1, Math.round(Math.min(fine, Math.min(width, height) / 4)));
  }

  setRadius(radius: number): void {
    this.radius = Math.max(0.5, Math.min(500, radius));
    this.#host.changed();
  }

  resizeBrush(grow: boolean): void {
    const step = Math.max(1, Math.round(this.radius * 0.2));
    this.setRadius(Math.max(1, Math.round(this.radius + (grow ? step : -step))));
    this.#host.say(`Brush radius ${this.radius} px`);
  }

  select(objectId: number | null): void {
    this.chosen = null;
    if (this.selection !== objectId) this.#run({ name: "select", args: { object_id: objectId } });
  }

  startNew(): void {
    this.select(null);
    this.#host.say("The next click starts a new object");
  }

  /** Returns false when there is nothing to step through. */
  step(forward: boolean): boolean {
    const list = this.#state?.instances ?? [];
    if (list.length === 0) return false;
    const { selection } = this;
    const at = list.findIndex((instance) => instance.object_id === selection);
    const next =
      at < 0 ? (forward ? 0 : list.length - 1) : (at + (forward ? 1 : -1) + list.length) % list.length;
    const instance = list[next];
    if (instance) this.select(instance.object_id);
    return true;
  }

  nextCandidate(): void {
    const { selected } = this;
    const count = selected?.candidates.length ?? 0;
    if (selected === null || count < 2) return this.#host.say("This object has no other candidates.");
    const index = (selected.candidate + 1) % count;
    this.#run({ name: "choose_candidate", args: { object_id: selected.object_id, index } });
  }

  setClass(index: number): void {
    const { selected } = this;
    const label = this.#state?.classes[index];
    if (label === undefined) return this.#host.say(`There is no class ${index + 1}.`);
    if (selected === null) return this.#host.say("Select an object to give it a class.");
    this.#run({ name: "set_label", args: { object_id: selected.object_id, label } });
    this.#host.say(`Class: ${label}`);
  }

  toggleVisible(): void {
    const { selected } = this;
    if (selected === null) return this.#host.say("Select an object to hide or show it.");
    this.#run({ name: "set_visible", args: { object_id: selected.object_id, visible: !selected.visible } });
  }

  toggleLocked(): void {
    const { selected } = this;
    if (selected === null) return this.#host.say("Select an object to lock or unlock it.");
    this.#run({ name: "set_locked", args: { object_id: selected.object_id, locked: !selected.locked } });
  }

  removePrompt(prompt: PromptRef): void {
    this.chosen = null;
    if (prompt.kind === "point") this.#run({ name: "remove_point", args: { point_id: prompt.id } });
    else if (prompt.kind === "box") this.#run({ name: "remove_box", args: { object_id: prompt.objectId } });
    else this.#run({ name: "remove_stroke", args: { stroke_id: prompt.id } });
  }

  /** The chosen prompt, else the selected instance. */
  remove(): void {
    const { selected, chosen } = this;
    if (chosen !== null) return this.removePrompt(chosen);
    if (selected === null) return this.#host.say("Select an object or a prompt to delete it.");
    this.#run({ name: "remove_object", args: { object_id: selected.object_id } });
  }

  undo(): void {
    if (this.#state?.history.undo != null || !this.#commands.idle) this.#run({ name: "undo", args: {} });
    else this.#host.say("There is nothing to undo.");
  }

  redo(): void {
    if (this.#state?.history.redo != null || !this.#commands.idle) this.#run({ name: "redo", args: {} });
    else this.#host.say("There is nothing to redo.");
  }

  /** One level back: drawing, prompt, object. Returns false when there is nothing left to leave. */
  back(): boolean {
    if (this.#drop()) return true;
    if (this.chosen !== null) {
      this.chosen = null;
      this.#host.changed();
      return true;
    }
    if (this.selection === null) return false;
    this.select(null);
    return true;
  }

  // The keyboard's cursor.

  moveCursor(dx: number, dy: number, fast: boolean): void {
    const { viewport } = this;
    // One pixel of the picture, or of the screen where that is larger.
    const step = Math.max(1, Math.round(1 / viewport.scale)) * (fast ? 10 : 1);
    const from = this.cursor ?? this.#startingSpot();
    this.cursor = viewport.clamp({ x: from.x + dx * step, y: from.y + dy * step });
    if (this.#corner !== null) this.#draftFrom(this.cursor);
    if (this.#stroke !== null) {
      this.#stroke.path.push([this.cursor.x, this.cursor.y]);
      this.#showStroke();
    }
    viewport.reveal(this.cursor);
    this.#host.moved();
  }

  enter(against: boolean): void {
    if (this.cursor === null) {
      this.cursor = this.#startingSpot();
      return this.#host.changed();
    }
    const positive = against ? false : this.positive;
    if (this.tool !== "brush") return this.click(this.cursor, positive);
    if (this.#stroke === null) {
      this.#stroke = { path: [[this.cursor.x, this.cursor.y]], positive };
      this.#showStroke();
      return this.#host.say("Stroke begun: arrow keys paint, Enter ends it");
    }
    const { path } = this.#stroke;
    const kind = this.#stroke.positive;
    this.#drop();
    this.stroke(path, kind);
  }

  zoom(factor: number): void {
    const { viewport } = this;
    const about = this.cursor ?? this.hovered;
    const at =
      about === null ? { x: viewport.width / 2, y: viewport.height / 2 } : viewport.toCss(about.x, about.y);
    viewport.zoomAt(at.x, at.y, factor);
    this.#host.moved();
  }

  fit(): void {
    this.#viewport.fit();
    this.#host.moved();
  }

  get viewport(): Viewport {
    return this.#viewport;
  }

  /** Where the pointer last was, else the middle of what is in view. */
  #startingSpot(): Spot {
    if (this.hovered !== null && this.#viewport.contains(this.hovered)) return this.hovered;
    const { x1, y1, x2, y2 } = this.#viewport.visible();
    return this.#viewport.clamp({ x: Math.floor((x1 + x2) / 2) + 0.5, y: Math.floor((y1 + y2) / 2) + 0.5 });
  }

  /** Two corners make a box, for those who do not drag. */
  #setCorner(at: Spot): void {
    if (!this.canDrawBoxes) return this.#host.say(this.#advice("boxes"));
    if (this.#corner === null) {
      this.#corner = at;
      this.#draftFrom(at);
      return this.#host.say("First corner set: now the opposite one");
    }
    const box = boxOf(this.#corner, at);
    this.#drop();
    if (box[2] - box[0] < 1 || box[3] - box[1] < 1) return this.#host.say("The box has no area.");
    this.addBox(box);
  }

  #draftFrom(to: Spot): void {
    if (this.#corner !== null) this.draft = { kind: "box", box: boxOf(this.#corner, to) };
    this.#host.changed();
  }

  #showStroke(): void {
    if (this.#stroke === null) return;
    this.draft = { kind: "stroke", radius: this.radius, ...this.#stroke };
    this.#host.changed();
  }

  /** Gives up what is half drawn. */
  #drop(): boolean {
    const had = this.#corner !== null || this.#stroke !== null;
    this.#corner = null;
    this.#stroke = null;
    this.draft = null;
    this.#host.changed();
    return had;
  }

  /** A prompt that takes away needs something to take away from. */
  #add(command: AddCommand, at: Spot | null, positive: boolean): void {
    let target = this.selection;
    if (target === null && !positive && at !== null && this.#state !== null) {
      target = topmostAt(this.#state, at.x, at.y)?.object_id ?? null;
      if (target === null) {
        return this.#host.say("Nothing to exclude here: select an object, or click on one.");
      }
    }
    this.chosen = null;
    void this.#commands.add(command, target);
  }

  #run(command: Command): void {
    if (this.#live()) void this.#commands.run(command);
  }

  #live(): boolean {
    if (this.#state !== null) return true;
    this.#host.say("No kernel has answered yet: this is a view only.");
    return false;
  }

  #advice(capability: "points" | "boxes"): string {
    return this.#state?.model.advice[capability] ?? `This model takes no ${capability}.`;
  }
}

/** A hundredth of a pixel is finer than any model. Downwards, to stay in the pixel; 72.5 may come as 72.4999999. */
const hundredth = (value: number) => Math.floor(value * 100 + 1e-4) / 100;

function round({ x, y }: Spot): Spot {
  return { x: hundredth(x), y: hundredth(y) };
}

function roundBox(box: Box): Box {
  return [hundredth(box[0]), hundredth(box[1]), hundredth(box[2]), hundredth(box[3])];
}
