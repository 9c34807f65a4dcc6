/** Prompts on the canvas: how they look and what lies under the pointer. */

import type { DrawnPoint, Prompts } from "./commands";
import type { Box } from "./state";
import type { Spot, Viewport } from "./viewport";

export type PromptRef =
  | { kind: "point"; id: number }
  | { kind: "box"; objectId: number }
  | { kind: "stroke"; id: number }
  | { kind: "exemplar"; id: number };

/** The sides of a box that a drag moves. */
export interface Sides {
  left: boolean;
  top: boolean;
  right: boolean;
  bottom: boolean;
}

export type Target =
  | { kind: "point"; id: number; x: number; y: number }
  | { kind: "box"; objectId: number; box: Box; sides: Sides }
  | { kind: "exemplar"; id: number };

export const POSITIVE = "#1fa34a";
export const NEGATIVE = "#e0352b";
const RADIUS = 7;
const REACH = 10;
const EDGE_REACH = 6;

export function samePrompt(a: PromptRef | null, b: PromptRef | null): boolean {
  if (a === null || b === null || a.kind !== b.kind) return a === b;
  return a.kind === "box" ? a.objectId === (b as typeof a).objectId : a.id === (b as typeof a).id;
}

export function hitPrompt(
  prompts: Prompts,
  objectId: number | null,
  viewport: Viewport,
  css: Spot,
): Target | null {
  let nearest: Target | null = null;
  let reach = REACH;
  for (const { pointId, x, y } of prompts.points) {
    const at = viewport.toCss(x, y);
    const distance = Math.hypot(at.x - css.x, at.y - css.y);
    if (pointId === null || distance > reach) continue;
    reach = distance;
    nearest = { kind: "point", id: pointId, x, y };
  }
  if (nearest !== null || prompts.box === null || objectId === null) return nearest;
  const { box } = prompts.box;
  const sides = near(box, viewport, css);
  return sides === null ? null : { kind: "box", objectId, box, sides };
}

/** The sides of a box that lie under the pointer. */
export function near(box: Box, viewport: Viewport, css: Spot): Sides | null {
  const a = viewport.toCss(box[0], box[1]);
  const b = viewport.toCss(box[2], box[3]);
  const on = (value: number, edge: number) => Math.abs(value - edge) <= EDGE_REACH;
  const between = (value: number, low: number, high: number) =>
    value >= low - EDGE_REACH && value <= high + EDGE_REACH;
  if (!between(css.x, a.x, b.x) || !between(css.y, a.y, b.y)) return null;
  const right = on(css.x, b.x);
  const bottom = on(css.y, b.y);
  const sides = { left: !right && on(css.x, a.x), top: !bottom && on(css.y, a.y), right, bottom };
  return Object.values(sides).some(Boolean) ? sides : null;
}

/** The box with some of its sides at a new place; a side dragged past its opposite swaps with it. */
export function dragBox(box: Box, sides: Sides, to: Spot): Box {
  const x1 = sides.left ? to.x : box[0];
  const x2 = sides.right ? to.x : box[2];
  const y1 = sides.top ? to.y : box[1];
  const y2 = sides.bottom ? to.y : box[3];
  return boxOf({ x: x1, y: y1 }, { x: x2, y: y2 });
}

export function boxOf(a: Spot, b: Spot): Box {
  return [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.max(a.x, b.x), Math.max(a.y, b.y)];
}

export function cursorFor(target: Target | null): string {
  if (target === null) return "";
  if (target.kind !== "box") return "pointer";
  const { left, top, right, bottom } = target.sides;
  if ((left && top) || (right && bottom)) return "nwse-resize";
  if ((right && top) || (left && bottom)) return "nesw-resize";
  return left || right ? "ew-resize" : "ns-resize";
}

type Context = CanvasRenderingContext2D;

