/** The canvas: paints the picture, the masks and the prompts whenever something has changed. */

import type { Prompts } from "./commands";
import type { Mode } from "./concepteditor";
import type { Concepts } from "./concepts";
import { node } from "./dom";
import { drawConcept, drawExemplarBox } from "./exemplars";
import type { Imagery } from "./imagery";
import {
  drawBox,
  drawCrosshair,
  drawPoint,
  drawStroke,
  NEGATIVE,
  type PromptRef,
  samePrompt,
} from "./markers";
import { type Layer, Painter, parseColour } from "./painter";
import { type Box, drawOrder, type State } from "./state";
import type { Path } from "./strokes";
import { type Spot, Viewport } from "./viewport";

/** What a gesture under way would do. */
export type Draft =
  | { kind: "box" | "exemplar"; box: Box; positive: boolean }
  | { kind: "stroke"; path: Path; radius: number; positive: boolean }
  | { kind: "point"; id: number; at: Spot };

export interface Scene {
  state: State | null;
  prompts: Prompts;
  concepts: Concepts;
  mode: Mode;
  colour: string;
  chosen: PromptRef | null;
  draft: Draft | null;
  /** Image position of the keyboard's cursor while it is in use. */
  cursor: Spot | null;
  brush: { at: Spot; radius: number; positive: boolean } | null;
  opacity: number;
  outlineOnly: boolean;
  /** The concept beside whose finds all others are dim. */
  lit: number | null;
}

export class Stage {
  readonly viewport = new Viewport();
  readonly canvas = node("canvas", { "data-testid": "sam3w-canvas", class: "sam3w-canvas", tabindex: -1 });
  /** The brush's outline, which takes the place of the pointer and so is no part of the picture. */
  #ring = node("div", { class: "sam3w-ring", hidden: true });
  readonly element = node("div", { class: "sam3w-stage" }, this.canvas, this.#ring);
  #painter = new Painter();
  #masksKey: readonly unknown[] = [];
  #frame = 0;
  #ratio = 1;
  #imagery: Imagery;
  #scene: () => Scene;
  #onPainted: () => void;

  constructor(imagery: Imagery, scene: () => Scene, onPainted: () => void, signal: AbortSignal) {
    this.#imagery = imagery;
    this.#scene = scene;
    this.#onPainted = onPainted;
    const observer = new ResizeObserver(() => this.#resize());
    observer.observe(this.element);
    signal.addEventListener("abort", () => {
      observer.disconnect();
      cancelAnimationFrame(this.#frame);
      // A frame asked for later would draw on pictures that are closed.
      this.#frame = -1;
    });
  }

  invalidate(): void {
    if (this.#frame !== 0) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  /** After any move of the view. */
  moved(): void {
    this.#imagery.settle(this.viewport, this.#ratio);
    this.invalidate();
  }

  #resize(): void {
    const { clientWidth, clientHeight } = this.element;
    if (clientWidth === 0 || clientHeight === 0) return;
    this.viewport.resize(clientWidth, clientHeight);
    this.moved();
  }

  #paint(): void {
    const context = this.canvas.getContext("2d");
    if (context === null) return;
    const { viewport } = this;
    const ratio = Math.max(1, window.devicePixelRatio || 1);
    const width = Math.round(viewport.width * ratio);
    const height = Math.round(viewport.height * ratio);
    this.#ratio = ratio;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const scene = this.#scene();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#imagery.draw(context, viewport, ratio);
    if (scene.state !== null) this.#paintMasks(context, width, height, ratio, scene.state, scene);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#paintPrompts(context, scene);
    this.canvas.dataset.sam3wTransform = `${viewport.scale} ${viewport.tx} ${viewport.ty}`;
    this.#onPainted();
  }

  #paintMasks(
    context: CanvasRenderingContext2D,
    width: number,
    height: number,
    ratio: number,
    state: State,
    { opacity, outlineOnly, lit }: Scene,
  ): void {
    const { scale, tx, ty } = this.viewport;
    const { instances, selected } = state;
    const key = [instances, selected, opacity, outlineOnly, lit, scale, tx, ty, width, height];
    if (key.some((part, index) => part !== this.#masksKey[index])) {
      const drawn = drawOrder(state);
      const layers = drawn.map(
        ({ mask, color, concept_id }) =>
          ({ mask, color: parseColour(color), dim: lit !== null && concept_id !== lit }) as Layer,
      );
      this.#painter.paint(width, height, { scale: scale * ratio, tx: tx * ratio, ty: ty * ratio }, layers, {
        fill: outlineOnly ? 0 : opacity,
        outline: Math.max(1, Math.round(1.75 * ratio)),
        selected: drawn.findIndex((instance) => instance.object_id === selected),
      });
      this.#masksKey = key;
    }
    if (instances.length > 0) context.drawImage(this.#painter.canvas, 0, 0);
  }

  #placeRing(brush: Scene["brush"]): void {
    this.#ring.hidden = brush === null;
    if (brush === null) return;
    const { x, y } = this.viewport.toCss(brush.at.x, brush.at.y);
    const side = Math.max(3, 2 * brush.radius * this.viewport.scale);
    this.#ring.classList.toggle("sam3w-erasing", !brush.positive);
    Object.assign(this.#ring.style, {
      width: `${side}px`,
      height: `${side}px`,
      transform: `translate(${x - side / 2}px, ${y - side / 2}px)`,
    });
  }

