import { describe, expect, it } from "vitest";
import { Mask } from "../src/codec";
import { colourise, type Layer, parseColour, rasterise, type Transform } from "../src/painter";
import { maskOf, random, runsOf } from "./helpers";

interface Bitmap {
  height: number;
  width: number;
  pixels: number[];
}

function randomLayers(next: () => number): { bitmaps: Bitmap[]; layers: Layer[] } {
  const height = 1 + Math.floor(next() * 24);
  const width = 1 + Math.floor(next() * 24);
  const bitmaps = Array.from({ length: 1 + Math.floor(next() * 4) }, () => {
    const density = next();
    return {
      height,
      width,
      pixels: Array.from({ length: height * width }, () => (next() < density ? 1 : 0)),
    };
  });
  const layers = bitmaps.map(({ pixels }) => ({
    mask: new Mask({ height, width, runs: runsOf(pixels) }),
    color: [1, 2, 3] as const,
  }));
  return { bitmaps, layers };
}

/** The definition, pixel by pixel. */
function bruteForce(
  bitmaps: Bitmap[],
  width: number,
  height: number,
  { scale, tx, ty }: Transform,
): number[] {
  return Array.from({ length: width * height }, (_, at) => {
    const x = Math.floor(((at % width) + 0.5 - tx) / scale);
    const y = Math.floor((Math.floor(at / width) + 0.5 - ty) / scale);
    return bitmaps.reduce((label, bitmap, index) => {
      const inside = x >= 0 && y >= 0 && x < bitmap.width && y < bitmap.height;
      return inside && bitmap.pixels[y * bitmap.width + x] ? index + 1 : label;
    }, 0);
  });
}

describe("rasterise", () => {
  // Powers of two and quarters are exact in floating point: no pixel centre lies on a doubtful edge.
  it.each([0.25, 0.5, 1, 2, 4, 8])("agrees with the definition at scale %f", (scale) => {
    const next = random(Math.round(scale * 100));
    for (let round = 0; round < 60; round++) {
      const { bitmaps, layers } = randomLayers(next);
      const [width, height] = [1 + Math.floor(next() * 50), 1 + Math.floor(next() * 50)];
      const transform = {
        scale,
        tx: Math.round(next() * 160 - 80) / 4,
        ty: Math.round(next() * 160 - 80) / 4,
      };
      const labels = new Uint16Array(width * height).fill(77);
      rasterise(labels, width, height, transform, layers);
      expect([...labels]).toEqual(bruteForce(bitmaps, width, height, transform));
    }
  });

  it("agrees with the definition at any scale, but for centres on an edge", () => {
    const next = random(8);
    let compared = 0;
    for (let round = 0; round < 100; round++) {
      const { bitmaps, layers } = randomLayers(next);
      const [width, height] = [40, 30];
      const transform = { scale: 0.1 + next() * 9, tx: next() * 40 - 20, ty: next() * 40 - 20 };
      const labels = new Uint16Array(width * height);
      rasterise(labels, width, height, transform, layers);
      const expected = bruteForce(bitmaps, width, height, transform);
      labels.forEach((label, at) => {
        const x = ((at % width) + 0.5 - transform.tx) / transform.scale;
        if (Math.abs(x - Math.round(x)) < 1e-9) return;
        compared++;
        if (label !== expected[at]) throw new Error(`pixel ${at} of round ${round}`);
      });
    }
    expect(compared).toBeGreaterThan(100_000);
  });
});

describe("colourise", () => {
  const rows = ["........", ".######.", ".######.", ".######.", ".######.", ".######.", "........"];
  const layers: Layer[] = [{ mask: maskOf(rows), color: [255, 0, 0] }];
  const paint = (fill: number, selected: number) => {
    const labels = new Uint16Array(56);
    const pixels = new Uint32Array(56);
    rasterise(labels, 8, 7, { scale: 1, tx: 0, ty: 0 }, layers);
    colourise(pixels, labels, 8, 7, layers, { fill, outline: 1, selected });
    return (x: number, y: number) => [...new Uint8Array(pixels.buffer, 4 * (y * 8 + x), 4)];
  };

  it("fills the inside and draws the border opaque", () => {
    const at = paint(0.5, -1);
    expect(at(3, 3)).toEqual([255, 0, 0, 128]);
    expect(at(1, 3)).toEqual([255, 0, 0, 255]);
    expect(at(6, 5)).toEqual([255, 0, 0, 255]);
    expect(at(0, 3)).toEqual([0, 0, 0, 0]);
  });

  it("leaves the inside clear when only outlines are wanted", () => {
    const at = paint(0, -1);
    expect(at(3, 3)).toEqual([0, 0, 0, 0]);
    expect(at(1, 1)).toEqual([255, 0, 0, 255]);
  });

  it("lets a dim one step back", () => {
    const pixels = new Uint32Array(56);
    const labels = new Uint16Array(56).fill(1);
    const dim = layers.map((layer) => ({ ...layer, dim: true }));
    colourise(pixels, labels, 8, 7, dim, { fill: 0.8, outline: 1, selected: -1 });
    expect([...new Uint8Array(pixels.buffer, 4 * (3 * 8 + 3), 4)]).toEqual([255, 0, 0, 51]);
  });

  it("gives the selected one a light rim outside its border", () => {
    const at = paint(0.5, 0);
    expect(at(0, 3)).toEqual([255, 255, 255, 235]);
    expect(at(0, 0)).toEqual([0, 0, 0, 0]);
  });
});

it("reads colours", () => {
  expect(parseColour("#0072b2")).toEqual([0, 0x72, 0xb2]);
  expect(parseColour("what")).toEqual([128, 128, 128]);
});
