/** The kernel's state as this view knows it, and how messages change it. */

import { Mask } from "./codec";

export type Buffer = ArrayBuffer | ArrayBufferView;
export type Polarity = 0 | 1;
export type Box = readonly [x1: number, y1: number, x2: number, y2: number];
export type PointTuple = readonly [pointId: number, x: number, y: number, label: Polarity];
export type StrokeTuple = readonly [strokeId: number, label: Polarity];
export type Capability = "points" | "boxes" | "mask_prompt" | "text" | "exemplars" | "video";

export interface Exemplar {
  exemplar_id: number;
  positive: Polarity;
  /** Null until the mask of the click that made it is known. */
  box: Box | null;
  /** Where it was clicked; null for a box that was drawn. */
  point: readonly [x: number, y: number] | null;
}

/** What stands for every matching thing: words, exemplars, or both. */
export interface Concept {
  concept_id: number;
  /** Empty: the exemplars alone say it. */
  text: string;
  color: string;
  count: number;
  /** How likely there is any, 0 to 1; null before the first answer. */
  presence: number | null;
  score_threshold: number;
  pending: boolean;
  error: string | null;
  note: string | null;
  /** The click that says that only this one is meant. */
  at: readonly [x: number, y: number] | null;
  exemplars: readonly Exemplar[];
  /** Of a clip: the frame that it was asked on, where that is not the one shown. */
  frame_idx?: number;
  /** Counts the concepts without words where there are several; the kernel does not tell it. */
  nth?: number | null;
}

interface InstanceFields {
  object_id: number;
  label: string;
  color: string;
  score: number | null;
  area: number | null;
  bbox: Box | null;
  visible: boolean;
  locked: boolean;
  pending: boolean;
  error: string | null;
  candidate: number;
  candidates: readonly number[];
  points: readonly PointTuple[];
  box: Box | null;
  strokes: readonly StrokeTuple[];
  imported: boolean;
  /** The concept that found it. */
  concept_id: number | null;
  /** With the true mask, where there is one. */
  iou?: number;
  /** What is worth knowing about its answer. */
  note: string | null;
}

/** A kernel that knows no concepts leaves out what belongs to them. */
type Later<Fields, Names extends keyof Fields> = Omit<Fields, Names> & Partial<Pick<Fields, Names>>;

export interface WireInstance extends Later<InstanceFields, "concept_id" | "note"> {
  /** Index of a buffer; null: no mask; absent: the mask it has. */
  mask?: number | null;
}

export interface Instance extends InstanceFields {
  mask: Mask | null;
}

export interface Settings {
  mask_threshold: number;
  fill_holes: number;
  min_area: number;
  /** Of concepts to come. */
  score_threshold?: number;
}

export interface Status {
  phase: "idle" | "encoding" | "detecting" | "refining" | "propagating";
  fraction: number | null;
  seconds_left?: number;
  cancellable: boolean;
}

interface Shared {
  image: { key: string; name: string; width: number; height: number };
  model: {
    name: string;
    capabilities: Partial<Record<Capability, boolean>>;
    advice: Partial<Record<Capability, string>>;
  };
  selected: number | null;
  concepts: readonly Concept[];
  /** The active concept. */
  concept: number | null;
  classes: readonly string[];
  settings: Settings;
  history: { undo: string | null; redo: string | null };
  status: Status;
  /** Of a clip: which frame this is. */
  frame_idx?: number;
  /** Of a data set: which image this is. */
  image_idx?: number;
}

export interface WireState extends Later<Shared, "concepts" | "concept"> {
  instances: WireInstance[];
}

export interface State extends Shared {
  instances: readonly Instance[];
}

export interface Patch {
  base: number;
  set?: Partial<Shared>;
  instances?: WireInstance[];
  removed?: number[];
  order?: number[];
}

/** Whoever knows what there is to see. */
export interface Seen {
  readonly state: State | null;
  /** Whether it is about to be another image: what the pointer does now could be meant for either. */
  readonly away?: boolean;
}

export type PatchResult = { kind: "applied"; state: State } | { kind: "stale" } | { kind: "mismatch" };

function toInstance(wire: WireInstance, known: Instance | undefined, buffers: readonly Buffer[]): Instance {
  const told = { concept_id: null, note: null, ...wire };
  if (wire.mask === undefined) return { ...told, mask: known?.mask ?? null };
  if (wire.mask === null) return { ...told, mask: null };
  const buffer = buffers[wire.mask];
  if (buffer === undefined) {
    throw new Error(`object ${wire.object_id} names mask buffer ${wire.mask}, but ${buffers.length} came`);
  }
  return { ...told, mask: Mask.decode(buffer) };
}