export function drawPoint(
  context: Context,
  at: Spot,
  point: Pick<DrawnPoint, "label" | "pending">,
  selected: boolean,
): void {
  const { x, y } = at;
  context.save();
  context.globalAlpha = point.pending ? 0.55 : 1;
  const disc = (radius: number, colour: string) => {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
  };
  if (selected) {
    disc(RADIUS + 6.5, "rgba(0, 0, 0, 0.55)");
    disc(RADIUS + 5.5, "#ffd54a");
    disc(RADIUS + 3, "rgba(0, 0, 0, 0.55)");
  }
  disc(RADIUS + 2.5, "rgba(0, 0, 0, 0.45)");
  disc(RADIUS + 1.5, "#fff");
  disc(RADIUS, point.label === 1 ? POSITIVE : NEGATIVE);
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(x - 3.2, y);
  context.lineTo(x + 3.2, y);
  if (point.label === 1) {
    context.moveTo(x, y - 3.2);
    context.lineTo(x, y + 3.2);
  }
  context.stroke();
  context.restore();
}

export function outlineOf(box: Box, viewport: Viewport): Path2D {
  const a = viewport.toCss(box[0], box[1]);
  const b = viewport.toCss(box[2], box[3]);
  const path = new Path2D();
  path.rect(Math.round(a.x) + 0.5, Math.round(a.y) + 0.5, Math.round(b.x - a.x), Math.round(b.y - a.y));
  return path;
}

export function drawBox(
  context: Context,
  viewport: Viewport,
  box: Box,
  look: { colour: string; pending: boolean; selected: boolean; handles: boolean },
): void {
  const a = viewport.toCss(box[0], box[1]);
  const b = viewport.toCss(box[2], box[3]);
  const path = outlineOf(box, viewport);
  context.save();
  context.globalAlpha = look.pending ? 0.6 : 1;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.lineWidth = 3.5;
  context.stroke(path);
  context.setLineDash([6, 4]);
  context.strokeStyle = look.selected ? "#ffd54a" : "#fff";
  context.lineWidth = 1.75;
  context.stroke(path);
  context.setLineDash([]);
  if (look.handles) {
    for (const [x, y] of [
      [a.x, a.y],
      [b.x, a.y],
      [a.x, b.y],
      [b.x, b.y],
    ] as const) {
      context.fillStyle = "rgba(0, 0, 0, 0.55)";
      context.fillRect(x - 4.5, y - 4.5, 9, 9);
      context.fillStyle = look.selected ? "#ffd54a" : "#fff";
      context.fillRect(x - 3.5, y - 3.5, 7, 7);
      context.fillStyle = look.colour;
      context.fillRect(x - 2, y - 2, 4, 4);
    }
  }
  context.restore();
}

export function drawStroke(
  context: Context,
  viewport: Viewport,
  path: readonly (readonly [number, number])[],
  radius: number,
  colour: string,
): void {
  const first = path[0];
  if (first === undefined) return;
  context.save();
  context.globalAlpha = 0.55;
  context.strokeStyle = colour;
  context.lineWidth = Math.max(1, 2 * radius * viewport.scale);
  context.lineCap = "round";
  context.lineJoin = "round";
  context.beginPath();
  const start = viewport.toCss(first[0], first[1]);
  context.moveTo(start.x, start.y);
  // A line of no length has caps only if it is drawn at all.
  if (path.length === 1) context.lineTo(start.x + 0.01, start.y);
  for (const [x, y] of path.slice(1)) {
    const at = viewport.toCss(x, y);
    context.lineTo(at.x, at.y);
  }
  context.stroke();
  context.restore();
}

export function drawCrosshair(context: Context, at: Spot, colour: string): void {
  context.save();
  for (const [style, width] of [
    ["rgba(0, 0, 0, 0.6)", 4],
    [colour, 1.75],
  ] as const) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ] as const) {
      context.moveTo(at.x + 4 * dx, at.y + 4 * dy);
      context.lineTo(at.x + 15 * dx, at.y + 15 * dy);
    }
    context.stroke();
  }
  context.restore();
}