  #paintPrompts(context: CanvasRenderingContext2D, scene: Scene): void {
    this.#paintConcepts(context, scene);
    // What belongs to one object cannot be grasped in concept mode, and would look like an exemplar there.
    if (scene.mode === "object") this.#paintObject(context, scene);
    this.#paintDraft(context, scene);
    this.#placeRing(scene.brush);
    if (scene.cursor !== null) {
      drawCrosshair(context, this.viewport.toCss(scene.cursor.x, scene.cursor.y), POSITIVE_CURSOR);
    }
  }

  #paintConcepts(context: CanvasRenderingContext2D, { concepts, mode, chosen }: Scene): void {
    const { list, active } = concepts;
    const id = chosen?.kind === "exemplar" ? chosen.id : null;
    for (const concept of mode === "concept" ? list : []) {
      if (concept !== active) drawConcept(context, this.viewport, concept, true, null);
    }
    if (active !== null) drawConcept(context, this.viewport, active, false, id);
  }

  #paintObject(context: CanvasRenderingContext2D, { prompts, chosen, draft, colour }: Scene): void {
    const { viewport } = this;
    for (const { path, radius, positive } of prompts.strokes) {
      drawStroke(context, viewport, path, radius, positive ? colour : NEGATIVE);
    }
    if (prompts.box !== null) {
      drawBox(context, viewport, prompts.box.box, {
        colour,
        pending: prompts.box.pending,
        selected: chosen?.kind === "box",
        handles: true,
      });
    }
    for (const point of prompts.points) {
      const moved = draft?.kind === "point" && draft.id === point.pointId ? draft.at : point;
      const ref: PromptRef | null = point.pointId === null ? null : { kind: "point", id: point.pointId };
      const selected = ref !== null && samePrompt(ref, chosen);
      drawPoint(context, viewport.toCss(moved.x, moved.y), point, selected);
    }
  }

  #paintDraft(context: CanvasRenderingContext2D, { draft, colour }: Scene): void {
    const { viewport } = this;
    if (draft?.kind === "box") {
      drawBox(context, viewport, draft.box, { colour, pending: false, selected: false, handles: false });
    } else if (draft?.kind === "exemplar") {
      const look = { pending: false, selected: false, faint: false };
      drawExemplarBox(context, viewport, draft.box, draft.positive ? 1 : 0, look);
    } else if (draft?.kind === "stroke") {
      drawStroke(context, viewport, draft.path, draft.radius, draft.positive ? colour : NEGATIVE);
    }
  }
}

const POSITIVE_CURSOR = "#fff";
