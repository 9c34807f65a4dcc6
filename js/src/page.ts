/** One image at a time: the picture on the canvas and the state that belongs to it change together. */

import type { Connection, Model } from "./connection";
import type { Imagery } from "./imagery";
import type { Seen, State } from "./state";

/** A picture that never comes must not stop the way to others. */
const PATIENCE_MS = 4000;

export class Page implements Seen {
  #connection: Connection;
  #imagery: Imagery;
  /** Another picture is on the canvas. */
  #onTurn: () => void;
  #signal: AbortSignal;
  #seen: State | null = null;
  #loaded: { info: unknown; bytes: unknown; done: Promise<void> } | null = null;
  /** The last picture cannot be shown: there is nothing to wait for. */
  #isBroken = false;
  #arrivals = new Set<() => void>();

  constructor(connection: Connection, imagery: Imagery, onTurn: () => void, signal: AbortSignal) {
    this.#connection = connection;
    this.#imagery = imagery;
    this.#onTurn = onTurn;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#settle());
  }

  /** The kernel's state; until the picture of that is there, the last one of the picture that is. */
  get state(): State | null {
    if (!this.away) this.#seen = this.#connection.state;
    return this.#seen;
  }

  get away(): boolean {
    const { info } = this.#imagery;
    const { state } = this.#connection;
    return info !== null && state !== null && info.key !== state.image.key;
  }

  /** The two traits of a picture change together, and each tells. */
  load(model: Model): Promise<void> {
    const [info, bytes] = [model.get("_image"), model.get("_preview")];
    if (this.#loaded === null || this.#loaded.info !== info || this.#loaded.bytes !== bytes) {
      this.#loaded = { info, bytes, done: this.#load(model) };
    }
    return this.#loaded.done;
  }

  /** After each change of the kernel's state or of the picture. */
  refresh(): void {
    const next = this.#imagery.next;
    if (next !== null && this.#fits(next.key)) {
      this.#imagery.turn();
      this.#onTurn();
    }
    if (!this.away) this.#settle();
  }

  arrived(): Promise<void> {
    if (!this.away || this.#isBroken || this.#signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#arrivals.delete(end) && resolve(), PATIENCE_MS);
      const end = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#arrivals.add(end);
    });
  }

  async #load(model: Model): Promise<void> {
    this.#isBroken = false;
    try {
      await this.#imagery.load(model);
    } catch (error) {
      this.#isBroken = true;
      this.#settle();
      throw error;
    }
    this.refresh();
  }

  /** The picture may come before its state. Without a kernel no state will come. */
  #fits(key: string): boolean {
    const { state, presence } = this.#connection;
    return this.#imagery.info === null || state === null || presence !== "live" || state.image.key === key;
  }

  #settle(): void {
    for (const end of this.#arrivals) end();
    this.#arrivals.clear();
  }
}
