import { encodeRuns, Mask } from "../src/codec";
import type { Envelope, Model } from "../src/connection";
import { type Concept, fromSnapshot, type State, type WireInstance, type WireState } from "../src/state";

/** Park and Miller's generator: the same numbers in each run. */
export function random(seed: number): () => number {
  let state = seed * 7919 + 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

export const fromHex = (hex: string) =>
  Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));

export const toHex = (bytes: Uint8Array) =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function runsOf(pixels: readonly number[]): Uint32Array {
  const runs: number[] = [];
  let value = 0;
  let run = 0;
  for (const pixel of pixels) {
    if (pixel === value) run++;
    else {
      runs.push(run);
      run = 1;
      value = pixel;
    }
  }
  runs.push(run);
  return Uint32Array.from(runs);
}

export function encodeRows(rows: readonly string[]): Uint8Array {
  const pixels = rows.flatMap((row) => [...row].map((character) => (character === "#" ? 1 : 0)));
  return encodeRuns({ height: rows.length, width: rows[0]?.length ?? 0, runs: runsOf(pixels) });
}

export const maskOf = (rows: readonly string[]) => Mask.decode(encodeRows(rows));

export function wireInstance(object_id: number, more: Partial<WireInstance> = {}): WireInstance {
  return {
    object_id,
    label: "",
    color: "#0072b2",
    score: 0.9,
    area: 4,
    bbox: null,
    visible: true,
    locked: false,
    pending: false,
    error: null,
    candidate: 0,
    candidates: [],
    points: [],
    box: null,
    strokes: [],
    imported: false,
    concept_id: null,
    note: null,
    ...more,
  };
}

export function wireConcept(concept_id: number, more: Partial<Concept> = {}): Concept {
  return {
    concept_id,
    text: "handle",
    color: "#e69f00",
    count: 2,
    presence: 0.9,
    score_threshold: 0.5,
    pending: false,
    error: null,
    note: null,
    at: null,
    exemplars: [],
    ...more,
  };
}

export function wireState(instances: WireInstance[], more: Partial<WireState> = {}): WireState {
  return {
    image: { key: "k", name: "picture", width: 100, height: 80 },
    model: { name: "builtin", capabilities: { points: true, boxes: true, text: false }, advice: {} },
    selected: null,
    classes: [],
    settings: { mask_threshold: 0.5, fill_holes: 0, min_area: 0 },
    history: { undo: null, redo: null },
    status: { phase: "idle", fraction: null, cancellable: false },
    ...more,
    instances,
  };
}

export const asState = (wire: WireState): State =>
  fromSnapshot({ ...wire, instances: wire.instances.map((instance) => ({ ...instance, mask: null })) }, []);

/** Stands in for the other end of the wire: keeps what was sent and says what a test tells it to. */
export class Wire {
  sent: Envelope[] = [];
  values: Record<string, unknown> = {};
  #handlers = new Map<string, Set<(...args: never[]) => void>>();

  get model(): Model {
    return {
      get: (name: string) => this.values[name],
      set: (name: string, value: unknown) => {
        this.values[name] = value;
      },
      save_changes: () => {},
      send: (message: Envelope) => this.sent.push(message),
      on: (name: string, handler: (...args: never[]) => void) => {
        const handlers = this.#handlers.get(name) ?? new Set();
        this.#handlers.set(name, handlers.add(handler));
      },
      off: (name: string, handler: (...args: never[]) => void) => this.#handlers.get(name)?.delete(handler),
    } as unknown as Model;
  }

  get listeners(): number {
    return [...this.#handlers.values()].reduce((sum, handlers) => sum + handlers.size, 0);
  }

  last(type: string): Envelope {
    const found = this.sent.findLast((message) => message.type === type);
    if (found === undefined) throw new Error(`nothing of type ${type} was sent`);
    return found;
  }

  emit(name: string): void {
    for (const handler of this.#handlers.get(name) ?? []) handler();
  }

  say(id: string | null, type: string, rev: number, payload: unknown, buffers: unknown[] = []): void {
    for (const handler of this.#handlers.get("msg:custom") ?? []) {
      (handler as (message: unknown, buffers: unknown) => void)({ v: 1, id, type, rev, payload }, buffers);
    }
  }
}
