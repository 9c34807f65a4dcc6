/** What a person is doing in this view: tool, cursor, chosen prompt; and what the acts ask of the kernel. */

import {
  type AddCommand,
  type Command,
  type Commands,
  type Prompts,
  promptsOf,
  type Selection,
  type ShowCommand,
  selectionOf,
} from "./commands";
import { ConceptEditor, type Mode } from "./concepteditor";
import { hitExemplar } from "./exemplars";
import type { Intents, Tool } from "./gestures";
import { hitPrompt, type PromptRef, type Target } from "./markers";
import { Pen } from "./pen";
import type { Draft } from "./stage";
import {
  type Box,
  type Instance,
  instanceOf,
  nameOfInstance,
  type Seen,
  sharedLabels,
  topmostAt,
} from "./state";
import { type Path, simplify } from "./strokes";
import { round, roundBox, type Spot, type Viewport } from "./viewport";

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
  readonly concepts: ConceptEditor;
  #pen: Pen;
  #pointer: Spot = { x: -1, y: -1 };
  /** The concept whose finds stand out, while a person points at its chip. */
  lit: number | null = null;
  /** The class of objects to come; null: none. */
  label: string | null = null;
  /** The next click starts an object, whatever is there: it was asked for. */
  #fresh = false;
  #seen: Seen;
  #commands: Commands;
  #viewport: Viewport;
  #host: EditorHost;

  constructor(seen: Seen, commands: Commands, viewport: Viewport, host: EditorHost) {
    this.#seen = seen;
    this.#commands = commands;
    this.#viewport = viewport;
    this.#host = host;
    this.#pen = new Pen(viewport, this);
    this.concepts = new ConceptEditor(seen, commands, host);
  }

  get #state() {
    return this.#seen.state;
  }

  get selection() {
    // Objects of a clip are the same on each frame, those of another image are others.
    const { here, pending } = this.#commands;
    return selectionOf(this.#state, this.#state?.image_idx === undefined ? pending : here);
  }

  get away(): boolean {
    return this.#seen.away === true;
  }

  /** The selected instance, once it has an id. */
  get selected(): Instance | null {
    const { selection } = this;
    return typeof selection === "number" ? instanceOf(this.#state, selection) : null;
  }

  get prompts(): Prompts {
    return promptsOf(this.#state, this.#commands.here, this.selection);
  }

  get #showing(): boolean {
    return this.concepts.mode === "concept";
  }

  /** Image position of the keyboard's cursor while it is in use. */
  get cursor(): Spot | null {
    return this.#pen.cursor;
  }

  get canClick(): boolean {
    return this.#state?.model.capabilities.points !== false;
  }

  get canDrawBoxes(): boolean {
    return this.#showing || this.#state?.model.capabilities.boxes !== false;
  }

  /** The chosen prompt may be gone: undone, or removed in another view. */
  refresh(): void {
    if (this.selection !== null) this.#fresh = false;
    if (this.label !== null && !this.#state?.classes.includes(this.label)) this.label = null;
    const { chosen, selected } = this;
    if (chosen !== null && !this.#isThere(chosen, selected)) this.chosen = null;
  }

  #isThere(prompt: PromptRef, selected: Instance | null): boolean {
    if (prompt.kind === "point") return selected?.points.some(([id]) => id === prompt.id) ?? false;
    if (prompt.kind === "stroke") return selected?.strokes.some(([id]) => id === prompt.id) ?? false;
    if (prompt.kind === "box") return selected?.object_id === prompt.objectId && selected.box !== null;
    return this.concepts.active?.exemplars.some(({ exemplarId }) => exemplarId === prompt.id) ?? false;
  }

  // What the pointer means.

  hit(css: Spot): Target | null {
    const prompt = this.#showing
      ? null
      : hitPrompt(this.prompts, this.selected?.object_id ?? null, this.#viewport, css);
    if (prompt !== null) return prompt;
    // The edge of an exemplar runs along what a click in object mode is for.
    const exemplars = this.concepts.active?.exemplars ?? [];
    const id = hitExemplar(exemplars, this.#viewport, css, this.#showing);
    return id === null ? null : { kind: "exemplar", id };
  }

  click(at: Spot, positive: boolean): void {
    if (this.tool === "box") return this.#pen.corner(at, positive);
    if (!this.#live()) return;
    if (!this.canClick) return this.#host.say(this.#advice("points"));
    if (this.#showing) {
      this.chosen = null;
      return this.#show({ name: "add_exemplar_point", args: { ...round(at), positive } });
    }
    const there = positive && !this.#fresh ? this.#objectAt(at) : null;
    if (there !== null && this.selection === null) return this.select(there.object_id);
    const { selected } = this;
    const other = selected?.mask?.contains(at.x, at.y) || selected === there ? null : there;
    if (selected !== null && other !== null && isSibling(other, selected)) {
      this.select(other.object_id);
      return this.#host.say(`Selected ${this.#nameOf(other)}: click where it is wrong`);
    }
    this.#add({ name: "add_point", args: { ...round(at), positive, object_id: null } }, at, positive);
    if (selected === null || selected.locked || other === null) return;
    this.#host.say(`Added to ${this.#nameOf(selected)}. Ctrl+click selects ${this.#nameOf(other)}.`);
  }

  pick(at: Spot): void {
    if (this.#state === null) return;
    const found = topmostAt(this.#state, at.x, at.y);
    if (found === null) return this.#host.say("There is no object here to select.");
    this.select(found.object_id);
  }

  choose(target: Target): void {
    this.chosen =
      target.kind === "box"
        ? { kind: "box", objectId: target.objectId }
        : { kind: target.kind, id: target.id };
    this.#host.changed();
  }

  movePoint(pointId: number, to: Spot): void {
    this.#run({ name: "move_point", args: { point_id: pointId, ...round(to) } });
  }

  drawBox(box: Box, positive: boolean): boolean {
    const refused = this.#refusalOfBox(positive);
    if (refused === null) this.setDraft({ kind: this.#showing ? "exemplar" : "box", box, positive });
    else this.#host.say(refused);
    return refused === null;
  }

  addBox(box: Box, positive: boolean): void {
    if (!this.#live()) return;
    const refused = this.#refusalOfBox(positive);
    if (refused !== null) return this.#host.say(refused);
    this.chosen = null;
    if (this.#showing) this.#show({ name: "add_exemplar", args: { box: roundBox(box), positive } });
    else this.#add({ name: "add_box", args: { box: roundBox(box), object_id: null } }, null, true);
  }

  /** The kernel has no box that excludes a part of one object: what cannot be meant is not taken for another. */
  #refusalOfBox(positive: boolean): string | null {
    if (this.#showing) return this.concepts.refusal(positive);
    if (!this.canDrawBoxes) return this.#advice("boxes");
    if (positive) return null;
    return this.concepts.canShow
      ? "A box of one object can only include. To exclude things like this, switch to concept mode (C) and right-drag."
      : "A box of one object can only include. Right-click what it should not hold.";
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

  say(message: string): void {
    this.#host.say(message);
  }

  setDraft(draft: Draft | null): void {
    this.draft = draft;
    this.#host.changed();
  }

  hover(css: Spot | null): void {
    this.hovered = css === null ? null : this.#viewport.toImage(css.x, css.y);
    // Browsers repeat a resting pointer's place after a layout; that must not take the keyboard's cursor away.
    const { x, y } = css ?? this.#pointer;
    if (x !== this.#pointer.x || y !== this.#pointer.y) this.#pen.cursor = null;
    this.#pointer = { x, y };
    if (this.hovered !== null) this.#pen.follow(this.#viewport.clamp(this.hovered));
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

  /** The brush is for single objects. */
  setTool(tool: Tool, positive: boolean): void {
    this.#pen.drop();
    this.tool = tool;
    this.positive = positive;
    if (tool === "brush") this.concepts.setMode("object");
    this.#host.changed();
  }

  setMode(mode: Mode): void {
    if (!this.concepts.setMode(mode)) return;
    this.#pen.drop();
    this.chosen = null;
    this.#fresh = false;
    if (mode === "concept" && this.tool === "brush") this.setTool("point", true);
  }

  activate(conceptId: number | null): void {
    this.chosen = null;
    this.concepts.activate(conceptId);
  }

  light(conceptId: number | null): void {
    if (conceptId === this.lit) return;
    this.lit = conceptId;
    this.#host.changed();
  }

  chooseExemplar(id: number): void {
    this.choose({ kind: "exemplar", id });
  }

  toggleMode(): void {
    this.setMode(this.#showing ? "object" : "concept");
  }

  /** Of the chosen marker if there is one, else of the next clicks. */
  flip(): void {
    if (this.chosen?.kind === "point") {
      return this.#run({ name: "flip_point", args: { point_id: this.chosen.id } });
    }
    if (this.chosen?.kind === "exemplar") return this.concepts.flipExemplar(this.chosen.id);
    this.positive = !this.positive;
    const what = this.tool === "brush" ? ["Brush paints", "Brush erases"] : this.#polarities();
    this.#host.say(what[this.positive ? 0 : 1] ?? "");
    this.#host.changed();
  }

  #polarities(): string[] {
    const what = this.#showing ? "Clicks and boxes" : "Clicks";
    return [`${what} include`, `${what} exclude`];
  }

  /** Another frame or image: what was being drawn was meant for the one before. */
  turn(): void {
    this.#pen.drop();
    this.chosen = null;
    this.draft = null;
    // Pictures differ in size.
    const { cursor } = this.#pen;
    if (cursor !== null && !this.#viewport.contains(cursor)) this.#pen.cursor = null;
    if (this.hovered !== null) this.hovered = this.#viewport.toImage(this.#pointer.x, this.#pointer.y);
  }

  /** A brush that suits the picture, until a person chooses another. */
  startWith(width: number, height: number): void {
    this.#pen.drop();
    this.#pen.cursor = null;
    this.chosen = null;
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
    this.#fresh = false;
    if (this.selection !== objectId) this.#run({ name: "select", args: { object_id: objectId } });
  }

  /** Of what clicks are for: an object, or in concept mode a concept. */
  startNew(): void {
    if (this.#showing) return this.concepts.startNew();
    this.select(null);
    this.#fresh = true;
    this.#host.say("The next click starts a new object");
  }

  startNewObject(): void {
    this.setMode("object");
    this.startNew();
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
    if (selected === null) return this.#setActive(label);
    this.#run({ name: "set_label", args: { object_id: selected.object_id, label } });
    this.#host.say(`Class: ${label}`);
  }

  /** Of objects to come; a second time takes it back. In a clip there are few, each of which is named for itself. */
  #setActive(label: string): void {
    const isClip = this.#state?.frame_idx !== undefined;
    if (isClip || this.selection !== null) return this.#host.say("Select an object to give it a class.");
    this.label = this.label === label ? null : label;
    this.#host.say(this.label === null ? "New objects have no class" : `New objects are: ${label}`);
    this.#host.changed();
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
    else if (prompt.kind === "exemplar") this.concepts.removeExemplar(prompt.id);
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

  /** One level back: drawing, prompt, concept mode, object. Returns false when there is nothing left to leave. */
  back(): boolean {
    this.#fresh = false;
    if (this.#pen.drop()) return true;
    if (this.chosen !== null) {
      this.chosen = null;
      this.#host.changed();
      return true;
    }
    if (this.concepts.setMode("object")) return true;
    if (this.selection === null) return false;
    this.select(null);
    return true;
  }

  // The keyboard's cursor.

  moveCursor(dx: number, dy: number, fast: boolean): void {
    this.#pen.move(dx, dy, fast);
    this.#host.moved();
  }

  enter(against: boolean): void {
    if (this.away) return;
    this.#pen.enter(against);
    this.#host.changed();
  }

  zoom(factor: number): void {
    const viewport = this.#viewport;
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

  /** A prompt that takes away needs something to take away from. */
  #add(command: AddCommand, at: Spot | null, positive: boolean): void {
    let target = this.selection;
    if (target === null && !positive && at !== null && this.#state !== null) {
      // A locked one says itself that it is locked.
      target = (this.#objectAt(at) ?? topmostAt(this.#state, at.x, at.y))?.object_id ?? null;
      if (target === null) {
        return this.#host.say("Nothing to exclude here: select an object, or click on one.");
      }
    }
    this.chosen = null;
    this.#fresh = false;
    void this.#commands.add(this.#labelled(command, target), target);
  }

  #show(command: ShowCommand): void {
    this.concepts.show(this.#labelled(command, this.concepts.now.target));
  }

  /** What starts an object or a concept says what it is. */
  #labelled<C extends AddCommand | ShowCommand>(command: C, target: Selection): C {
    if (this.label === null || typeof target === "number") return command;
    return { ...command, args: { ...command.args, label: this.label } };
  }

  /** What a click here can change. */
  #objectAt({ x, y }: Spot): Instance | null {
    return this.#state === null ? null : topmostAt(this.#state, x, y, true);
  }

  #nameOf(instance: Instance): string {
    return nameOfInstance(instance, sharedLabels(this.#state?.instances ?? []));
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

function isSibling(a: Instance, b: Instance): boolean {
  return a.concept_id !== null && a.concept_id === b.concept_id;
}
