import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Cells, PITCH } from "../src/cells";
import { Connection } from "../src/connection";
import { Dataset, type DatasetNews } from "../src/dataset";
import { Thumbs } from "../src/thumbs";
import { Wire, wireState } from "./helpers";

let wire: Wire;
let ending: AbortController;
let connection: Connection;
let dataset: Dataset;
let arrivals: number;

const tick = () => new Promise((resolve) => setTimeout(resolve, 2));
const thumbs = () => wire.sent.filter(({ type }) => type === "thumb");
const asked = () => thumbs().map(({ payload }) => (payload as { image_idx: number }).image_idx);
const news = (rows: DatasetNews["rows"], more: Partial<DatasetNews> = {}): DatasetNews => ({
  whole: false,
  rows,
  classes: [],
  applied: null,
  ...more,
});

/** Answers the request for one thumbnail, or, with a code, refuses it. */
async function answer(index: number, code?: string): Promise<void> {
  const { id } = thumbs().findLast(
    ({ payload }) => (payload as { image_idx: number }).image_idx === index,
  ) ?? { id: "never asked" };
  if (code === undefined) {
    const told = { image_idx: index, mime: "image/jpeg", width: 160, height: 120 };
    wire.say(id, "thumb", 1, told, [new Uint8Array([1, 2, 3])]);
  } else wire.say(id, "error", 1, { code, message: "cannot be opened" });
  await tick();
}

beforeEach(() => {
  vi.stubGlobal("createImageBitmap", async () => ({ width: 160, height: 120, close: () => {} }));
  wire = new Wire();
  ending = new AbortController();
  arrivals = 0;
  const listener = { state() {}, progress() {}, error() {}, activity() {} };
  connection = new Connection(wire.model, listener, ending.signal);
  connection.start();
  wire.say(wire.last("hello").id, "snapshot", 1, wireState([], { image_idx: 0 }));
  const page = {
    get state() {
      return connection.state;
    },
    arrived: async () => {},
  };
  const host = { say() {}, turned() {}, changed() {}, run: async () => true };
  dataset = new Dataset({ length: 10_000, out: "labels.json", order: "given" }, connection, page, host);
});

afterEach(() => {
  ending.abort();
  vi.unstubAllGlobals();
  document.body.replaceChildren();
});

describe("thumbnails", () => {
  const make = () => new Thumbs(connection, () => arrivals++, ending.signal);

  it("are fetched two at a time, in the order that they are wanted in", async () => {
    const made = make();
    made.want([5, 4, 6, 3]);
    expect(asked()).toEqual([5, 4]);
    await answer(4);
    expect(asked()).toEqual([5, 4, 6]);
    expect(made.get(4)).not.toBeNull();
    expect(made.get(6)).toBeNull();
    expect(arrivals).toBe(1);
  });

  it("are nothing that a person waits for", () => {
    make().want([5]);
    expect(connection.outstanding).toBe(0);
  });

  it("are still to come after a hello that was asked later is answered", async () => {
    const made = make();
    made.want([5]);
    wire.emit("comm_live_update");
    await tick();
    wire.say(wire.last("hello").id, "snapshot", 2, wireState([], { image_idx: 0 }));
    await answer(5);
    expect(made.get(5)).not.toBeNull();
  });

  it("are not fetched once they have scrolled away", async () => {
    const made = make();
    made.want([1, 2, 3, 4]);
    made.want([90, 91]);
    await answer(1);
    await answer(2);
    expect(asked()).toEqual([1, 2, 90, 91]);
  });

  it("are asked for once, also where there are none", async () => {
    const made = make();
    made.want([1, 2]);
    await answer(1);
    await answer(2, "unreadable");
    made.want([1, 2]);
    expect(asked()).toEqual([1, 2]);
    expect([made.failure(1), made.failure(2)]).toEqual([null, "cannot be opened"]);
  });

  it("of other files are asked for again, and late ones of the old are dropped", async () => {
    const made = make();
    made.want([1, 2]);
    await answer(1);
    made.clear();
    expect(made.get(1)).toBeNull();
    await answer(2);
    expect(made.get(2)).toBeNull();
    made.want([1, 2]);
    expect(asked()).toEqual([1, 2, 1, 2]);
  });

  it("are kept up to a number of bytes", async () => {
    const closed = vi.fn();
    vi.stubGlobal("createImageBitmap", async () => ({ width: 1600, height: 1200, close: closed }));
    const made = make();
    for (let index = 0; index < 5; index++) {
      made.want([index]);
      await answer(index);
    }
    expect(closed).toHaveBeenCalledTimes(2);
    expect([made.get(1), made.get(4)].map((each) => each === null)).toEqual([true, false]);
  });
});

