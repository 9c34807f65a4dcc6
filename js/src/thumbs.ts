/** Small pictures of the images of a data set, fetched as they come into view. */

import { toBytes } from "./codec";
import { type Connection, KernelError } from "./connection";
import { ByteCache } from "./imagery";
import type { Buffer } from "./state";

const BYTES = 24 * 2 ** 20;
const AT_ONCE = 2;

export class Thumbs {
  /** Bitmaps: not every host lets a page show pictures by address. */
  #kept = new ByteCache<ImageBitmap>(BYTES, (bitmap) => bitmap.close());
  #wanted: number[] = [];
  #asked = new Set<number>();
  #failed = new Map<number, string>();
  #connection: Connection;
  #onArrival: () => void;
  #signal: AbortSignal;

  constructor(connection: Connection, onArrival: () => void, signal: AbortSignal) {
    this.#connection = connection;
    this.#onArrival = onArrival;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.clear());
  }

  get(index: number): ImageBitmap | null {
    return this.#kept.get(String(index)) ?? null;
  }

  /** Why there is none; null where it may come yet. */
  failure(index: number): string | null {
    return this.#failed.get(index) ?? null;
  }

  /** What is in view, the most wanted first: everything else that waits is dropped. */
  want(indices: readonly number[]): void {
    this.#wanted = indices.filter(
      (index) => !this.#kept.has(String(index)) && !this.#asked.has(index) && !this.#failed.has(index),
    );
    this.#ask();
  }

  /** The files are others now. */
  clear(): void {
    this.#kept.clear();
    this.#failed.clear();
    this.#wanted = [];
    // An answer on its way is of a file from before.
    this.#asked = new Set();
  }

  #ask(): void {
    if (this.#signal.aborted || this.#connection.presence !== "live") return;
    const asked = this.#asked;
    while (asked.size < AT_ONCE) {
      const index = this.#wanted.shift();
      if (index === undefined) return;
      asked.add(index);
      void this.#fetch(index, asked).finally(() => {
        asked.delete(index);
        if (asked === this.#asked) this.#ask();
      });
    }
  }

  async #fetch(index: number, asked: Set<number>): Promise<void> {
    const isOutdated = () => this.#signal.aborted || asked !== this.#asked;
    try {
      const { envelope, buffers } = await this.#connection.request("thumb", { image_idx: index });
      if (isOutdated()) return;
      const { mime } = envelope.payload as { mime: string };
      const bitmap = await decoded(buffers[0], mime);
      if (isOutdated()) return bitmap?.close();
      if (bitmap === null) this.#failed.set(index, "The browser cannot read its thumbnail.");
      else this.#kept.set(String(index), bitmap, bitmap.width * bitmap.height * 4);
    } catch (error) {
      // What got lost on the way may be asked for again, by whoever looks for it next.
      if (isOutdated() || !(error instanceof KernelError)) return;
      this.#failed.set(index, error.message);
    }
    this.#onArrival();
  }
}

async function decoded(buffer: Buffer | undefined, type: string): Promise<ImageBitmap | null> {
  if (buffer === undefined) return null;
  return createImageBitmap(new Blob([toBytes(buffer)], { type })).catch(() => null);
}
