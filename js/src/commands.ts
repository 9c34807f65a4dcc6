/** The commands of the session, and what they make of the prompts until the kernel answers. */

import type { ImageStatus } from "./dataset";
import type { Box, Polarity, State } from "./state";
import { instanceOf } from "./state";

type Target = { object_id: number | null };
/** Without an id it is the active concept; where none is active, a new one. */
type ConceptTarget = { concept_id?: number };
type Drag = { gesture?: string };
/** The class of an object, or of what a concept finds, that the command starts. */
type Started = { label?: string };

export type Direction = "forward" | "backward" | "both";

export interface CommandArgs {
  add_point: Target & Started & { x: number; y: number; positive: boolean };
  move_point: { point_id: number; x: number; y: number };
  flip_point: { point_id: number };
  remove_point: { point_id: number };
  add_box: Target & Started & { box: Box };
  remove_box: { object_id: number };
  add_stroke: Target & Started & { path: [number, number][]; radius: number; positive: boolean };
  remove_stroke: { stroke_id: number };
  choose_candidate: { object_id: number; index: number };
  set_label: { object_id: number; label: string };
  set_visible: { object_id: number; visible: boolean };
  set_locked: { object_id: number; locked: boolean };
  remove_object: { object_id: number };
  select: { object_id: number | null };
  add_concept: { text: string };
  set_text: ConceptTarget & { text: string; at?: readonly [x: number, y: number] };
  remove_concept: { concept_id: number };
  select_concept: { concept_id: number | null };
  set_score_threshold: ConceptTarget & Drag & { value: number };
  add_exemplar: ConceptTarget & Started & { box: Box; positive: boolean };
  add_exemplar_point: ConceptTarget & Started & { x: number; y: number; positive: boolean };
  remove_exemplar: { exemplar_id: number };
  flip_exemplar: { exemplar_id: number };
  set_mask_threshold: Drag & { value: number };
  set_fill_holes: Drag & { area: number };
  set_min_area: Drag & { area: number };
  propagate: { direction: Direction; start: number | null; stop: number | null };
  go: { image_idx: number; ahead: number[] };
  decide: { image_idx: number; status: ImageStatus };
  apply_to_rest: Record<string, never>;
  undo: Record<string, never>;
  redo: Record<string, never>;
  reset: Record<string, never>;
}

export type CommandName = keyof CommandArgs;
export type Command = { [N in CommandName]: { name: N; args: CommandArgs[N] } }[CommandName];
export type AddCommand = Extract<Command, { name: "add_point" | "add_box" | "add_stroke" }>;
export type ShowCommand = Extract<Command, { name: "add_exemplar" | "add_exemplar_point" }>;

/** A command that the kernel has not answered. */
export interface Pending {
  key: string;
  command: Command;
  /** Key of the command whose new object or concept this one belongs to: it waits until that has an id. */
  after?: string;
  /** The frame of a clip, or the image of a data set, that it is for. */
  frame: number | null;
}

/** What the next prompt goes to, an object or a concept; `newFrom` names the pending command that makes it. */
export type Selection = number | null | { newFrom: string };

export interface DrawnPoint {
  pointId: number | null;
  x: number;
  y: number;
  label: Polarity;
  pending: boolean;
}

export interface DrawnStroke {
  path: readonly (readonly [number, number])[];
  radius: number;
  positive: boolean;
}

export interface Prompts {
  points: DrawnPoint[];
  box: { box: Box; pending: boolean } | null;
  /** Only strokes that wait for an answer: the others are in the mask. */
  strokes: DrawnStroke[];
}

function isAdd(command: Command): command is AddCommand {
  return command.name === "add_point" || command.name === "add_box" || command.name === "add_stroke";
}

export function isShow(command: Command): command is ShowCommand {
  return command.name === "add_exemplar" || command.name === "add_exemplar_point";
}

function aimed(command: AddCommand | ShowCommand, id: number | null): Command {
  if (!isShow(command)) return { ...command, args: { ...command.args, object_id: id } } as AddCommand;
  return id === null ? command : ({ ...command, args: { ...command.args, concept_id: id } } as ShowCommand);
}

/** These name the image that they are for, or are for all. */
const UNPLACED: ReadonlySet<CommandName> = new Set(["go", "decide", "apply_to_rest"]);

/** As the kernel is told: with the frame or the image that a person saw. */
export function placed(command: Command, as: "frame_idx" | "image_idx", index: number | null): object {
  const { name, args } = command;
  return { name, args: index === null || UNPLACED.has(name) ? args : { ...args, [as]: index } };
}

/** What is selected once the kernel has carried out everything asked of it so far. */
export function selectionOf(state: State | null, pending: Iterable<Pending>): Selection {
  let selection: Selection = state?.selected ?? null;
  for (const { key, command, after } of pending) {
    if (after !== undefined) continue;
    if (command.name === "select") selection = command.args.object_id;
    else if (isAdd(command)) selection = command.args.object_id ?? { newFrom: key };
    else if (command.name === "remove_object" && command.args.object_id === selection) selection = null;
    else if (command.name === "reset") selection = null;
  }
  return selection;
}