describe("the strip", () => {
  let cells: Cells;
  let released: number;

  const shown = () =>
    [...cells.element.querySelectorAll<HTMLElement>(".sam3w-cell")].map((cell) =>
      Number(cell.dataset.imageIdx),
    );
  const cell = (index: number) => {
    const found = cells.element.querySelector<HTMLElement>(`[data-image-idx="${index}"]`);
    if (found === null) throw new Error(`there is no cell of image ${index}`);
    return found;
  };
  const press = (index: number, key: string) =>
    cell(index).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  function scroll(left: number): void {
    cells.element.scrollLeft = left;
    cells.element.dispatchEvent(new Event("scroll"));
  }

  beforeEach(() => {
    const images = new Thumbs(connection, () => {}, ending.signal);
    released = 0;
    cells = new Cells(dataset, images, () => released++, ending.signal);
    Object.defineProperty(cells.element, "clientWidth", { value: 880 });
    document.body.append(cells.element);
    dataset.refresh();
    cells.update();
  });

  it("of ten thousand images has elements for those in view", () => {
    expect(shown()).toEqual(Array.from({ length: 12 }, (_, k) => k));
    scroll(5000 * PITCH);
    expect(shown()).toEqual(Array.from({ length: 15 }, (_, k) => 4997 + k));
    expect(cell(5000).style.left).toBe(`${5000 * PITCH}px`);
    expect(cells.element.querySelector<HTMLElement>(".sam3w-film-spacer")?.style.width).toBe(
      `${10_000 * PITCH}px`,
    );
  });

  it("keeps the elements of what stays in view, in order", () => {
    const before = cell(8);
    scroll(6 * PITCH);
    expect(cell(8)).toBe(before);
    expect(shown()).toEqual(Array.from({ length: 15 }, (_, k) => 3 + k));
  });

  it("asks for the pictures nearest to the middle of the view first, and for none of a broken file", async () => {
    expect(asked()).toEqual([3, 4]);
    dataset.take(news([[4004, "open", 0, null, "broken"]]));
    scroll(4000 * PITCH);
    for (const index of [3, 4]) await answer(index, "unreadable");
    expect(asked().slice(2)).toEqual([4003, 4002]);
  });

  it("brings the wanted image into view, and leaves a person's scrolling alone", () => {
    dataset.go(3000);
    cells.update();
    expect(shown()).toContain(3000);
    expect(cell(3000).getAttribute("aria-current")).toBe("true");
    scroll(0);
    dataset.take(news([[0, "accepted", 1, null, null]]));
    cells.update();
    expect(shown()[0]).toBe(0);
  });

  it("says what became of each image", () => {
    dataset.take(
      news(
        [
          [0, "accepted", 3, 0.5, null],
          [1, "open", 0, null, null],
          [2, "open", 0, null, "not an image"],
          [3, "skipped", 1, null, null],
        ],
        { names: ["a.jpg", "b.jpg", "c.jpg", "d.jpg"] },
      ),
    );
    cells.update();
    expect([0, 1, 2, 3].map((index) => cell(index).getAttribute("aria-label"))).toEqual([
      "image 1: a.jpg, 3 objects, accepted",
      "image 2: b.jpg, no objects",
      "image 3: c.jpg, cannot be opened: not an image",
      "image 4: d.jpg, 1 object, skipped",
    ]);
    expect(cell(0).querySelectorAll(".sam3w-cell-mark svg")).toHaveLength(1);
    expect([0, 1, 2].map((index) => cell(index).classList.contains("sam3w-none"))).toEqual([
      false,
      true,
      false,
    ]);
    expect(cell(2).classList.contains("sam3w-broken")).toBe(true);
  });

  it("goes to an image on a click", () => {
    cell(7).click();
    expect(dataset.target).toBe(7);
    cell(8).dispatchEvent(new MouseEvent("click", { bubbles: true, detail: 1 }));
    expect(released).toBe(1);
  });

  it("is one stop of Tab, and arrow keys move within it", () => {
    const stops = () => [...cells.element.querySelectorAll<HTMLElement>("[tabindex='0']")];
    expect(stops()).toEqual([cell(0)]);
    cell(0).focus();
    press(0, "ArrowRight");
    press(1, "ArrowRight");
    expect(document.activeElement).toBe(cell(2));
    expect(stops()).toEqual([cell(2)]);
    press(2, "ArrowLeft");
    expect(document.activeElement).toBe(cell(1));
    press(1, "End");
    expect(document.activeElement).toBe(cell(9999));
    expect(dataset.target).toBe(0);
  });

  it("keeps the keyboard where it is when that scrolls away, and gives it up with its image", () => {
    cell(2).focus();
    scroll(5000 * PITCH);
    expect(document.activeElement).toBe(cell(2));
    expect(shown()).toHaveLength(16);
    dataset.filter = "accepted";
    cells.update();
    expect(shown()).toEqual([]);
    expect(released).toBe(1);
  });

  it("has the cells of the filter, side by side", () => {
    dataset.take(news([1, 5, 900].map((index) => [index, "rejected", 1, null, null] as const)));
    dataset.filter = "rejected";
    cells.update();
    expect(shown()).toEqual([1, 5, 900]);
    expect(cell(900).style.left).toBe(`${2 * PITCH}px`);
  });
});
