/** Turns pointer, touch and wheel events on the canvas into what a person means by them. */

import { boxOf, cursorFor, dragBox, type Target } from "./markers";
import type { Draft } from "./stage";
import type { Box } from "./state";
import type { Path } from "./strokes";
import type { Spot, Viewport } from "./viewport";

export type Tool = "point" | "box" | "brush";

export interface Intents {
  readonly tool: Tool;
  readonly positive: boolean;
  readonly radius: number;
  /** Another image is about to be here: no press can be meant for this one. */
  readonly away: boolean;
  hit(css: Spot): Target | null;
  click(at: Spot, positive: boolean): void;
  pick(at: Spot): void;
  choose(target: Target): void;
  movePoint(pointId: number, to: Spot): void;
  drawBox(box: Box, positive: boolean): void;
  addBox(box: Box, positive: boolean): void;
  changeBox(objectId: number, box: Box): void;
  stroke(path: Path, positive: boolean): void;
  setDraft(draft: Draft | null): void;
  hover(css: Spot | null): void;
  moved(): void;
  hasFocus(): boolean;
  takeFocus(): void;
  hintWheel(): void;
}

/** One press of a button or finger, from down to up. */
interface Drag {
  move?(css: Spot, event: PointerEvent): void;
  end?(css: Spot): void;
}

const SLOP = 4;
/** A right click is often less steady, and boxes to the right button are rare. */
const RIGHT_SLOP = 10;
const LONG_PRESS_MS = 500;

export class Gestures {
  #canvas: HTMLCanvasElement;
  #viewport: Viewport;
  #intents: Intents;
  #drag: Drag | null = null;
  #pointer = -1;
  #touches = new Map<number, Spot>();
  #press: ReturnType<typeof setTimeout> | undefined;
  #hand = false;

