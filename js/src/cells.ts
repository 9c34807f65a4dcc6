/** The strip of thumbnails. Of ten thousand images only those in view are elements. */

import { type Dataset, type ImageStatus, NONE } from "./dataset";
import { type IconName, icon, node, setAttribute, setText } from "./dom";
import { Strip } from "./strip";
import type { Thumbs } from "./thumbs";

/** From one cell to the next; the style sheet knows the size of a cell. */
export const PITCH = 110;
const CELL = 104;
/** Cells beyond either edge, so that a scroll does not uncover nothing. */
const SPARE = 3;

export const MARKS: Record<Exclude<ImageStatus, "open">, IconName> = {
  accepted: "accept",
  rejected: "close",
  skipped: "skip",
};

interface Cell {
  element: HTMLButtonElement;
  canvas: HTMLCanvasElement;
  drawn: ImageBitmap | null;
}

export class Cells {
  readonly element = node("div", {
    class: "sam3w-film",
    role: "group",
    "aria-label": "Images",
    "data-testid": "sam3w-strip",
  });
  #spacer = node("div", { class: "sam3w-film-spacer" });
  #none = node("p", { class: "sam3w-film-none", "data-testid": "sam3w-strip-none", hidden: true });
  #cells = new Map<number, Cell>();
  #width = 0;
  #left = 0;
  /** What was last brought into view. */
  #revealed = "";
  #dataset: Dataset;
  #thumbs: Thumbs;
  #takeFocus: () => void;
  #strip: Strip;

