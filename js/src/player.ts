/** Which frame of a clip is on the canvas, and how it gets there. */

import { type Command, type Direction, Throttle } from "./commands";
import type { Connection } from "./connection";
import { Frames } from "./frames";
import type { Imagery } from "./imagery";
import { Marks, type TimelineNews } from "./marks";
import type { Seen, State } from "./state";

export interface Clip {
  length: number;
  fps: number | null;
  /** Seconds of each frame, where they are not even. */
  times: readonly number[] | null;
  /** Whether the model carries objects from frame to frame. */
  video: boolean;
}

export interface PlayerHost {
  say(message: string): void;
  /** Another frame, or another picture of it, is on the canvas. */
  turned(): void;
  changed(): void;
  run(command: Command): Promise<unknown>;
  selected(): number | null;
}

const USUAL_FPS = 25;

export class Player implements Seen {
  readonly marks = new Marks();
  playing = false;
  /** Where a person wants to be: the playhead. The canvas follows when the frame is there. */
  target = 0;
  /** The frame on the canvas. */
  shown = 0;
  #first: number | null = null;
  #last: number | null = null;
  #clip: Clip;
  #connection: Connection;
  #imagery: Imagery;
  #frames: Frames;
  #host: PlayerHost;
  #signal: AbortSignal;
  #seek: Throttle<number>;
  /** The frame that the kernel said last. */
  #told = 0;
  #timer = 0;
  #due = 0;
  #derived: { of: State; masks: unknown; state: State } | null = null;

