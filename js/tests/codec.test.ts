import { describe, expect, it } from "vitest";
import masks from "../../tests/wire/masks.json";
import { decodeRuns, encodeRuns, Mask, toBytes } from "../src/codec";
import { fromHex, maskOf, random, runsOf, toHex } from "./helpers";

interface Golden {
  name: string;
  height: number;
  width: number;
  rows: string[] | null;
  runs: number[];
  hex: string;
  error?: boolean;
}

const goldens = masks as Golden[];

describe("goldens shared with Python", () => {
  it("has good and bad ones", () => {
    expect(goldens.filter((golden) => golden.error).length).toBeGreaterThan(3);
    expect(goldens.filter((golden) => !golden.error).length).toBeGreaterThan(3);
  });

  it.each(goldens.filter((golden) => !golden.error))("$name", ({ height, width, rows, runs, hex }) => {
    const decoded = decodeRuns(fromHex(hex));
    expect([decoded.height, decoded.width]).toEqual([height, width]);
    expect([...decoded.runs]).toEqual(runs);
    expect(toHex(encodeRuns({ height, width, runs: Uint32Array.from(runs) }))).toBe(hex);
    if (rows === null) return;
    const mask = new Mask(decoded);
    const drawn = rows.map((row, y) => [...row].map((_, x) => (mask.contains(x, y) ? "#" : ".")).join(""));
    expect(drawn).toEqual(rows);
  });

  it.each(goldens.filter((golden) => golden.error))("refuses: $name", ({ hex }) => {
    expect(() => decodeRuns(fromHex(hex))).toThrow(/mask/);
  });
});

describe("round trip", () => {
  it("keeps random masks of any density", () => {
    const next = random(1);
    for (let round = 0; round < 200; round++) {
      const height = 1 + Math.floor(next() * 20);
      const width = 1 + Math.floor(next() * 30);
      const density = next();
      const pixels = Array.from({ length: height * width }, () => (next() < density ? 1 : 0));
      const runs = runsOf(pixels);
      const decoded = decodeRuns(encodeRuns({ height, width, runs }));
      expect(decoded).toEqual({ height, width, runs });
      const mask = new Mask(decoded);
      const seen = pixels.map((_, at) => (mask.contains(at % width, Math.floor(at / width)) ? 1 : 0));
      expect(seen).toEqual(pixels);
    }
  });

  it("keeps runs near 2^31", () => {
    const runs = Uint32Array.from([2 ** 31 - 1, 1, 5, 2 ** 31 - 7]);
    const height = 2;
    const width = 2 ** 31 - 1;
    expect([...decodeRuns(encodeRuns({ height, width, runs })).runs]).toEqual([...runs]);
  });
});

describe("malformed", () => {
  it.each([
    ["cut inside a number", "8001 80", /truncated/],
    ["sum too small", "02 02 03", /sum to 3/],
    ["sum too large", "02 02 05", /sum to 5/],
    ["negative run", "02 02 01 02 03 00", /negative/],
    ["number with needless bytes", "02 02 8400", /overlong/],
  ])("%s", (_, hex, message) => {
    expect(() => decodeRuns(fromHex(hex.replaceAll(" ", "")))).toThrow(message);
  });
});

it("reads a view by its own offset and length", () => {
  const whole = Uint8Array.from([9, 9, 1, 1, 1, 9]);
  expect([...toBytes(new DataView(whole.buffer, 2, 3))]).toEqual([1, 1, 1]);
});

it("knows the rows that a mask spans", () => {
  const mask = maskOf(["....", ".##.", "....", "#..#", "...."]);
  expect([mask.top, mask.bottom]).toEqual([1, 4]);
  expect(mask.contains(0, 2)).toBe(false);
  expect(mask.contains(3.9, 3.9)).toBe(true);
  expect(mask.contains(4, 3)).toBe(false);
});
