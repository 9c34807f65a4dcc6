/** What is known of each object on each frame of a clip, as the kernel tells it. */

export type Source = "prompt" | "forward" | "backward";
export type Flag = "score" | "area";

export interface Mark {
  source: Source;
  /** 0 to 1; null where no model made the mask. */
  score: number | null;
  /** Pixels; null while the answer is awaited. */
  area: number | null;
  flag: Flag | null;
}

/** `[object_id, frame_idx, source, score, area, flag]`; where there is nothing any more, `[object_id, frame_idx, null]`. */
export type MarkRow =
  | readonly [number, number, null]
  | readonly [number, number, number, number | null, number | null, number];

export interface TimelineNews {
  /** The rows are all there are. */
  whole: boolean;
  rows: readonly MarkRow[];
  removed: readonly number[];
}

const SOURCES: readonly Source[] = ["prompt", "forward", "backward"];
const FLAGS: readonly (Flag | null)[] = [null, "score", "area"];

export class Marks {
  /** Counts the changes. */
  revision = 0;
  #byObject = new Map<number, Map<number, Mark>>();

  /** Returns the frames whose masks have changed; null: all of them. */
  take({ whole, rows, removed }: TimelineNews): ReadonlySet<number> | null {
    this.revision++;
    if (whole) this.#byObject.clear();
    for (const id of removed) this.#byObject.delete(id);
    const frames = new Set<number>();
    for (const [id, frame, source, score, area, flag] of rows) {
      frames.add(frame);
      let marks = this.#byObject.get(id);
      if (marks === undefined) {
        marks = new Map();
        this.#byObject.set(id, marks);
      }
      if (source === null) marks.delete(frame);
      else {
        const told = { score: score ?? null, area: area ?? null, flag: FLAGS[flag ?? 0] ?? null };
        marks.set(frame, { source: SOURCES[source] ?? "forward", ...told });
      }
    }
    return whole || removed.length > 0 ? null : frames;
  }

  of(id: number): ReadonlyMap<number, Mark> {
    return this.#byObject.get(id) ?? new Map<number, Mark>();
  }

  /** The nearest frame on one side that a person prompted, or that is worth a look; null where there is none. */
  next(from: number, way: 1 | -1): number | null {
    let found: number | null = null;
    for (const marks of this.#byObject.values()) {
      for (const [frame, { source, flag }] of marks) {
        if ((frame - from) * way <= 0 || (source !== "prompt" && flag === null)) continue;
        if (found === null || (found - frame) * way > 0) found = frame;
      }
    }
    return found;
  }

  /** The carried frame of the lowest score, of one object or of all. */
  worst(id: number | null): number | null {
    let found: number | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const [objectId, marks] of this.#byObject) {
      if (id !== null && objectId !== id) continue;
      for (const [frame, { source, score }] of marks) {
        if (source === "prompt" || score === null) continue;
        if (score < least || (score === least && frame < (found ?? 0))) {
          least = score;
          found = frame;
        }
      }
    }
    return found;
  }
}
