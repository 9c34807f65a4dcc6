import { describe, expect, it } from "vitest";
import { ByteCache, type ImageInfo, levelFor } from "../src/imagery";
import { dragBox, hitPrompt } from "../src/markers";
import { hideStill, isStill } from "../src/still";
import { simplify } from "../src/strokes";
import { Viewport } from "../src/viewport";
import { random } from "./helpers";

describe("tiles", () => {
  const info: ImageInfo = {
    key: "k",
    name: "n",
    width: 8000,
    height: 6000,
    preview_width: 2000,
    preview_height: 1500,
    mime: "image/jpeg",
    tile_size: 512,
    levels: 2,
  };

  it.each([
    [0.1, null],
    [0.25, null],
    [0.3, 1],
    [0.5, 1],
    [0.51, 0],
    [1, 0],
    [8, 0],
  ])("at scale %f come from level %s", (scale, level) => {
    expect(levelFor(info, scale)).toBe(level);
  });

  it("are kept up to a number of bytes, the ones in use longest", () => {
    const dropped: string[] = [];
    const cache = new ByteCache<string>(100, (value) => dropped.push(value));
    cache.set("a", "a", 40);
    cache.set("b", "b", 40);
    cache.get("a");
    cache.set("c", "c", 40);
    expect(dropped).toEqual(["b"]);
    expect(cache.bytes).toBe(80);
    cache.clear();
    expect(dropped).toEqual(["b", "a", "c"]);
    expect(cache.bytes).toBe(0);
  });
});

describe("strokes", () => {
  it("keep their shape within the tolerance and their ends exactly", () => {
    const path = Array.from({ length: 1000 }, (_, i): [number, number] => [i, 50 * Math.sin(i / 80)]);
    const slim = simplify(path, 0.5);
    expect(slim.length).toBeLessThan(150);
    expect(slim[0]).toEqual([0, 0]);
    expect(slim.at(-1)?.[0]).toBe(999);
    for (const [x, y] of path) {
      const after = slim.findIndex((position) => position[0] >= x);
      const [a, b] = [slim[Math.max(0, after - 1)], slim[after]];
      if (!a || !b) throw new Error("a part of the stroke is missing");
      const t = b[0] === a[0] ? 0 : (x - a[0]) / (b[0] - a[0]);
      expect(Math.abs(a[1] + t * (b[1] - a[1]) - y)).toBeLessThan(1);
    }
  });

  it("have a bounded number of positions, whatever the hand does", () => {
    const next = random(4);
    const path = Array.from({ length: 5000 }, (): [number, number] => [next() * 900, next() * 900]);
    expect(simplify(path, 0.1).length).toBeLessThanOrEqual(400);
  });
});

describe("prompts under the pointer", () => {
  const viewport = new Viewport();
  viewport.resize(400, 400);
  viewport.setImage(400, 400);
  const prompts = {
    points: [
      { pointId: 1, x: 100, y: 100, label: 1 as const, pending: false },
      { pointId: null, x: 300, y: 300, label: 1 as const, pending: true },
    ],
    box: { box: [50, 60, 200, 220] as const, pending: false },
    strokes: [],
  };

  it.each([
    [103, 98, { kind: "point", id: 1 }],
    [300, 300, null],
    [130, 130, null],
    [51, 150, { kind: "box", sides: { left: true, top: false, right: false, bottom: false } }],
    [199, 219, { kind: "box", sides: { left: false, top: false, right: true, bottom: true } }],
    [20, 60, null],
  ])("at %i, %i", (x, y, expected) => {
    const target = hitPrompt(prompts, 3, viewport, { x, y });
    if (expected === null) expect(target).toBeNull();
    else expect(target).toMatchObject(expected);
  });

  it("turn a box inside out without losing it", () => {
    const sides = { left: true, top: false, right: false, bottom: false };
    expect(dragBox([10, 10, 20, 20], sides, { x: 30, y: 99 })).toEqual([20, 10, 30, 20]);
  });
});

describe("the still", () => {
  const source = (comment: string) =>
    `data:image/jpeg;base64,${btoa(`\xff\xd8\xff\xfe\x00\x15${comment}${"x".repeat(200)}`)}`;

  it("is known by its mark alone", () => {
    expect(isStill(source("sam3_widget still"))).toBe(true);
    expect(isStill(source("somebody's holiday"))).toBe(false);
    expect(isStill(source("sam3_widget still").replace("jpeg", "png"))).toBe(false);
    expect(isStill("data:image/jpeg;base64,@@@@")).toBe(false);
  });

  it("is hidden beside a live view, whenever it comes, and shown again after", async () => {
    document.body.innerHTML =
      '<div class="jp-OutputArea"><div class="jp-OutputArea-child"><i></i></div><div class="jp-OutputArea-child"><img></div></div>';
    const [, still] = document.querySelectorAll(".jp-OutputArea-child");
    const image = document.querySelector("img");
    const view = document.querySelector("i");
    if (!still || !image || !view) throw new Error("the page is not as it should be");
    const ending = new AbortController();
    hideStill(view as HTMLElement, ending.signal);
    expect(still.classList.contains("sam3w-hidden-still")).toBe(false);
    image.src = source("sam3_widget still");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(still.classList.contains("sam3w-hidden-still")).toBe(true);
    ending.abort();
    expect(still.classList.contains("sam3w-hidden-still")).toBe(false);
  });

  it("is found behind what the cell printed, but not behind another view", async () => {
    const child = (inner: string) => `<div class="jp-OutputArea-child">${inner}</div>`;
    const image = `<img src="${source("sam3_widget still")}">`;
    const parts = ["<p id=one class=sam3w></p>", "a warning", image, "<p class=sam3w></p>", image];
    document.body.innerHTML = `<div class="jp-OutputArea">${parts.map(child).join("")}</div>`;
    const ending = new AbortController();
    hideStill(document.querySelector("#one") as HTMLElement, ending.signal);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const hidden = [...document.querySelectorAll(".jp-OutputArea-child")].map((each) =>
      each.classList.contains("sam3w-hidden-still"),
    );
    expect(hidden).toEqual([false, false, true, false, false]);
    ending.abort();
  });
});
