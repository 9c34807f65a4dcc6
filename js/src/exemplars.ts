/** Exemplars on the canvas: how they look and which lies under the pointer. */

import type { DrawnConcept, DrawnExemplar } from "./concepts";
import { drawPoint, NEGATIVE, near, outlineOf, POSITIVE } from "./markers";
import type { Box, Polarity } from "./state";
import type { Spot, Viewport } from "./viewport";

type Context = CanvasRenderingContext2D;

const BADGE = 7;
const REACH = 11;

export interface ExemplarLook {
  pending: boolean;
  selected: boolean;
  /** Of another concept than the active one. */
  faint: boolean;
}

/** Where the sign of an exemplar stands: at the upper left corner of its box, as far as that is in view. */
function badgeAt(box: Box, viewport: Viewport): Spot {
  const a = viewport.toCss(box[0], box[1]);
  const b = viewport.toCss(box[2], box[3]);
  const margin = BADGE + 4;
  // A box that is out of view takes its sign with it.
  const hold = (low: number, high: number, size: number) =>
    high < margin || low > size - margin ? low : Math.min(Math.max(low, margin), size - margin);
  return { x: hold(a.x, b.x, viewport.width), y: hold(a.y, b.y, viewport.height) };
}

/** The sign of an exemplar under the pointer, or its edge where `edges` says so; of several the newest. */
export function hitExemplar(
  exemplars: readonly DrawnExemplar[],
  viewport: Viewport,
  css: Spot,
  edges: boolean,
): number | null {
  let edge: number | null = null;
  for (const { exemplarId, box, point } of [...exemplars].reverse()) {
    if (exemplarId === null) continue;
    const at = box !== null ? badgeAt(box, viewport) : point && viewport.toCss(point[0], point[1]);
    if (at && Math.hypot(at.x - css.x, at.y - css.y) <= REACH) return exemplarId;
    if (edges && edge === null && box !== null && near(box, viewport, css) !== null) edge = exemplarId;
  }
  return edge;
}

function drawSign(context: Context, { x, y }: Spot, positive: Polarity, selected: boolean): void {
  const square = (half: number, colour: string, round: number) => {
    context.beginPath();
    context.roundRect(x - half, y - half, 2 * half, 2 * half, round);
    context.fillStyle = colour;
    context.fill();
  };
  if (selected) square(BADGE + 4, "#ffd54a", 5);
  square(BADGE + 2.5, "rgba(0, 0, 0, 0.45)", 4.5);
  square(BADGE + 1.5, "#fff", 4);
  square(BADGE, positive ? POSITIVE : NEGATIVE, 3);
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(x - 3.2, y);
  context.lineTo(x + 3.2, y);
  if (positive) {
    context.moveTo(x, y - 3.2);
    context.lineTo(x, y + 3.2);
  }
  context.stroke();
}

/** Solid, where the boxes of single objects are dashed. */
export function drawExemplarBox(
  context: Context,
  viewport: Viewport,
  box: Box,
  positive: Polarity,
  { pending, selected, faint }: ExemplarLook,
): void {
  const path = outlineOf(box, viewport);
  context.save();
  context.globalAlpha = faint ? 0.55 : pending ? 0.6 : 1;
  if (!faint) {
    context.strokeStyle = "rgba(0, 0, 0, 0.5)";
    context.lineWidth = selected ? 7 : 4.5;
    context.stroke(path);
  }
  if (selected) {
    context.strokeStyle = "#ffd54a";
    context.lineWidth = 5.5;
    context.stroke(path);
  }
  context.strokeStyle = positive ? POSITIVE : NEGATIVE;
  context.lineWidth = faint ? 1.25 : 2.5;
  context.stroke(path);
  if (!faint) drawSign(context, badgeAt(box, viewport), positive, selected);
  context.restore();
}

/** The click that says "only this one". */
function drawPin(context: Context, { x, y }: Spot, colour: string): void {
  const path = new Path2D();
  path.arc(x, y - 13, 6.5, 0.8 * Math.PI, 0.2 * Math.PI);
  path.lineTo(x, y);
  path.closePath();
  context.save();
  context.lineJoin = "round";
  context.strokeStyle = "rgba(0, 0, 0, 0.5)";
  context.lineWidth = 4.5;
  context.stroke(path);
  context.strokeStyle = "#fff";
  context.lineWidth = 2.5;
  context.stroke(path);
  context.fillStyle = colour;
  context.fill(path);
  context.beginPath();
  context.arc(x, y - 13, 2.25, 0, 2 * Math.PI);
  context.fillStyle = "#fff";
  context.fill();
  context.restore();
}

export function drawConcept(
  context: Context,
  viewport: Viewport,
  concept: DrawnConcept,
  faint: boolean,
  chosen: number | null,
): void {
  for (const { exemplarId, box, point, positive, pending } of concept.exemplars) {
    const selected = exemplarId !== null && exemplarId === chosen;
    if (box !== null) {
      drawExemplarBox(context, viewport, box, positive, { pending, selected, faint });
    } else if (point !== null && !faint) {
      const [x, y] = point;
      drawPoint(context, viewport.toCss(x, y), { label: positive, pending: true }, selected);
    }
  }
  if (concept.at !== null && !faint) {
    drawPin(context, viewport.toCss(concept.at[0], concept.at[1]), concept.color);
  }
}