  constructor(clip: Clip, connection: Connection, imagery: Imagery, host: PlayerHost, signal: AbortSignal) {
    this.#clip = clip;
    this.#connection = connection;
    this.#imagery = imagery;
    this.#host = host;
    this.#signal = signal;
    this.#frames = new Frames(connection, (frame) => this.#arrived(frame), signal);
    this.#seek = new Throttle((frame) => this.#tellKernel(frame));
    signal.addEventListener("abort", () => cancelAnimationFrame(this.#timer));
  }

  get clip(): Clip {
    return this.#clip;
  }

  /** A live source has grown. */
  set clip(clip: Clip) {
    this.#clip = clip;
    this.#host.changed();
  }

  get length(): number {
    return this.#clip.length;
  }

  /** Frames that propagation and playing are for, both ends included. */
  get range(): { first: number; last: number; chosen: boolean } {
    const first = this.#first ?? 0;
    const last = Math.max(first, Math.min(this.#last ?? this.length - 1, this.length - 1));
    return { first, last, chosen: this.#first !== null || this.#last !== null };
  }

  /** Seconds from the first frame. */
  seconds(frame: number): number | null {
    const { times, fps } = this.#clip;
    return times?.[frame] ?? (fps === null ? null : frame / fps);
  }

  /** The state of the frame on the canvas: the kernel's, or one of what is known until the kernel has answered. */
  get state(): State | null {
    const { state } = this.#connection;
    if (state === null || state.frame_idx === this.shown) return state;
    const masks = this.#frames.get(this.shown)?.masks ?? null;
    if (this.#derived?.of !== state || this.#derived.masks !== masks) {
      const instances = state.instances.map((instance) => {
        const there = masks?.get(instance.object_id) ?? null;
        return {
          ...instance,
          mask: there?.mask ?? null,
          area: there?.area ?? null,
          score: this.marks.of(instance.object_id).get(this.shown)?.score ?? null,
          bbox: null,
          pending: false,
          error: null,
          note: null,
          candidates: [],
          points: [],
          box: null,
          strokes: [],
        };
      });
      const concepts = state.concepts.map((concept) => ({ ...concept, exemplars: [] }));
      const derived = { ...state, instances, concepts, concept: null, frame_idx: this.shown };
      this.#derived = { of: state, masks, state: derived };
    }
    return this.#derived.state;
  }

  /** Whether the frame that is wanted has not come yet. */
  get waiting(): boolean {
    return this.shown !== this.target;
  }

  go(frame: number): void {
    this.pause();
    this.#want(frame);
  }

  step(by: number): void {
    this.go(this.target + by);
  }

  /** To the next frame with a prompt or a flag. */
  leap(way: 1 | -1): void {
    const found = this.marks.next(this.target, way);
    if (found === null) {
      this.#host.say(way > 0 ? "No prompt or flag on later frames." : "No prompt or flag on earlier frames.");
    } else this.go(found);
  }

  worst(): void {
    const selected = this.#host.selected();
    const found = this.marks.worst(selected) ?? this.marks.worst(null);
    if (found === null) return this.#host.say("Nothing has been propagated yet.");
    this.go(found);
    this.#host.say(`Frame ${found} has the lowest score`);
  }

  begin(): void {
    this.#first = this.#first === this.target ? null : this.target;
    if (this.#last !== null && this.#last < this.range.first) this.#last = null;
    this.#host.changed();
  }

  end(): void {
    this.#last = this.#last === this.target ? null : this.target;
    if (this.#last !== null && this.#last < this.range.first) this.#first = null;
    this.#host.changed();
  }

  clearRange(): void {
    this.#first = null;
    this.#last = null;
    this.#host.changed();
  }

  propagate(direction: Direction): void {
    const { state } = this.#connection;
    if (!this.#clip.video) {
      return this.#host.say(state?.model.advice.video ?? "This model carries nothing through a clip.");
    }
    if (state !== null && state.instances.length === 0) {
      return this.#host.say("Nothing to propagate: click an object or draw a box on any frame first.");
    }
    const { first, last, chosen } = this.range;
    const args = { direction, start: chosen ? first : null, stop: chosen ? last + 1 : null };
    void this.#host.run({ name: "propagate", args });
  }

  toggle(): void {
    if (this.playing) return this.pause();
    const { first, last } = this.range;
    this.playing = true;
    if (this.target >= last || this.target < first) this.#want(first);
    this.#due = performance.now() + this.#duration(this.target);
    this.#timer = requestAnimationFrame((now) => this.#play(now));
    this.#host.changed();
  }

  pause(): void {
    if (!this.playing) return;
    this.playing = false;
    cancelAnimationFrame(this.#timer);
    this.#seek.push(this.target);
    this.#host.changed();
  }

  /** Takes the kernel's news of the timeline. */
  heard(news: TimelineNews): void {
    this.#frames.outdated(this.marks.take(news));
    this.#host.changed();
  }

  /** The kernel's state has changed: it may have gone to another frame by itself. */
  stateChanged(): void {
    const frame = this.#connection.state?.frame_idx ?? 0;
    const moved = frame !== this.#told;
    this.#told = frame;
    if (moved && !this.#seek.busy && !this.playing) {
      this.target = frame;
      this.#show();
    }
    this.#frames.look(this.target, this.length);
  }

  /** Why the wanted frame is not there, in words; null where it is, or is on its way. */
  get failure(): string | null {
    return this.waiting ? this.#frames.failure(this.target) : null;
  }

  /** Seconds of a frame, in milliseconds. */
  #duration(frame: number): number {
    const { times, fps } = this.#clip;
    const own = (times?.[frame + 1] ?? 0) - (times?.[frame] ?? 0);
    return 1000 * (own > 0 ? own : 1 / (fps || USUAL_FPS));
  }

  #want(frame: number): void {
    const wanted = Math.max(0, Math.min(Math.round(frame), this.length - 1));
    if (wanted === this.target && !this.waiting) return;
    this.target = wanted;
    // What is on the canvas must not be the oldest of the pictures kept.
    this.#frames.get(this.shown);
    this.#frames.look(wanted, this.length);
    this.#show();
    if (!this.playing) this.#seek.push(wanted);
    this.#host.changed();
  }

  /** Puts the wanted frame on the canvas if it is there. */
  #show(): void {
    const frame = this.#frames.get(this.target);
    if (frame === null) return;
    const turned = this.shown !== this.target;
    this.shown = this.target;
    this.#imagery.show(frame.info, frame.bitmap);
    if (turned) this.#host.turned();
  }

  #arrived(frame: number): void {
    if (frame !== this.target) return;
    this.#show();
    this.#host.changed();
  }

  async #tellKernel(frame: number): Promise<void> {
    if (this.#connection.state?.frame_idx === frame) return;
    try {
      await this.#connection.request("command", { name: "seek", args: { frame_idx: frame } });
    } catch {
      // The next frame, or the next prompt, which names its frame, tells it again.
    }
  }

  /** Frames that are not there yet are waited for: playing late is better than playing past them. */
  #play(now: number): void {
    if (!this.playing || this.#signal.aborted) return;
    if (now >= this.#due && !this.waiting) {
      if (this.target >= this.range.last) return this.pause();
      this.#due = Math.max(this.#due + this.#duration(this.target), now);
      this.#want(this.target + 1);
    }
    this.#timer = requestAnimationFrame((next) => this.#play(next));
  }
}
