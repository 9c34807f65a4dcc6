/** Frames of a clip as this view has them: pictures and masks, fetched ahead of where a person looks. */

import { Mask, toBytes } from "./codec";
import type { Connection } from "./connection";
import { ByteCache, type ImageInfo } from "./imagery";
import type { Buffer } from "./state";

const PICTURE_BYTES = 96 * 2 ** 20;
const BITMAP_BYTES = 80 * 2 ** 20;
const MASK_BYTES = 24 * 2 ** 20;
const AT_ONCE = 3;
const AHEAD = 24;
const BEHIND = 8;
/** Frames on either side whose pictures are decoded ahead. */
const DECODED = 4;

type Masks = ReadonlyMap<number, { mask: Mask; area: number }>;

interface Picture {
  info: ImageInfo;
  blob: Blob;
}

export interface Frame {
  info: ImageInfo;
  bitmap: ImageBitmap;
  masks: Masks;
}

interface WireFrame {
  frame_idx: number;
  instances: readonly { object_id: number; mask: number; area: number }[];
  picture?: ImageInfo;
}

export class Frames {
  #pictures = new ByteCache<Picture>(PICTURE_BYTES, () => {});
  #bitmaps = new ByteCache<ImageBitmap>(BITMAP_BYTES, (bitmap) => bitmap.close());
  #masks = new ByteCache<Masks>(MASK_BYTES, () => {});
  /** Changes of the masks of each frame: what was asked for before the last one is old. */
  #versions = new Map<number, number>();
  #epoch = 0;
  #asked = new Set<number>();
  #decoding = new Set<number>();
  #failed = new Map<number, string>();
  #at = 0;
  #way: 1 | -1 = 1;
  #length = 0;
  #connection: Connection;
  #onArrival: (frame: number) => void;
  #signal: AbortSignal;

  constructor(connection: Connection, onArrival: (frame: number) => void, signal: AbortSignal) {
    this.#connection = connection;
    this.#onArrival = onArrival;
    this.#signal = signal;
    signal.addEventListener("abort", () => {
      this.#pictures.clear();
      this.#bitmaps.clear();
    });
  }

  /** Returns a frame that can be drawn at once. */
  get(frame: number): Frame | null {
    const key = String(frame);
    const picture = this.#pictures.get(key);
    const bitmap = this.#bitmaps.get(key);
    const masks = this.#masks.get(key);
    if (picture === undefined || bitmap === undefined || masks === undefined) return null;
    return { info: picture.info, bitmap, masks };
  }

  /** Why a frame cannot be had; null where it may come yet. */
  failure(frame: number): string | null {
    return this.#failed.get(frame) ?? null;
  }

  /** Fetches a frame, and then those around it, more of them where a person is going. */
  look(frame: number, length: number): void {
    if (frame !== this.#at) this.#way = frame > this.#at ? 1 : -1;
    this.#at = frame;
    this.#length = length;
    this.#failed.delete(frame);
    this.#fill();
  }

  /** The masks of these frames, or (null) of all, are others now. */
  outdated(frames: ReadonlySet<number> | null): void {
    if (frames === null) {
      this.#epoch++;
      this.#masks.clear();
    } else {
      for (const frame of frames) {
        this.#versions.set(frame, this.#version(frame) + 1);
        this.#masks.delete(String(frame));
      }
    }
    this.#fill();
  }

  #version(frame: number): number {
    return this.#versions.get(frame) ?? 0;
  }

  *#around(ahead: number, behind: number): Iterable<number> {
    yield this.#at;
    for (let far = 1; far <= Math.max(ahead, behind); far++) {
      if (far <= ahead) yield this.#at + this.#way * far;
      if (far <= behind) yield this.#at - this.#way * far;
    }
  }

  #has(frame: number): boolean {
    const key = String(frame);
    return this.#pictures.has(key) && this.#masks.has(key);
  }

  #fill(): void {
    if (this.#signal.aborted || this.#connection.presence !== "live") return;
    for (const frame of this.#around(DECODED, DECODED)) this.#decode(frame);
    for (const frame of this.#around(AHEAD, BEHIND)) {
      if (this.#asked.size >= AT_ONCE) return;
      if (frame < 0 || frame >= this.#length || this.#asked.has(frame)) continue;
      if (this.#has(frame) || this.#failed.has(frame)) continue;
      this.#asked.add(frame);
      void this.#fetch(frame).finally(() => {
        this.#asked.delete(frame);
        this.#fill();
      });
    }
  }

  async #fetch(frame: number): Promise<void> {
    const key = String(frame);
    const version = this.#version(frame);
    const epoch = this.#epoch;
    try {
      const picture = !this.#pictures.has(key);
      const reply = await this.#connection.request("frame", { frame_idx: frame, picture });
      if (this.#signal.aborted) return;
      const told = reply.envelope.payload as WireFrame;
      if (told.picture !== undefined) this.#keepPicture(key, told.picture, reply.buffers.at(-1));
      if (version === this.#version(frame) && epoch === this.#epoch) {
        this.#keepMasks(key, told, reply.buffers);
      }
      this.#decode(frame);
      if (this.#bitmaps.has(key)) this.#onArrival(frame);
    } catch (error) {
      if (this.#signal.aborted) return;
      this.#failed.set(frame, error instanceof Error ? error.message : String(error));
      this.#onArrival(frame);
    }
  }

  #keepPicture(key: string, info: ImageInfo, buffer: Buffer | undefined): void {
    if (buffer === undefined) throw new Error("a frame came without its picture");
    const bytes = toBytes(buffer);
    this.#pictures.set(key, { info, blob: new Blob([bytes], { type: info.mime }) }, bytes.byteLength);
  }

  #keepMasks(key: string, told: WireFrame, buffers: readonly Buffer[]): void {
    const masks = new Map<number, { mask: Mask; area: number }>();
    let bytes = 64;
    for (const { object_id, mask: index, area } of told.instances) {
      const buffer = buffers[index];
      if (buffer === undefined) throw new Error(`object ${object_id} came without its mask`);
      const mask = Mask.decode(buffer);
      bytes += mask.spans.byteLength + mask.rows.byteLength;
      masks.set(object_id, { mask, area });
    }
    this.#masks.set(key, masks, bytes);
  }

  #decode(frame: number): void {
    const key = String(frame);
    const picture = this.#pictures.get(key);
    if (picture === undefined || this.#bitmaps.has(key) || this.#decoding.has(frame)) return;
    if (Math.abs(frame - this.#at) > DECODED) return;
    this.#decoding.add(frame);
    createImageBitmap(picture.blob)
      .then((bitmap) => {
        if (this.#signal.aborted) return bitmap.close();
        this.#bitmaps.set(key, bitmap, bitmap.width * bitmap.height * 4);
        if (this.#masks.has(key)) this.#onArrival(frame);
      })
      .catch(() => {
        this.#failed.set(frame, `The browser cannot read the picture of frame ${frame}.`);
        this.#onArrival(frame);
      })
      .finally(() => this.#decoding.delete(frame));
  }
}
