/** What is half drawn: a box of which one corner is set, and what the keyboard's cursor draws. */

import type { Tool } from "./gestures";
import { boxOf } from "./markers";
import type { Draft } from "./stage";
import type { Box } from "./state";
import type { Path } from "./strokes";
import type { Spot, Viewport } from "./viewport";

export interface PenHost {
  readonly tool: Tool;
  readonly positive: boolean;
  readonly radius: number;
  readonly hovered: Spot | null;
  click(at: Spot, positive: boolean): void;
  /** Shows a box before it is one; false, with the reason said, where there can be none. */
  drawBox(box: Box, positive: boolean): boolean;
  addBox(box: Box, positive: boolean): void;
  stroke(path: Path, positive: boolean): void;
  setDraft(draft: Draft | null): void;
  say(message: string): void;
}

export class Pen {
  /** Image position of the keyboard's cursor; null until an arrow key is used. */
  cursor: Spot | null = null;
  #corner: { at: Spot; positive: boolean } | null = null;
  #stroke: { path: Path; positive: boolean } | null = null;
  #viewport: Viewport;
  #host: PenHost;

  constructor(viewport: Viewport, host: PenHost) {
    this.#viewport = viewport;
    this.#host = host;
  }

  move(dx: number, dy: number, fast: boolean): void {
    const viewport = this.#viewport;
    // One pixel of the picture, or of the screen where that is larger.
    const step = Math.max(1, Math.round(1 / viewport.scale)) * (fast ? 10 : 1);
    const from = this.cursor ?? this.#startingSpot();
    this.cursor = viewport.clamp({ x: from.x + dx * step, y: from.y + dy * step });
    this.follow(this.cursor);
    if (this.#stroke !== null) {
      this.#stroke.path.push([this.cursor.x, this.cursor.y]);
      this.#showStroke();
    }
    viewport.reveal(this.cursor);
  }

  /** A click at the cursor, a corner, or an end of a stroke; the first press only shows the cursor. */
  enter(against: boolean): void {
    const { tool } = this.#host;
    if (this.cursor === null) {
      this.cursor = this.#startingSpot();
      return;
    }
    const positive = against ? false : this.#host.positive;
    if (tool !== "brush") return this.#host.click(this.cursor, positive);
    if (this.#stroke === null) {
      this.#stroke = { path: [[this.cursor.x, this.cursor.y]], positive };
      this.#showStroke();
      return this.#host.say("Stroke begun: arrow keys paint, Enter ends it");
    }
    const stroke = this.#stroke;
    this.drop();
    this.#host.stroke(stroke.path, stroke.positive);
  }

  /** Two corners make a box, for those who do not drag. */
  corner(at: Spot, positive: boolean): void {
    if (this.#corner === null) {
      if (!this.#host.drawBox(boxOf(at, at), positive)) return;
      this.#corner = { at, positive };
      return this.#host.say("First corner set: now the opposite one");
    }
    const first = this.#corner;
    const box = boxOf(first.at, at);
    this.drop();
    if (box[2] - box[0] < 1 || box[3] - box[1] < 1) return this.#host.say("The box has no area.");
    this.#host.addBox(box, first.positive);
  }

  /** The box that is being drawn ends where the pointer or the cursor is. */
  follow(to: Spot): void {
    if (this.#corner !== null) this.#host.drawBox(boxOf(this.#corner.at, to), this.#corner.positive);
  }

  /** Gives up what is half drawn; returns whether there was anything. */
  drop(): boolean {
    const had = this.#corner !== null || this.#stroke !== null;
    this.#corner = null;
    this.#stroke = null;
    this.#host.setDraft(null);
    return had;
  }

  /** Where the pointer last was, else the middle of what is in view. */
  #startingSpot(): Spot {
    const { hovered } = this.#host;
    if (hovered !== null && this.#viewport.contains(hovered)) return hovered;
    const { x1, y1, x2, y2 } = this.#viewport.visible();
    return this.#viewport.clamp({ x: Math.floor((x1 + x2) / 2) + 0.5, y: Math.floor((y1 + y2) / 2) + 0.5 });
  }

  #showStroke(): void {
    if (this.#stroke === null) return;
    this.#host.setDraft({ kind: "stroke", radius: this.#host.radius, ...this.#stroke });
  }
}