/** The prompts to draw for a selection: what the kernel confirmed, changed by what it was asked since. */
export function promptsOf(state: State | null, pending: Iterable<Pending>, selection: Selection): Prompts {
  const owner = typeof selection === "number" ? instanceOf(state, selection) : null;
  const points = new Map<number, DrawnPoint>();
  for (const [pointId, x, y, label] of owner?.points ?? []) {
    points.set(pointId, { pointId, x, y, label, pending: false });
  }
  const added: DrawnPoint[] = [];
  const strokes: DrawnStroke[] = [];
  let box = owner?.box ? { box: owner.box, pending: false } : null;
  const isOurs = (key: string, id: number | null, after: string | undefined) =>
    typeof selection === "object" && selection !== null
      ? key === selection.newFrom || after === selection.newFrom
      : id !== null && id === selection;
  for (const { key, command, after } of pending) {
    if (isAdd(command)) {
      if (!isOurs(key, command.args.object_id, after)) continue;
      if (command.name === "add_point") {
        const { x, y, positive } = command.args;
        added.push({ pointId: null, x, y, label: positive ? 1 : 0, pending: true });
      } else if (command.name === "add_box") {
        box = { box: command.args.box, pending: true };
      } else {
        strokes.push(command.args);
      }
    } else if (command.name === "move_point") {
      const { point_id, x, y } = command.args;
      const point = points.get(point_id);
      if (point) points.set(point_id, { ...point, x, y, pending: true });
    } else if (command.name === "flip_point") {
      const point = points.get(command.args.point_id);
      if (point) points.set(command.args.point_id, { ...point, label: point.label ? 0 : 1, pending: true });
    } else if (command.name === "remove_point") {
      points.delete(command.args.point_id);
    } else if (command.name === "remove_box" && command.args.object_id === selection) {
      box = null;
    }
  }
  return { points: [...points.values(), ...added], box, strokes };
}

export interface Answer {
  /** Ids of the instances in the answer, new ones last. */
  instances: number[];
  selected: number | null;
  /** The active concept. */
  concept: number | null;
}

/** Sends commands, remembers them until they are answered, and holds those that need an id yet to come. */
export class Commands {
  #pending = new Map<string, Pending>();
  #counter = 0;
  #send: (command: Command, frame: number | null) => Promise<Answer>;
  #onChange: () => void;
  #onError: (error: unknown) => void;
  #frame: () => number | null;

  /** `frame` is what is on the canvas, of a clip or a data set. */
  constructor(
    send: (command: Command, frame: number | null) => Promise<Answer>,
    onChange: () => void,
    onError: (error: unknown) => void,
    frame: () => number | null = () => null,
  ) {
    this.#send = send;
    this.#onChange = onChange;
    this.#onError = onError;
    this.#frame = frame;
  }

  get pending(): Iterable<Pending> {
    return this.#pending.values();
  }

  /** Those for what is on the canvas. */
  get here(): Pending[] {
    const frame = this.#frame();
    return [...this.#pending.values()].filter((each) => each.frame === frame);
  }

  get idle(): boolean {
    return this.#pending.size === 0;
  }

  /** Resolves to whether the kernel did it. */
  async run(command: Command): Promise<boolean> {
    return this.#dispatch(this.#key(), command, this.#frame());
  }

  /** Gives a prompt to the object, or the exemplar to the concept, also when that is only being made. */
  async add(command: AddCommand | ShowCommand, target: Selection): Promise<boolean> {
    if (target === null || typeof target === "number") return this.run(aimed(command, target));
    const key = this.#key();
    this.#pending.set(key, { key, command, after: target.newFrom, frame: this.#frame() });
    this.#onChange();
    return true;
  }

  #key(): string {
    return `c${++this.#counter}`;
  }

  async #dispatch(key: string, command: Command, frame: number | null): Promise<boolean> {
    this.#pending.set(key, { key, command, frame });
    this.#onChange();
    try {
      const answer = await this.#send(command, frame);
      this.#pending.delete(key);
      this.#release(key, answer);
      return true;
    } catch (error) {
      this.#pending.delete(key);
      for (const held of [...this.#pending.values()]) {
        if (held.after === key) this.#pending.delete(held.key);
      }
      this.#onError(error);
      return false;
    } finally {
      this.#onChange();
    }
  }

  #release(key: string, { selected, instances, concept }: Answer): void {
    const objectId = selected ?? instances.at(-1) ?? null;
    for (const held of [...this.#pending.values()]) {
      const { command } = held;
      if (held.after !== key || !(isAdd(command) || isShow(command))) continue;
      const id = isAdd(command) ? objectId : concept;
      this.#pending.delete(held.key);
      void this.#dispatch(held.key, aimed(command, id), held.frame);
      // Without an id each would make one of its own; the first makes it, the others wait for it.
      if (id === null) {
        for (const other of this.#pending.values()) if (other.after === key) other.after = held.key;
        return;
      }
    }
  }
}

/** One drag of a slider: at most one request is out, and of the values that wait only the newest is sent. */
export class Throttle<T> {
  #send: (value: T) => Promise<unknown>;
  #next: { value: T } | null = null;
  #busy = false;

  constructor(send: (value: T) => Promise<unknown>) {
    this.#send = send;
  }

  get busy(): boolean {
    return this.#busy;
  }

  push(value: T): void {
    this.#next = { value };
    if (!this.#busy) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    try {
      while (this.#next !== null) {
        const { value } = this.#next;
        this.#next = null;
        await this.#send(value);
      }
    } finally {
      this.#busy = false;
    }
  }
}
