import { expect, it } from "vitest";
import { Viewport } from "../src/viewport";
import { random } from "./helpers";

function views(count: number, act: (view: Viewport, next: () => number) => void): void {
  const next = random(3);
  for (let round = 0; round < count; round++) {
    const view = new Viewport();
    view.resize(200 + next() * 900, 150 + next() * 600);
    view.setImage(Math.ceil(10 + next() * 5000), Math.ceil(10 + next() * 4000));
    act(view, next);
  }
}

it("goes to the image and back", () => {
  views(200, (view, next) => {
    view.zoomAt(next() * 300, next() * 200, 0.5 + next() * 4);
    const [x, y] = [next() * 500, next() * 500];
    const there = view.toImage(x, y);
    const back = view.toCss(there.x, there.y);
    expect(back.x).toBeCloseTo(x, 6);
    expect(back.y).toBeCloseTo(y, 6);
  });
});

it("keeps the place under the cursor while zooming", () => {
  views(300, (view, next) => {
    const x = view.width * (0.3 + 0.4 * next());
    const y = view.height * (0.3 + 0.4 * next());
    const before = view.toImage(x, y);
    const scale = view.scale;
    view.zoomAt(x, y, 1.1 + next());
    expect(view.scale).toBeGreaterThan(scale);
    const after = view.toImage(x, y);
    expect(after.x).toBeCloseTo(before.x, 6);
    expect(after.y).toBeCloseTo(before.y, 6);
  });
});

it("fits the whole image and centres it", () => {
  views(200, (view) => {
    view.pan(57, -31);
    view.fit();
    const { x1, y1, x2, y2 } = view.visible();
    const a = view.toCss(x1, y1);
    const b = view.toCss(x2, y2);
    expect(a.x + b.x).toBeCloseTo(view.width, 6);
    expect(a.y + b.y).toBeCloseTo(view.height, 6);
    expect(Math.min(a.x, a.y)).toBeCloseTo(0, 6);
  });
});

it("never loses the image, however far it is dragged", () => {
  views(200, (view, next) => {
    for (let step = 0; step < 20; step++) {
      view.pan((next() - 0.5) * 5000, (next() - 0.5) * 5000);
      view.zoomAt(next() * view.width, next() * view.height, 0.3 + next() * 2);
    }
    const { x1, y1, x2, y2 } = view.visible();
    expect(x2).toBeGreaterThan(x1);
    expect(y2).toBeGreaterThan(y1);
  });
});

it("goes on fitting when the page changes, and keeps a chosen zoom", () => {
  const view = new Viewport();
  view.resize(400, 400);
  view.setImage(800, 800);
  view.resize(200, 400);
  expect(view.scale).toBe(0.25);
  view.zoomAt(100, 200, 4);
  const centre = view.toImage(100, 200);
  view.resize(300, 300);
  expect(view.scale).toBe(1);
  expect(view.toImage(150, 150).x).toBeCloseTo(centre.x, 6);
});

it("clamps to the last pixel", () => {
  const view = new Viewport();
  view.setImage(10, 20);
  expect(view.clamp({ x: 99, y: -3 })).toEqual({ x: 9.99, y: 0 });
  expect(view.contains({ x: 10, y: 5 })).toBe(false);
  expect(view.contains({ x: 9.99, y: 19.99 })).toBe(true);
});
