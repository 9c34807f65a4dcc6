/** Draws what is known of one object along a clip: where, how large, how sure, and what looks wrong. */

import type { Mark } from "./marks";

export interface Lane {
  marks: ReadonlyMap<number, Mark>;
  color: string;
  /** Hidden objects stay on the timeline, faintly. */
  faint: boolean;
}

export interface Area {
  top: number;
  height: number;
  width: number;
  /** Frames of the clip. */
  length: number;
}

/** The middle of a frame, in pixels from the left. */
export function xOf(frame: number, { width, length }: Pick<Area, "width" | "length">): number {
  return ((frame + 0.5) / length) * width;
}

export function frameAt(x: number, { width, length }: Pick<Area, "width" | "length">): number {
  return Math.max(0, Math.min(length - 1, Math.floor((x / width) * length)));
}

/** What one column of pixels shows of the frames within it. */
interface Column {
  area: number | null;
  score: number | null;
}

/** The largest area and the lowest score of each column: neither a blink nor a slip is lost in a long clip. */
export function columnsOf(
  marks: ReadonlyMap<number, Mark>,
  { width, length }: Pick<Area, "width" | "length">,
): (Column | undefined)[] {
  const columns = new Array<Column | undefined>(Math.ceil(width)).fill(undefined);
  const wide = width / length;
  for (const [frame, { area, score }] of marks) {
    const first = Math.floor(frame * wide);
    const last = Math.max(first, Math.ceil((frame + 1) * wide) - 1);
    for (let x = first; x <= last && x < columns.length; x++) {
      const column = columns[x] ?? { area: null, score: null };
      if (area !== null) column.area = Math.max(column.area ?? 0, area);
      if (score !== null) column.score = Math.min(column.score ?? 1, score);
      columns[x] = column;
    }
  }
  return columns;
}

const PADDING = 4;
const ABSENT = 1.5;
/** Half the height of a diamond: at either end of the clip it is shown whole. */
const REACH = 5;
const WARNING = "#e0352b";

export function drawLane(context: CanvasRenderingContext2D, lane: Lane, place: Area): void {
  const { marks, color, faint } = lane;
  const bottom = place.top + place.height - PADDING;
  const room = place.height - 2 * PADDING;
  let most = 1;
  for (const { area } of marks.values()) most = Math.max(most, area ?? 0);
  const columns = columnsOf(marks, place);
  context.save();
  context.fillStyle = color;
  context.globalAlpha = faint ? 0.16 : 0.34;
  columns.forEach((column, x) => {
    if (column === undefined || column.area === null) return;
    const tall = column.area === 0 ? ABSENT : Math.max(3, (column.area / most) * room);
    context.fillRect(x, bottom - tall, 1, tall);
  });
  context.globalAlpha = faint ? 0.4 : 1;
  drawScores(context, columns, color, bottom, room);
  for (const [frame, mark] of marks) {
    const x = Math.max(REACH + 1, Math.min(place.width - REACH - 1, xOf(frame, place)));
    drawSign(context, x, place, mark, color);
  }
  context.restore();
}

function drawScores(
  context: CanvasRenderingContext2D,
  columns: readonly (Column | undefined)[],
  color: string,
  bottom: number,
  room: number,
): void {
  context.strokeStyle = color;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  context.beginPath();
  let drawing = false;
  columns.forEach((column, x) => {
    const score = column?.score ?? null;
    if (score === null || column?.area === 0) {
      drawing = false;
      return;
    }
    const y = bottom - Math.min(1, Math.max(0, score)) * room;
    if (drawing) context.lineTo(x + 0.5, y);
    else context.moveTo(x + 0.5, y);
    drawing = true;
  });
  context.stroke();
}

/** A diamond where a person said something; a triangle where the score drops, a bar where the area jumps. */
function drawSign(
  context: CanvasRenderingContext2D,
  x: number,
  { top, height }: Area,
  { source, flag }: Mark,
  color: string,
): void {
  if (source === "prompt") {
    const y = top + height / 2;
    context.beginPath();
    context.moveTo(x, y - REACH);
    context.lineTo(x + REACH, y);
    context.lineTo(x, y + REACH);
    context.lineTo(x - REACH, y);
    context.closePath();
    context.fillStyle = color;
    context.fill();
    context.strokeStyle = "#fff";
    context.lineWidth = 1.5;
    context.stroke();
  } else if (flag !== null) {
    context.fillStyle = WARNING;
    context.beginPath();
    if (flag === "score") {
      context.moveTo(x - 4, top + 1);
      context.lineTo(x + 4, top + 1);
      context.lineTo(x, top + 8);
    } else context.rect(x - 1.5, top + 1, 3, 8);
    context.fill();
  }
}