  constructor(canvas: HTMLCanvasElement, viewport: Viewport, intents: Intents, signal: AbortSignal) {
    this.#canvas = canvas;
    this.#viewport = viewport;
    this.#intents = intents;
    canvas.addEventListener("pointerdown", (event) => this.#down(event), { signal });
    canvas.addEventListener("pointermove", (event) => this.#move(event), { signal });
    canvas.addEventListener("pointerup", (event) => this.#up(event), { signal });
    canvas.addEventListener("pointercancel", (event) => this.#lost(event), { signal });
    canvas.addEventListener("pointerleave", () => intents.hover(null), { signal });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    // Chromium starts its own scrolling on the middle button otherwise.
    canvas.addEventListener("mousedown", (event) => event.button === 1 && event.preventDefault(), { signal });
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    signal.addEventListener("abort", () => clearTimeout(this.#press));
  }

  get active(): boolean {
    return this.#drag !== null;
  }

  /** While the hand is on, a drag moves the view. */
  set hand(on: boolean) {
    this.#hand = on;
    this.#canvas.classList.toggle("sam3w-hand", on);
  }

  cancel(): boolean {
    const was = this.#drag !== null;
    this.#finish();
    return was;
  }

  #finish(): void {
    clearTimeout(this.#press);
    this.#drag = null;
    this.#pointer = -1;
    this.#canvas.classList.remove("sam3w-grabbing");
    this.#intents.setDraft(null);
  }

  #at(event: MouseEvent): Spot {
    const { left, top } = this.#canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #down(event: PointerEvent): void {
    const css = this.#at(event);
    this.#intents.takeFocus();
    if (this.#intents.away) return;
    if (event.pointerType === "touch") {
      this.#touches.set(event.pointerId, css);
      if (this.#touches.size === 2) {
        this.cancel();
        this.#drag = this.#pinch();
        return;
      }
    }
    if (this.#drag !== null) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointer = event.pointerId;
    this.#drag = this.#begin(event, css);
    if (event.pointerType === "touch" && this.#intents.tool !== "brush") {
      this.#press = setTimeout(() => {
        this.#finish();
        const at = this.#viewport.toImage(css.x, css.y);
        if (this.#viewport.contains(at)) this.#intents.click(at, false);
      }, LONG_PRESS_MS);
    }
  }

  #move(event: PointerEvent): void {
    const css = this.#at(event);
    if (this.#touches.has(event.pointerId)) this.#touches.set(event.pointerId, css);
    if (this.#drag !== null && (this.#touches.size === 2 || event.pointerId === this.#pointer)) {
      this.#drag.move?.(css, event);
    } else if (event.pointerType !== "touch") {
      this.#canvas.style.cursor = this.#hand ? "" : cursorFor(this.#hit(css));
    }
    if (event.pointerType !== "touch") this.#intents.hover(css);
  }

  #up(event: PointerEvent): void {
    const pinching = this.#touches.size === 2;
    this.#touches.delete(event.pointerId);
    if (pinching) return this.#finish();
    if (event.pointerId !== this.#pointer) return;
    const drag = this.#drag;
    const css = this.#at(event);
    this.#finish();
    if (!this.#intents.away) drag?.end?.(css);
  }

  #lost(event: PointerEvent): void {
    this.#touches.delete(event.pointerId);
    if (event.pointerId === this.#pointer || this.#touches.size < 2) this.#finish();
  }

  #hit(css: Spot): Target | null {
    return this.#intents.tool === "brush" ? null : this.#intents.hit(css);
  }

  #begin(event: PointerEvent, css: Spot): Drag {
    const at = this.#viewport.toImage(css.x, css.y);
    const left = event.button === 0;
    if (event.button === 1 || (this.#hand && left)) return this.#pan(css);
    if (!left && event.button !== 2) return {};
    if ((event.ctrlKey || event.metaKey) && left) return { end: () => this.#intents.pick(at) };
    const against = !left || event.shiftKey;
    if (this.#intents.tool === "brush" && this.#viewport.contains(at)) {
      return this.#paint(at, !against && this.#intents.positive);
    }
    const target = left && !event.shiftKey ? this.#hit(css) : null;
    const positive = against ? false : this.#intents.positive;
    if (target?.kind === "exemplar") {
      // It stays where it is, so that the next box may begin on its edge.
      return this.#clickOrBox(css, at, left, positive, () => this.#intents.choose(target));
    }
    if (target !== null) return this.#grab(css, target);
    if (!this.#viewport.contains(at)) return this.#pan(css);
    return this.#clickOrBox(css, at, left, positive, () => this.#intents.click(at, positive));
  }

  #pan(from: Spot): Drag {
    let last = from;
    this.#canvas.classList.add("sam3w-grabbing");
    return {
      move: (css) => {
        this.#viewport.pan(css.x - last.x, css.y - last.y);
        last = css;
        this.#intents.moved();
      },
    };
  }

  #clickOrBox(from: Spot, at: Spot, left: boolean, positive: boolean, click: () => void): Drag {
    const start = this.#viewport.clamp(at);
    let box: Box | null = null;
    return {
      move: (css) => {
        const far = Math.hypot(css.x - from.x, css.y - from.y) > (left ? SLOP : RIGHT_SLOP);
        if (box === null && !far) return;
        clearTimeout(this.#press);
        box = boxOf(start, this.#viewport.clamp(this.#viewport.toImage(css.x, css.y)));
        this.#intents.drawBox(box, positive);
      },
      end: () => {
        if (box === null) return click();
        // A box of less than a pixel is a slip of the hand.
        if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) this.#intents.addBox(box, positive);
      },
    };
  }

  #grab(from: Spot, target: Exclude<Target, { kind: "exemplar" }>): Drag {
    this.#intents.choose(target);
    const start = this.#viewport.toImage(from.x, from.y);
    let moved = false;
    // The grip keeps its distance to the pointer, so that nothing jumps when a drag begins off-centre.
    const shifted = (css: Spot): Spot => {
      const now = this.#viewport.toImage(css.x, css.y);
      if (target.kind === "box") return this.#viewport.clamp(now);
      return this.#viewport.clamp({ x: target.x + now.x - start.x, y: target.y + now.y - start.y });
    };
    return {
      move: (css) => {
        moved ||= Math.hypot(css.x - from.x, css.y - from.y) > SLOP;
        if (!moved) return;
        clearTimeout(this.#press);
        const to = shifted(css);
        if (target.kind === "point") this.#intents.setDraft({ kind: "point", id: target.id, at: to });
        else {
          const box = dragBox(target.box, target.sides, to);
          this.#intents.setDraft({ kind: "box", box, positive: true });
        }
      },
      end: (css) => {
        if (!moved) return;
        const to = shifted(css);
        if (target.kind === "point") return this.#intents.movePoint(target.id, to);
        const box = dragBox(target.box, target.sides, to);
        if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) this.#intents.changeBox(target.objectId, box);
      },
    };
  }

  #paint(from: Spot, positive: boolean): Drag {
    const path: Path = [[from.x, from.y]];
    const show = () =>
      this.#intents.setDraft({ kind: "stroke", path, radius: this.#intents.radius, positive });
    show();
    return {
      move: (_, event) => {
        const events = event.getCoalescedEvents?.() ?? [];
        for (const each of events.length > 0 ? events : [event]) {
          const css = this.#at(each);
          const { x, y } = this.#viewport.clamp(this.#viewport.toImage(css.x, css.y));
          path.push([x, y]);
        }
        show();
      },
      end: () => this.#intents.stroke(path, positive),
    };
  }

  #pinch(): Drag {
    const fingers = () => {
      const [a, b] = [...this.#touches.values()];
      if (a === undefined || b === undefined) return null;
      return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) };
    };
    let last = fingers();
    return {
      move: () => {
        const now = fingers();
        if (now === null || last === null) return;
        this.#viewport.pan(now.x - last.x, now.y - last.y);
        this.#viewport.zoomAt(now.x, now.y, now.apart / Math.max(1, last.apart));
        last = now;
        this.#intents.moved();
      },
    };
  }

  /** A page with a widget in it must still scroll under a wheel that only passes by. */
  #wheel(event: WheelEvent): void {
    if (!event.ctrlKey && !event.metaKey && !this.#intents.hasFocus()) return this.#intents.hintWheel();
    event.preventDefault();
    event.stopPropagation();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    // A pinch on a trackpad comes as a wheel with Ctrl and small steps.
    const pinch = event.ctrlKey && Math.abs(event.deltaY) < 40;
    const steps = Math.max(-240, Math.min(240, event.deltaY * unit)) * (pinch ? 0.01 : 0.0018);
    const { x, y } = this.#at(event);
    this.#viewport.zoomAt(x, y, Math.exp(-steps));
    this.#intents.moved();
  }
}