export function fromSnapshot(payload: WireState, buffers: readonly Buffer[]): State {
  return {
    concepts: [],
    concept: null,
    ...payload,
    ...(payload.concepts && { concepts: numbered(payload.concepts) }),
    instances: payload.instances.map((wire) => toInstance(wire, undefined, buffers)),
  };
}

/** Instances that a patch does not name keep their identity, so that whoever draws them can skip them. */
export function applyPatch(
  state: State,
  ours: number,
  rev: number,
  patch: Patch,
  buffers: readonly Buffer[],
): PatchResult {
  if (rev <= ours) return { kind: "stale" };
  if (patch.base !== ours) return { kind: "mismatch" };
  const instances = new Map(state.instances.map((instance) => [instance.object_id, instance]));
  for (const wire of patch.instances ?? []) {
    instances.set(wire.object_id, toInstance(wire, instances.get(wire.object_id), buffers));
  }
  for (const id of patch.removed ?? []) instances.delete(id);
  let list = [...instances.values()];
  if (patch.order) {
    const place = new Map(patch.order.map((id, index) => [id, index]));
    const at = (instance: Instance) => place.get(instance.object_id) ?? place.size;
    list = list.sort((a, b) => at(a) - at(b));
  }
  const set = patch.set?.concepts ? { ...patch.set, concepts: numbered(patch.set.concepts) } : patch.set;
  return { kind: "applied", state: { ...state, ...set, instances: list } };
}

export function instanceOf(state: State | null, id: number | null): Instance | null {
  return state?.instances.find((instance) => instance.object_id === id) ?? null;
}

/** The visible instance that a person sees at a place: what is drawn on top of the others. */
export function topmostAt(state: State, x: number, y: number, unlocked = false): Instance | null {
  let found: Instance | null = null;
  for (const instance of drawOrder(state)) {
    if (instance.mask?.contains(x, y) && !(unlocked && instance.locked)) found = instance;
  }
  return found;
}

/** Tells concepts without words apart, where there are several. */
export function numbered<C extends Pick<Concept, "text" | "nth">>(concepts: readonly C[]): readonly C[] {
  let count = concepts.filter(({ text }) => text === "").length;
  if (count < 2) return concepts;
  count = 0;
  return concepts.map((concept) => (concept.text === "" ? { ...concept, nth: ++count } : concept));
}

type Named = Pick<Concept, "text" | "nth">;

/** What a concept is called where it stands alone. */
export function titleOf({ text, nth }: Named): string {
  return text || (nth ? `like example ${nth}` : "like the examples");
}

/** What a concept is called within a sentence. */
export function nameOf(concept: Named): string {
  return concept.text === "" ? `things ${titleOf(concept)}` : `“${concept.text}”`;
}

/** Words as a sentence begins. */
export function capitalized(words: string): string {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}`;
}

/** Labels that several instances have. */
export function sharedLabels(instances: readonly Instance[]): ReadonlySet<string> {
  const seen = new Set<string>();
  const shared = new Set<string>();
  for (const { label } of instances) (seen.has(label) ? shared : seen).add(label);
  return shared;
}

/** What an instance is called; its id tells it from others of its label. */
export function nameOfInstance({ label, object_id }: Instance, shared: ReadonlySet<string>): string {
  if (label === "") return `object ${object_id}`;
  return shared.has(label) ? `${label} ${object_id}` : label;
}

/** Whether it failed because a person wanted it to end. */
export function isCancelled(error: string | null): boolean {
  return error?.startsWith("cancelled") ?? false;
}

/** What there is to say of an answer; null where there is nothing. */
export function remarkOf({ error, note }: Pick<Concept, "error" | "note">): string | null {
  return isCancelled(error) ? "cancelled" : (error ?? note);
}

/** Large below small, so that nothing is buried; the selected one above all. */
export function drawOrder(state: State): Instance[] {
  return state.instances
    .filter((instance) => instance.visible && instance.mask !== null)
    .sort((a, b) => {
      if (a.object_id === state.selected) return 1;
      if (b.object_id === state.selected) return -1;
      return (b.area ?? 0) - (a.area ?? 0);
    });
}
