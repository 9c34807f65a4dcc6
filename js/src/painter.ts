/** Draws masks at the resolution of the screen, whatever the size of the image. */

import type { Mask } from "./codec";

export interface Layer {
  mask: Mask;
  /** [red, green, blue], 0 to 255. */
  color: readonly [number, number, number];
  /** Steps back behind the others. */
  dim?: boolean;
}

/** Device pixel = image pixel * scale + t. */
export interface Transform {
  scale: number;
  tx: number;
  ty: number;
}

/**
 * Writes 1 + the index of the topmost layer into each device pixel, 0 where there is none. A device pixel shows
 * the image pixel under its centre.
 */
export function rasterise(
  labels: Uint16Array,
  width: number,
  height: number,
  { scale, tx, ty }: Transform,
  layers: readonly Layer[],
): void {
  labels.fill(0);
  let sourceBefore = -1;
  for (let y = 0; y < height; y++) {
    const source = Math.floor((y + 0.5 - ty) / scale);
    if (source < 0) continue;
    const line = y * width;
    if (source === sourceBefore) {
      labels.copyWithin(line, line - width, line);
      continue;
    }
    sourceBefore = source;
    for (let index = 0; index < layers.length; index++) {
      const mask = layers[index]?.mask;
      if (mask === undefined || source < mask.top || source >= mask.bottom) continue;
      const { spans, rows } = mask;
      const last = rows[source - mask.top + 1] as number;
      for (let span = rows[source - mask.top] as number; span < last; span++) {
        const start = Math.ceil((spans[2 * span] as number) * scale + tx - 0.5);
        const end = Math.ceil((spans[2 * span + 1] as number) * scale + tx - 0.5);
        if (end <= 0) continue;
        if (start >= width) break;
        labels.fill(index + 1, line + Math.max(start, 0), line + Math.min(end, width));
      }
    }
  }
}

/** Share of its opacity that a dim layer keeps. */
const DIM = 0.25;

const pack = (r: number, g: number, b: number, a: number) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

export interface Look {
  /** Alpha of the inside, 0 to 1. */
  fill: number;
  /** Thickness of the outline in device pixels. */
  outline: number;
  /** Index of the layer that gets a light rim, -1 for none. */
  selected: number;
}

/** Colours the labels: an opaque line inside each border, the fill elsewhere. */
export function colourise(
  pixels: Uint32Array,
  labels: Uint16Array,
  width: number,
  height: number,
  layers: readonly Layer[],
  { fill, outline, selected }: Look,
): void {
  pixels.fill(0);
  const line = new Uint32Array(layers.length + 1);
  const inside = new Uint32Array(layers.length + 1);
  layers.forEach(({ color: [r, g, b], dim }, index) => {
    const share = dim ? DIM : 1;
    const alpha = Math.round(fill * share * 255);
    line[index + 1] = pack(r, g, b, Math.round(share * 255));
    inside[index + 1] = alpha === 0 ? 0 : pack(r, g, b, alpha);
  });
  const rim = pack(255, 255, 255, 235);
  const chosen = selected + 1;
  const reaches: number[] = [];
  for (let reach = outline; reach > 1; reach = Math.floor(reach / 2)) reaches.push(reach);
  reaches.push(1);
  for (let y = 0; y < height; y++) {
    const start = y * width;
    const end = start + width;
    const up = y >= outline;
    const down = y + outline < height;
    for (let at = start; at < end; at++) {
      const label = labels[at] as number;
      if (label === 0) {
        if (
          chosen > 0 &&
          ((at > start && labels[at - 1] === chosen) ||
            (at + 1 < end && labels[at + 1] === chosen) ||
            (y > 0 && labels[at - width] === chosen) ||
            (y + 1 < height && labels[at + width] === chosen))
        ) {
          pixels[at] = rim;
        }
        continue;
      }
      let border = false;
      const middle = up && down && at - start >= outline && end - at > outline;
      for (const reach of reaches) {
        const leap = reach * width;
        border = middle
          ? labels[at - reach] !== label ||
            labels[at + reach] !== label ||
            labels[at - leap] !== label ||
            labels[at + leap] !== label
          : (at - start >= reach && labels[at - reach] !== label) ||
            (end - at > reach && labels[at + reach] !== label) ||
            (y >= reach && labels[at - leap] !== label) ||
            (y + reach < height && labels[at + leap] !== label);
        if (border) break;
      }
      pixels[at] = border ? (line[label] as number) : (inside[label] as number);
    }
  }
}

/** Keeps its buffers from frame to frame; they are made anew only when the canvas changes size. */
export class Painter {
  readonly canvas = document.createElement("canvas");
  #labels = new Uint16Array(0);
  #image: ImageData | null = null;
  #pixels = new Uint32Array(0);

  paint(width: number, height: number, transform: Transform, layers: readonly Layer[], look: Look): void {
    const context = this.canvas.getContext("2d");
    if (context === null) return;
    if (this.#image === null || this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.#labels = new Uint16Array(width * height);
      this.#image = context.createImageData(width, height);
      this.#pixels = new Uint32Array(this.#image.data.buffer);
    }
    rasterise(this.#labels, width, height, transform, layers);
    colourise(this.#pixels, this.#labels, width, height, layers, look);
    context.putImageData(this.#image, 0, 0);
  }
}

export function parseColour(hex: string): [number, number, number] {
  const value = Number.parseInt(hex.slice(1), 16);
  return Number.isNaN(value) ? [128, 128, 128] : [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}
