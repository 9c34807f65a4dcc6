/** Where the image lies in the canvas: css = image * scale + t. */

import type { Box } from "./state";

export interface Spot {
  x: number;
  y: number;
}

const MAX_SCALE = 64;

export class Viewport {
  scale = 1;
  tx = 0;
  ty = 0;
  #width = 1;
  #height = 1;
  #imageWidth = 1;
  #imageHeight = 1;
  #fitted = true;

  get width(): number {
    return this.#width;
  }

  get height(): number {
    return this.#height;
  }

  get fitScale(): number {
    return Math.min(this.#width / this.#imageWidth, this.#height / this.#imageHeight);
  }

  setImage(width: number, height: number): void {
    this.#imageWidth = Math.max(1, width);
    this.#imageHeight = Math.max(1, height);
    this.fit();
  }

  /** A view that shows the whole image goes on showing it; another keeps its centre. */
  resize(width: number, height: number): void {
    const centre = this.toImage(this.#width / 2, this.#height / 2);
    this.#width = Math.max(1, width);
    this.#height = Math.max(1, height);
    if (this.#fitted) return this.fit();
    this.tx = this.#width / 2 - centre.x * this.scale;
    this.ty = this.#height / 2 - centre.y * this.scale;
    this.#keepInSight();
  }

  fit(): void {
    this.scale = this.fitScale;
    this.tx = (this.#width - this.#imageWidth * this.scale) / 2;
    this.ty = (this.#height - this.#imageHeight * this.scale) / 2;
    this.#fitted = true;
  }

  zoomAt(x: number, y: number, factor: number): void {
    const least = Math.min(this.fitScale, 1) * 0.5;
    const scale = Math.min(Math.max(this.scale * factor, least), Math.max(MAX_SCALE, this.fitScale));
    const ratio = scale / this.scale;
    this.scale = scale;
    this.tx = x - (x - this.tx) * ratio;
    this.ty = y - (y - this.ty) * ratio;
    this.#fitted = false;
    this.#keepInSight();
  }

  pan(dx: number, dy: number): void {
    this.tx += dx;
    this.ty += dy;
    this.#fitted = false;
    this.#keepInSight();
  }

  /** Pans just as far as needed to bring an image position into view. */
  reveal(spot: Spot, margin = 24): void {
    const { x, y } = this.toCss(spot.x, spot.y);
    const dx = x < margin ? margin - x : Math.min(0, this.#width - margin - x);
    const dy = y < margin ? margin - y : Math.min(0, this.#height - margin - y);
    if (dx !== 0 || dy !== 0) this.pan(dx, dy);
  }

  toImage(x: number, y: number): Spot {
    return { x: (x - this.tx) / this.scale, y: (y - this.ty) / this.scale };
  }

  toCss(x: number, y: number): Spot {
    return { x: x * this.scale + this.tx, y: y * this.scale + this.ty };
  }

  contains({ x, y }: Spot): boolean {
    return x >= 0 && y >= 0 && x < this.#imageWidth && y < this.#imageHeight;
  }

  /** Just below the far edge, so that a position there still lies in the last pixel. */
  clamp({ x, y }: Spot): Spot {
    const hold = (value: number, size: number) => Math.min(Math.max(value, 0), size - 0.01);
    return { x: hold(x, this.#imageWidth), y: hold(y, this.#imageHeight) };
  }

  /** The part of the image in view, in image pixels. */
  visible(): { x1: number; y1: number; x2: number; y2: number } {
    const a = this.toImage(0, 0);
    const b = this.toImage(this.#width, this.#height);
    return {
      x1: Math.max(0, a.x),
      y1: Math.max(0, a.y),
      x2: Math.min(this.#imageWidth, b.x),
      y2: Math.min(this.#imageHeight, b.y),
    };
  }

  /** Without this a fast drag would leave nothing but background, and no way to see where the image went. */
  #keepInSight(): void {
    const hold = (t: number, view: number, size: number) => {
      const keep = Math.min(size, view, 48);
      return Math.min(Math.max(t, keep - size), view - keep);
    };
    this.tx = hold(this.tx, this.#width, this.#imageWidth * this.scale);
    this.ty = hold(this.ty, this.#height, this.#imageHeight * this.scale);
  }
}

/** A hundredth of a pixel is finer than any model. Downwards, to stay in the pixel; 72.5 may come as 72.4999999. */
const hundredth = (value: number) => Math.floor(value * 100 + 1e-4) / 100;

export function round({ x, y }: Spot): Spot {
  return { x: hundredth(x), y: hundredth(y) };
}

export function roundBox(box: Box): Box {
  return [hundredth(box[0]), hundredth(box[1]), hundredth(box[2]), hundredth(box[3])];
}