  constructor(dataset: Dataset, thumbs: Thumbs, takeFocus: () => void, signal: AbortSignal) {
    this.#dataset = dataset;
    this.#thumbs = thumbs;
    this.#takeFocus = takeFocus;
    this.element.append(this.#spacer, this.#none);
    this.#strip = new Strip(this.element, signal);
    const observer = new ResizeObserver(() => {
      this.#width = this.element.clientWidth;
      this.#revealed = "";
      this.update();
    });
    observer.observe(this.element);
    signal.addEventListener("abort", () => observer.disconnect());
    const scrolled = () => {
      this.#left = this.element.scrollLeft;
      this.#draw();
    };
    this.element.addEventListener("scroll", scrolled, { signal, passive: true });
    this.element.addEventListener("click", (event) => this.#click(event), { signal });
    this.element.addEventListener("keydown", (event) => this.#key(event), { signal });
    // The one that has the focus is the one that Tab comes back to.
    this.element.addEventListener("focusin", () => this.#draw(), { signal });
  }

  update(): void {
    const { visible, target, filter, order } = this.#dataset;
    this.#width ||= this.element.clientWidth;
    const length = `${visible.length * PITCH}px`;
    if (this.#spacer.style.width !== length) this.#spacer.style.width = length;
    this.#none.hidden = visible.length > 0;
    setText(this.#none, NONE[filter]);
    const wanted = `${filter} ${order} ${target}`;
    if (wanted !== this.#revealed && visible.length > 0) {
      this.#revealed = wanted;
      this.#reveal(this.#dataset.placeOf(target));
    }
    this.#draw();
  }

  /** With its neighbours, so that it is plain where the next one is. */
  #reveal(place: number): void {
    const before = Math.max(0, place - 1);
    this.#strip.reveal({ offsetLeft: before * PITCH, offsetWidth: (place - before + 1) * PITCH + CELL });
    this.#left = this.element.scrollLeft;
  }

  #draw(): void {
    const { visible, target } = this.#dataset;
    const from = this.#left / PITCH;
    const to = (this.#left + this.#width) / PITCH;
    const first = Math.max(0, Math.floor(from) - SPARE);
    const last = Math.min(visible.length - 1, Math.floor(to) + SPARE);
    const places = Array.from({ length: Math.max(0, last - first + 1) }, (_, each) => first + each);
    const focused = this.#focused;
    const held = focused === null ? -1 : this.#dataset.placeOf(focused);
    if (focused !== null && visible[held] === focused) {
      // Away from the view as well: an element that goes loses the keyboard.
      if (held < first) places.unshift(held);
      else if (held > last) places.push(held);
    }
    const indices = places.map((place) => visible[place] as number);
    this.#dropOthers(new Set(indices));
    const rover = focused ?? (indices.includes(target) ? target : (indices[0] ?? -1));
    let next = this.#spacer.firstElementChild;
    places.forEach((place, at) => {
      const index = indices[at] as number;
      let cell = this.#cells.get(index);
      if (cell === undefined) {
        cell = makeCell(index);
        this.#cells.set(index, cell);
      }
      if (cell.element === next) next = next.nextElementSibling;
      else this.#spacer.insertBefore(cell.element, next);
      cell.element.style.left = `${place * PITCH}px`;
      cell.element.tabIndex = index === rover ? 0 : -1;
      this.#show(cell, index);
    });
    const middle = (from + to - 1) / 2;
    const far = (place: number) => Math.abs(place - middle);
    const nearest = [...places].sort((a, b) => far(a) - far(b)).map((place) => visible[place] as number);
    this.#thumbs.want(nearest.filter((index) => this.#dataset.row(index).error === null));
  }

  get #focused(): number | null {
    for (const [index, { element }] of this.#cells) if (element.matches(":focus")) return index;
    return null;
  }

  #dropOthers(kept: ReadonlySet<number>): void {
    for (const [index, { element }] of this.#cells) {
      if (kept.has(index)) continue;
      this.#cells.delete(index);
      const hadFocus = element.matches(":focus");
      element.remove();
      if (hadFocus) this.#takeFocus();
    }
  }

  #show({ element, canvas, drawn }: Cell, index: number): void {
    const dataset = this.#dataset;
    const row = dataset.row(index);
    const words = dataset.describe(index);
    // Of a file that cannot be opened it is the same.
    const failure = row.error === null ? this.#thumbs.failure(index) : null;
    setAttribute(element, "aria-label", words);
    setAttribute(element, "title", failure === null ? words : `${words} (no thumbnail: ${failure})`);
    setAttribute(element, "aria-current", index === dataset.target ? "true" : null);
    element.classList.toggle("sam3w-none", row.count === 0 && row.error === null);
    element.classList.toggle("sam3w-broken", row.error !== null || failure !== null);
    setText(element.querySelector(".sam3w-cell-count") as Element, row.error === null ? `${row.count}` : "");
    if (element.dataset.status !== row.status) {
      element.dataset.status = row.status;
      const mark = row.status === "open" ? [] : [icon(MARKS[row.status])];
      element.querySelector(".sam3w-cell-mark")?.replaceChildren(...mark);
    }
    const bitmap = this.#thumbs.get(index);
    if (bitmap === null || bitmap === drawn) return;
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
    const cell = this.#cells.get(index);
    if (cell !== undefined) cell.drawn = bitmap;
  }

  #indexOf(event: Event): number | null {
    const cell = (event.target as Element).closest<HTMLElement>("[data-image-idx]");
    return cell === null ? null : Number(cell.dataset.imageIdx);
  }

  #click(event: MouseEvent): void {
    const index = this.#indexOf(event);
    if (index === null) return;
    this.#dataset.go(index);
    if (event.detail > 0) this.#takeFocus();
  }

  #key(event: KeyboardEvent): void {
    const index = this.#indexOf(event);
    if (index === null || event.altKey || event.ctrlKey || event.metaKey) return;
    const { visible } = this.#dataset;
    const place = this.#dataset.placeOf(index);
    const places: Record<string, number> = {
      ArrowLeft: place - 1,
      ArrowRight: place + 1,
      Home: 0,
      End: visible.length - 1,
    };
    const wanted = places[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const to = Math.max(0, Math.min(wanted, visible.length - 1));
    this.#reveal(to);
    this.#draw();
    this.#cells.get(visible[to] ?? -1)?.element.focus({ preventScroll: true });
  }
}

function makeCell(index: number): Cell {
  const canvas = node("canvas", { class: "sam3w-thumb", width: 0, height: 0 });
  const element = node(
    "button",
    { type: "button", class: "sam3w-cell", "data-testid": "sam3w-cell", "data-image-idx": index },
    canvas,
    node("span", { class: "sam3w-cell-number" }, String(index + 1)),
    node("span", { class: "sam3w-cell-mark" }),
    node("span", { class: "sam3w-cell-count" }),
  );
  return { element, canvas, drawn: null };
}
