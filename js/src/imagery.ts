/** The picture: a preview of the whole, and sharper tiles where a person looks. */

import { toBytes } from "./codec";
import type { Connection, Model } from "./connection";
import type { Buffer } from "./state";
import type { Viewport } from "./viewport";

export interface ImageInfo {
  key: string;
  name: string;
  width: number;
  height: number;
  preview_width: number;
  preview_height: number;
  mime: string;
  tile_size: number;
  levels: number;
}

interface Tile {
  level: number;
  x: number;
  y: number;
  bitmap: ImageBitmap;
}

const SETTLE_MS = 120;
const AT_ONCE = 4;

/** Holds values up to a number of bytes; the one unused for longest goes first. */
export class ByteCache<T> {
  #entries = new Map<string, { value: T; bytes: number }>();
  #limit: number;
  #drop: (value: T) => void;
  #bytes = 0;

  constructor(limit: number, drop: (value: T) => void) {
    this.#limit = limit;
    this.#drop = drop;
  }

  get bytes(): number {
    return this.#bytes;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** Counts as a use. */
  get(key: string): T | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  set(key: string, value: T, bytes: number): void {
    this.delete(key);
    this.#entries.set(key, { value, bytes });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#limit || oldest === key) break;
      this.delete(oldest);
    }
  }

  delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
    this.#drop(entry.value);
  }

  clear(): void {
    for (const key of [...this.#entries.keys()]) this.delete(key);
  }

  keys(): string[] {
    return [...this.#entries.keys()];
  }
}

/** The coarsest tile level that is sharp at a scale in device pixels per image pixel; null: the preview is. */
export function levelFor(info: ImageInfo, scale: number): number | null {
  if (info.levels <= 0 || scale <= (info.preview_width / info.width) * 1.01) return null;
  const level = Math.max(0, Math.floor(-Math.log2(scale) + 1e-9));
  return level < info.levels ? level : null;
}

export class Imagery {
  info: ImageInfo | null = null;
  /** The preview and its halvings: reducing more than twofold in one step would flicker. */
  #preview: ImageBitmap[] = [];
  /** Decoded, and not yet on the canvas. */
  #next: { info: ImageInfo; steps: ImageBitmap[] } | null = null;
  #tiles = new ByteCache<Tile>(96 * 2 ** 20, (tile) => tile.bitmap.close());
  #wanted: { level: number; x: number; y: number; key: string }[] = [];
  #asked = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #generation = 0;
  /** The preview is not ours to close. */
  #borrowed = false;
  #connection: Connection;
  #onChange: () => void;
  #signal: AbortSignal;

  constructor(connection: Connection, onChange: () => void, signal: AbortSignal) {
    this.#connection = connection;
    this.#onChange = onChange;
    this.#signal = signal;
    signal.addEventListener("abort", () => {
      clearTimeout(this.#timer);
      this.#clear();
    });
  }

  get ready(): boolean {
    return this.#preview.length > 0;
  }

  /** The picture that `turn` would show. */
  get next(): ImageInfo | null {
    return this.#next?.info ?? null;
  }

  /** Shows the picture that was loaded. */
  turn(): void {
    const next = this.#next;
    if (next === null) return;
    this.#next = null;
    this.#clear();
    this.info = next.info;
    this.#preview = next.steps;
    this.#onChange();
  }

  /** Shows a picture that somebody else keeps. */
  show(info: ImageInfo, picture: ImageBitmap): void {
    if (this.info?.key === info.key && this.#preview[0] === picture) return;
    this.#generation++;
    this.#clear();
    this.info = info;
    this.#preview = [picture];
    this.#borrowed = true;
    this.#onChange();
  }

  /** Makes a picture ready to be shown. */
  async load(model: Model): Promise<void> {
    const info = model.get("_image") as ImageInfo | null;
    const bytes = model.get("_preview") as Buffer | null;
    const generation = ++this.#generation;
    if (!info || !bytes || bytes.byteLength === 0) return;
    let bitmap: ImageBitmap;
    try {
      bitmap = await createImageBitmap(new Blob([toBytes(bytes)], { type: info.mime }));
    } catch {
      if (generation === this.#generation) throw new Error("The browser cannot read the picture's preview.");
      return;
    }
    const steps = [bitmap];
    for (let last = bitmap; last.width > 512 && last.height > 512; ) {
      last = await createImageBitmap(last, {
        resizeWidth: Math.ceil(last.width / 2),
        resizeHeight: Math.ceil(last.height / 2),
        resizeQuality: "medium",
      });
      steps.push(last);
    }
    if (generation !== this.#generation || this.#signal.aborted) {
      for (const step of steps) step.close();
      return;
    }
    this.#drop();
    this.#next = { info, steps };
  }

  draw(context: CanvasRenderingContext2D, viewport: Viewport, ratio: number): void {
    const info = this.info;
    const first = this.#preview[0];
    if (info === null || first === undefined) return;
    const scale = viewport.scale * ratio;
    const needed = info.width * scale;
    const preview = this.#preview.findLast((step) => step.width >= needed) ?? first;
    context.imageSmoothingEnabled = viewport.scale <= 4;
    // Halvings are made of what stays; a frame of a clip passes.
    context.imageSmoothingQuality = this.#borrowed && preview.width > 2 * needed ? "medium" : "low";
    context.drawImage(
      preview,
      viewport.tx * ratio,
      viewport.ty * ratio,
      info.width * scale,
      info.height * scale,
    );
    const level = levelFor(info, scale);
    if (level === null) return;
    const area = viewport.visible();
    const keys = this.#tiles.keys().sort((a, b) => Number.parseInt(b, 10) - Number.parseInt(a, 10));
    for (const key of keys) {
      if (Number.parseInt(key, 10) < level) continue;
      const side = info.tile_size * 2 ** Number.parseInt(key, 10);
      const [, x = 0, y = 0] = key.split("/").map(Number);
      if (x * side > area.x2 || y * side > area.y2 || (x + 1) * side < area.x1 || (y + 1) * side < area.y1)
        continue;
      const tile = this.#tiles.get(key);
      if (tile === undefined) continue;
      // Edges on whole device pixels: half-covered ones would show as a grid of seams.
      const left = Math.round((x * side * viewport.scale + viewport.tx) * ratio);
      const top = Math.round((y * side * viewport.scale + viewport.ty) * ratio);
      const right = Math.round((Math.min((x + 1) * side, info.width) * viewport.scale + viewport.tx) * ratio);
      const bottom = Math.round(
        (Math.min((y + 1) * side, info.height) * viewport.scale + viewport.ty) * ratio,
      );
      context.drawImage(tile.bitmap, left, top, right - left, bottom - top);
    }
  }

  /** Asks for what the view lacks once it has come to rest. */
  settle(viewport: Viewport, ratio: number): void {
    clearTimeout(this.#timer);
    if (this.info === null || this.info.levels <= 0) return;
    this.#timer = setTimeout(() => this.#want(viewport, ratio), SETTLE_MS);
  }

  #want(viewport: Viewport, ratio: number): void {
    const info = this.info;
    if (info === null) return;
    const level = levelFor(info, viewport.scale * ratio);
    this.#wanted = [];
    if (level === null) return;
    const side = info.tile_size * 2 ** level;
    const { x1, y1, x2, y2 } = viewport.visible();
    const centre = { x: (x1 + x2) / 2 / side - 0.5, y: (y1 + y2) / 2 / side - 0.5 };
    for (let y = Math.floor(y1 / side); y * side < y2; y++) {
      for (let x = Math.floor(x1 / side); x * side < x2; x++) {
        const key = `${level}/${x}/${y}`;
        if (!this.#tiles.has(key)) this.#wanted.push({ level, x, y, key });
      }
    }
    const far = (tile: { x: number; y: number }) => Math.hypot(tile.x - centre.x, tile.y - centre.y);
    this.#wanted.sort((a, b) => far(a) - far(b));
    this.#ask();
  }

  #ask(): void {
    const info = this.info;
    if (info === null || this.#connection.presence !== "live") return;
    const asked = this.#asked;
    while (asked.size < AT_ONCE) {
      const tile = this.#wanted.shift();
      if (tile === undefined) return;
      if (asked.has(tile.key) || this.#tiles.has(tile.key)) continue;
      asked.add(tile.key);
      void this.#fetch(info, tile).finally(() => {
        asked.delete(tile.key);
        if (!this.#signal.aborted) this.#ask();
      });
    }
  }

  async #fetch(info: ImageInfo, { level, x, y, key }: { level: number; x: number; y: number; key: string }) {
    try {
      const reply = await this.#connection.request("tile", { key: info.key, level, x, y });
      const buffer = reply.buffers[0];
      const { mime } = reply.envelope.payload as { mime?: string };
      if (buffer === undefined || info !== this.info) return;
      const bitmap = await createImageBitmap(new Blob([toBytes(buffer)], { type: mime ?? info.mime }));
      if (info !== this.info || this.#signal.aborted) return bitmap.close();
      this.#tiles.set(key, { level, x, y, bitmap }, bitmap.width * bitmap.height * 4);
      this.#onChange();
    } catch {
      // The preview stays in place of a tile that cannot be had; the next settled view asks again.
    }
  }

  #drop(): void {
    for (const step of this.#next?.steps ?? []) step.close();
    this.#next = null;
  }

  #clear(): void {
    this.#drop();
    this.#tiles.clear();
    this.#wanted = [];
    // Tiles of another picture have the same names.
    this.#asked = new Set();
    if (!this.#borrowed) for (const step of this.#preview) step.close();
    this.#borrowed = false;
    this.#preview = [];
  }
}
