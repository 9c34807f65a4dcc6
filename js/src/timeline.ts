/** The clip below the canvas: buttons to go through it, and a lane for each object. */

import { type IconName, icon, node, setAttribute, setText } from "./dom";
import { drawLane, frameAt, xOf } from "./lanes";
import type { Mark } from "./marks";
import type { Player } from "./player";
import { type Instance, nameOfInstance, type State, sharedLabels } from "./state";
import { type ButtonSpec, toolButton } from "./toolbutton";

const LANE = 28;
const TICKS = [1, 2, 5];
const TICK_SPACE = 64;
const count = new Intl.NumberFormat("en");

export interface TimelineHost {
  select(objectId: number): void;
  takeFocus(): void;
}

/** Seconds as a clock shows them. */
export function clock(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

/** Frames of a ruler's numbers: round ones, with room between them. */
export function ticks(length: number, width: number): number[] {
  const least = (length * TICK_SPACE) / Math.max(width, 1);
  let step = 1;
  for (let power = 1; step < least; power *= 10) {
    for (const factor of TICKS) {
      step = factor * power;
      if (step >= least) break;
    }
  }
  const found: number[] = [];
  for (let frame = 0; frame < length; frame += step) found.push(frame);
  return found;
}

export class Timeline {
  readonly element: HTMLElement;
  #player: Player;
  #host: TimelineHost;
  #signal: AbortSignal;
  #buttons = new Map<string, HTMLButtonElement>();
  #field = node("input", {
    class: "sam3w-frame-field",
    inputmode: "numeric",
    "aria-label": "Frame",
    title: "Frame (frame_idx, from 0): type a number and press Enter",
    "data-testid": "sam3w-frame-field",
    spellcheck: "false",
    autocomplete: "off",
  });
  #total = node("span", { class: "sam3w-total", "data-testid": "sam3w-total" });
  #clock = node("span", { class: "sam3w-clock" });
  #ruler = node("div", {
    class: "sam3w-ruler",
    role: "slider",
    tabindex: 0,
    "aria-label": "Frame of the clip",
    "aria-valuemin": 0,
    "data-testid": "sam3w-ruler",
  });
  #numbers = node("div", { class: "sam3w-numbers", "aria-hidden": "true" });
  #span = node("div", { class: "sam3w-range", "data-testid": "sam3w-range" });
  #names = node("ul", { class: "sam3w-lane-names", "aria-label": "Objects on the timeline" });
  #lanes = node("canvas", { class: "sam3w-lanes", "data-testid": "sam3w-lanes", "aria-hidden": "true" });
  #scroller = node("div", { class: "sam3w-lane-scroller" }, this.#names, this.#lanes);
  #head = node("div", { class: "sam3w-playhead", "aria-hidden": "true" });
  #track: HTMLElement;
  #width = 0;
  #rows: number[] = [];
  #drawn: readonly unknown[] = [];
  #state: State | null = null;

  constructor(player: Player, host: TimelineHost, signal: AbortSignal) {
    this.#player = player;
    this.#host = host;
    this.#signal = signal;
    const { clip } = player;
    this.#ruler.append(this.#numbers, this.#span);
    this.#track = node("div", { class: "sam3w-track" }, this.#ruler, this.#scroller, this.#head);
    this.element = node(
      "section",
      { class: "sam3w-timeline", "aria-label": "Timeline", "data-testid": "sam3w-timeline" },
      this.#transport(clip.video),
      this.#track,
    );
    this.#listen();
  }

  /** Draws what has changed; the rest stays as it is. */
  update(state: State | null): void {
    this.#state = state;
    const player = this.#player;
    const { range, target, length } = player;
    const play = this.#buttons.get("play");
    if (play?.dataset.playing !== String(player.playing)) {
      play?.replaceChildren(icon(player.playing ? "pause" : "play"));
      play?.setAttribute("data-playing", String(player.playing));
      play?.setAttribute("aria-label", player.playing ? "Pause" : "Play");
    }
    if (!this.#field.matches(":focus")) this.#field.value = String(target);
    setText(this.#total, `/ ${length - 1}`);
    const seconds = player.seconds(target);
    setText(this.#clock, seconds === null ? "" : clock(seconds));
    setAttribute(this.#ruler, "aria-valuemax", String(length - 1));
    setAttribute(this.#ruler, "aria-valuenow", String(target));
    setAttribute(this.#ruler, "aria-valuetext", `frame ${target} of ${length - 1}`);
    this.element.dataset.sam3wFrame = String(player.shown);
    this.element.classList.toggle("sam3w-waiting", player.waiting);
    for (const name of ["range-in", "range-out"]) {
      const on = name === "range-in" ? range.first > 0 : range.last < length - 1;
      setAttribute(this.#button(name), "aria-pressed", String(on));
    }
    this.#updateNames(state);
    this.#place();
    this.#draw(state);
  }

  #transport(video: boolean): HTMLElement {
    const player = this.#player;
    const group = (...specs: ButtonSpec[]) =>
      node("div", { class: "sam3w-tools" }, ...specs.map((spec) => this.#make(spec)));
    const spec = (name: string, label: string, key: string, image: IconName, run: () => void) => ({
      name,
      label,
      key,
      icon: image,
      run,
    });
    const propagate = group(
      spec("propagate-backward", "Propagate backward", "Shift+G", "backward", () =>
        player.propagate("backward"),
      ),
      spec("propagate-both", "Propagate both ways", "", "both", () => player.propagate("both")),
      spec("propagate-forward", "Propagate forward", "G", "forward", () => player.propagate("forward")),
    );
    propagate.prepend(node("span", { class: "sam3w-transport-label" }, "Propagate"));
    if (!video) for (const each of propagate.querySelectorAll("button")) each.ariaDisabled = "true";
    return node(
      "div",
      { class: "sam3w-transport", role: "toolbar", "aria-label": "Clip" },
      group(
        spec("step-back", "Frame before", ",", "stepBack", () => player.step(-1)),
        spec("play", "Play", "K", "play", () => player.toggle()),
        spec("step-forward", "Next frame", ".", "stepForward", () => player.step(1)),
      ),
      node("label", { class: "sam3w-frame-at" }, this.#field, this.#total),
      this.#clock,
      node("span", { class: "sam3w-spring" }),
      group(
        spec("range-in", "The range begins here", "Shift+I", "rangeIn", () => player.begin()),
        spec("range-out", "The range ends here", "Shift+O", "rangeOut", () => player.end()),
      ),
      group(spec("worst", "Frame of the lowest score", "W", "worst", () => player.worst())),
      propagate,
    );
  }

  #make(spec: ButtonSpec): HTMLButtonElement {
    const button = toolButton(spec, () => this.#host.takeFocus(), this.#signal);
    this.#buttons.set(spec.name, button);
    return button;
  }

  #button(name: string): HTMLButtonElement {
    return this.#buttons.get(name) as HTMLButtonElement;
  }

  #listen(): void {
    const signal = this.#signal;
    const observer = new ResizeObserver(() => {
      this.#width = this.#lanes.clientWidth;
      this.#drawn = [];
      this.update(this.#state);
    });
    observer.observe(this.#track);
    signal.addEventListener("abort", () => observer.disconnect());
    for (const surface of [this.#ruler, this.#lanes] as HTMLElement[]) {
      surface.addEventListener("pointerdown", (event) => this.#press(event, surface), { signal });
      surface.addEventListener("pointermove", (event) => this.#hover(event), { signal });
    }
    this.#ruler.addEventListener("keydown", (event) => this.#key(event), { signal });
    this.#field.addEventListener(
      "keydown",
      (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        event.stopPropagation();
        this.#host.takeFocus();
      },
      { signal },
    );
    this.#field.addEventListener("change", () => this.#typed(), { signal });
    this.#names.addEventListener(
      "click",
      (event) => {
        const row = (event.target as Element).closest<HTMLElement>("[data-object-id]");
        if (row === null) return;
        this.#host.select(Number(row.dataset.objectId));
        if (event.detail > 0) this.#host.takeFocus();
      },
      { signal },
    );
  }

  #typed(): void {
    const frame = Number(this.#field.value.trim());
    if (this.#field.value.trim() !== "" && Number.isInteger(frame)) this.#player.go(frame);
    this.#field.value = String(this.#player.target);
  }

  /** A press goes to a frame, and a drag through them. */
  #press(event: PointerEvent, surface: HTMLElement): void {
    if (event.button !== 0) return;
    event.preventDefault();
    const left = this.#lanes.getBoundingClientRect().left;
    const go = (move: PointerEvent) => this.#player.go(this.#frameAt(move.clientX - left));
    const ending = new AbortController();
    const until = AbortSignal.any([ending.signal, this.#signal]);
    surface.setPointerCapture(event.pointerId);
    surface.addEventListener("pointermove", go, { signal: until });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      surface.addEventListener(end, () => ending.abort(), { signal: until });
    }
    if (surface === this.#lanes) {
      const row = this.#rows[Math.floor((event.clientY - surface.getBoundingClientRect().top) / LANE)];
      if (row !== undefined) this.#host.select(row);
      this.#host.takeFocus();
    } else this.#ruler.focus({ preventScroll: true });
    go(event);
  }

  #key(event: KeyboardEvent): void {
    const player = this.#player;
    const steps: Record<string, number> = {
      ArrowLeft: -1,
      ArrowDown: -1,
      ArrowRight: 1,
      ArrowUp: 1,
      PageDown: -10,
      PageUp: 10,
      Home: -player.length,
      End: player.length,
    };
    const by = steps[event.key];
    if (by === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    player.step(by);
  }

  #hover(event: PointerEvent): void {
    const box = this.#lanes.getBoundingClientRect();
    const frame = this.#frameAt(event.clientX - box.left);
    const id =
      event.currentTarget === this.#lanes ? this.#rows[Math.floor((event.clientY - box.top) / LANE)] : null;
    const instance = this.#state?.instances.find(({ object_id }) => object_id === id);
    const seconds = this.#player.seconds(frame);
    const parts = [`frame ${frame}${seconds === null ? "" : ` · ${clock(seconds)}`}`];
    if (instance !== undefined && this.#state !== null) {
      parts.push(nameOfInstance(instance, sharedLabels(this.#state.instances)));
      parts.push(...saying(this.#player.marks.of(instance.object_id).get(frame)));
    }
    setAttribute(event.currentTarget as Element, "title", parts.join(" · "));
  }

  #frameAt(x: number): number {
    return frameAt(x, { width: this.#width || 1, length: this.#player.length });
  }

  #updateNames(state: State | null): void {
    const instances = state?.instances ?? [];
    const shared = sharedLabels(instances);
    const ids = instances.map(({ object_id }) => object_id);
    if (ids.length !== this.#rows.length || ids.some((id, index) => id !== this.#rows[index])) {
      this.#rows = ids;
      this.#names.replaceChildren(...ids.map((id) => laneName(id)));
      this.element.style.setProperty("--sam3w-lane-count", String(ids.length));
    }
    instances.forEach((instance, index) => {
      const row = this.#names.children[index] as HTMLElement;
      const name = nameOfInstance(instance, shared);
      setText(row.querySelector(".sam3w-lane-text") as Element, name);
      setAttribute(row, "title", `Select ${name}`);
      row.style.setProperty("--sam3w-object", instance.color);
      row.classList.toggle("sam3w-selected", instance.object_id === state?.selected);
      const known = this.#player.marks.of(instance.object_id).size;
      setAttribute(row, "data-sam3w-known", String(known));
      setAttribute(row, "aria-label", `${name}: known on ${known} of ${this.#player.length} frames`);
    });
  }

  #place(): void {
    const { target, length, range } = this.#player;
    const width = this.#width;
    const left = this.#lanes.offsetLeft;
    this.#head.style.transform = `translateX(${left + xOf(target, { width, length })}px)`;
    this.#span.hidden = !range.chosen;
    if (range.chosen) {
      this.#span.style.left = `${(range.first / length) * width}px`;
      this.#span.style.width = `${((range.last + 1 - range.first) / length) * width}px`;
    }
  }

  #draw(state: State | null): void {
    const { marks, length } = this.#player;
    const width = this.#width;
    const instances = state?.instances ?? [];
    const looks = instances.flatMap(({ object_id, color, visible }) => [object_id, color, visible]);
    const key = [marks.revision, length, width, ...looks];
    if (
      width === 0 ||
      (key.length === this.#drawn.length && key.every((part, at) => part === this.#drawn[at]))
    ) {
      return;
    }
    this.#drawn = key;
    this.#numbers.replaceChildren(
      ...ticks(length, width).map((frame) => {
        const number = node("span", {}, String(frame));
        number.style.left = `${xOf(frame, { width, length })}px`;
        return number;
      }),
    );
    const ratio = Math.max(1, window.devicePixelRatio || 1);
    const height = LANE * instances.length;
    this.#lanes.width = Math.round(width * ratio);
    this.#lanes.height = Math.max(1, Math.round(height * ratio));
    this.#lanes.style.height = `${height}px`;
    const context = this.#lanes.getContext("2d");
    if (context === null) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    instances.forEach((instance: Instance, index) => {
      const lane = { marks: marks.of(instance.object_id), color: instance.color, faint: !instance.visible };
      drawLane(context, lane, { top: LANE * index, height: LANE, width, length });
    });
  }
}

function laneName(id: number): HTMLElement {
  return node(
    "li",
    { "data-object-id": id, "data-testid": "sam3w-lane" },
    node("button", { type: "button", class: "sam3w-lane-name" }, node("span", { class: "sam3w-lane-text" })),
  );
}

function saying(mark: Mark | undefined): string[] {
  if (mark === undefined) return ["not propagated"];
  if (mark.area === 0) return ["not in view", ...flagWords(mark)];
  const parts = mark.score === null ? [] : [`score ${mark.score.toFixed(2)}`];
  if (mark.area !== null) parts.push(`${count.format(mark.area)} px`);
  if (mark.source === "prompt") parts.push("prompted here");
  return [...parts, ...flagWords(mark)];
}

function flagWords({ flag }: Mark): string[] {
  if (flag === null) return [];
  return [flag === "score" ? "the score drops" : "the area jumps"];
}
