import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ImageInfo } from "../src/imagery";
import widget from "../src/index";
import type { WireInstance, WireState } from "../src/state";
import { encodeRows, Wire, wireInstance, wireState } from "./helpers";

let wire: Wire;
let ending: AbortController;
let el: HTMLElement;
/** What was drawn, in order: pictures by their number, and masks. */
let drawn: (number | "masks")[];
let decoding: { done(): Promise<void>; fail(): Promise<void> }[];

const frame = () => new Promise((resolve) => setTimeout(resolve, 40));
const find = (name: string) => {
  const found = el.querySelector<HTMLElement>(`[data-testid=sam3w-${name}]`);
  if (found === null) throw new Error(`there is no ${name}`);
  return found;
};
const root = () => el.querySelector<HTMLElement>(".sam3w") as HTMLElement;
const objects = () =>
  [...el.querySelectorAll<HTMLElement>(".sam3w-row")].map((row) => Number(row.dataset.objectId));
const press = (key: string, more: KeyboardEventInit = {}) =>
  find("canvas").dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }),
  );
const commands = () => wire.sent.filter(({ type }) => type === "command").map(({ payload }) => payload);

const picture = (index: number): ImageInfo => ({
  key: `key ${index}`,
  name: `${index}.jpg`,
  width: 100,
  height: 80 + index,
  preview_width: 100,
  preview_height: 80 + index,
  mime: "image/jpeg",
  tile_size: 512,
  levels: 0,
});
const image = (index: number): Pick<WireState, "image" | "image_idx"> => ({
  image: { key: `key ${index}`, name: `${index}.jpg`, width: 100, height: 80 + index },
  image_idx: index,
});

/** The traits of another picture, as one update that tells of each. */
function show(index: number): void {
  wire.values._image = picture(index);
  wire.values._preview = new Uint8Array([index]);
  wire.emit("change:_image");
  wire.emit("change:_preview");
}

/** Answers the last command with the state of an image. */
function tell(rev: number, index: number, instances: WireInstance[], removed: number[]): void {
  const patch = { base: rev - 1, set: { ...image(index), selected: null }, instances, removed };
  wire.say(wire.last("command").id, "patch", rev, patch, [encodeRows(["#."])]);
}

/** Keeps what is drawn; everything else that is asked of it does nothing. */
const context = new Proxy(
  {
    createImageData: (width: number, height: number) => ({ data: new Uint8ClampedArray(4 * width * height) }),
    drawImage: (what: { number?: number }) => drawn.push(what.number ?? "masks"),
  },
  { get: (own, name) => Reflect.get(own, name) ?? (() => undefined), set: () => true },
);
const { getContext } = HTMLCanvasElement.prototype;

beforeEach(async () => {
  decoding = [];
  drawn = [];
  HTMLCanvasElement.prototype.getContext = (() => context) as never;
  vi.stubGlobal("createImageBitmap", () => {
    const number = decoding.length;
    return new Promise((resolve, reject) =>
      decoding.push({
        done: async () => {
          resolve({ width: 100, height: 80, close: () => {}, number });
          await frame();
        },
        fail: async () => {
          reject(new Error("no"));
          await frame();
        },
      }),
    );
  });
  wire = new Wire();
  wire.values = {
    opacity: 0.5,
    outline: false,
    height: 400,
    _dataset: { length: 5, out: "labels.json", order: "given" },
    _image: picture(0),
    _preview: new Uint8Array([0]),
  };
  ending = new AbortController();
  el = document.createElement("div");
  document.body.append(el);
  widget.render({ model: wire.model, el, signal: ending.signal });
  const state = wireState([wireInstance(1, { mask: 0 }), wireInstance(2)], {
    classes: ["cup", "plate"],
    ...image(0),
  });
  wire.say(wire.last("hello").id, "snapshot", 1, state, [encodeRows(["#."])]);
  const rows = [0, 1, 2, 3, 4].map((index) => [index, "open", 0, null, null]);
  const names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"];
  wire.say(null, "dataset", 1, {
    whole: true,
    names,
    rows,
    classes: [
      ["cup", 2],
      ["plate", 0],
      ["", 1],
    ],
    applied: null,
  });
  await decoding[0]?.done();
});

afterEach(() => {
  ending.abort();
  document.body.replaceChildren();
  vi.unstubAllGlobals();
  HTMLCanvasElement.prototype.getContext = getContext;
});

describe("a folder of images", () => {
  it("shows the first one, with the way to the others", () => {
    expect(root().dataset.sam3wState).toBe("ready");
    expect(find("dataset").dataset.sam3wImage).toBe("0");
    expect((find("image-field") as HTMLInputElement).value).toBe("1");
    expect(find("image-total").textContent).toBe("/ 5");
    expect(find("image-name").textContent).toBe("a.jpg");
    expect(find("filter-open").textContent).toBe("To do5");
    expect(find("order").hidden).toBe(true);
    expect([...el.querySelectorAll("[data-testid=sam3w-class]")].map((chip) => chip.textContent)).toEqual([
      "1cup2",
      "2plate0",
    ]);
    expect(find("class-none").textContent).toBe("no class1");
  });

  it("has its keys in the help, and those of clips not", () => {
    const groups = [...find("help-sheet").querySelectorAll("h3")].map((title) => title.textContent);
    expect(groups).toContain("Images");
    expect(groups).not.toContain("Video");
  });

  it("decodes each picture once", async () => {
    press("d");
    tell(2, 1, [], [1, 2]);
    show(1);
    expect(decoding).toHaveLength(2);
  });

  it("keeps picture and objects together until the next picture is there", async () => {
    press("d");
    expect(wire.last("command").payload).toEqual({ name: "go", args: { image_idx: 1, ahead: [2, 3, 4] } });
    expect(root().dataset.sam3wState).toBe("busy");
    drawn = [];
    tell(2, 1, [wireInstance(7, { mask: 0 })], [1, 2]);
    await frame();
    expect(root().dataset.sam3wState).toBe("busy");
    show(1);
    await frame();
    expect(objects()).toEqual([1, 2]);
    expect(new Set(drawn)).toEqual(new Set([0, "masks"]));
    expect(find("dataset").dataset.sam3wImage).toBe("0");
    expect(find("canvas").getAttribute("aria-label")).toBe("Image 0.jpg");
    expect(root().dataset.sam3wState).toBe("busy");
    await decoding[1]?.done();
    expect(objects()).toEqual([7]);
    expect(find("dataset").dataset.sam3wImage).toBe("1");
    expect(find("canvas").getAttribute("aria-label")).toBe("Image 1.jpg");
    expect(root().dataset.sam3wState).toBe("ready");
  });

  it("draws no masks of the next image on the picture before", async () => {
    press("d");
    tell(2, 1, [], [1, 2]);
    show(1);
    await frame();
    drawn = [];
    press("o");
    await frame();
    // Those of the image that is still there.
    expect(drawn).toEqual([0, "masks"]);
    drawn = [];
    await decoding[1]?.done();
    expect(drawn.length).toBeGreaterThan(0);
    expect(new Set(drawn)).toEqual(new Set([1]));
  });

  it("keeps them together also where the picture comes before its state", async () => {
    press("d");
    show(1);
    await decoding[1]?.done();
    expect(find("canvas").getAttribute("aria-label")).toBe("Image 0.jpg");
    expect(root().dataset.sam3wState).toBe("busy");
    tell(2, 1, [wireInstance(7, { mask: 0 })], [1, 2]);
    await frame();
    expect(objects()).toEqual([7]);
    expect(find("canvas").getAttribute("aria-label")).toBe("Image 1.jpg");
    expect(root().dataset.sam3wState).toBe("ready");
  });

  it("takes no click while another image is on its way", async () => {
    const canvas = find("canvas") as HTMLCanvasElement;
    canvas.setPointerCapture = () => {};
    const click = () => {
      for (const type of ["pointerdown", "pointerup"]) {
        const event = { pointerId: 1, pointerType: "mouse", clientX: 1, clientY: 1, ctrlKey: true };
        canvas.dispatchEvent(new PointerEvent(type, event));
      }
    };
    const said = () => find("notice").textContent;
    press("d");
    click();
    tell(2, 1, [], [1, 2]);
    show(1);
    click();
    expect(said()).not.toBe("There is no object here to select.");
    await decoding[1]?.done();
    click();
    expect(said()).toBe("There is no object here to select.");
  });

  it("says which image it is, and not that its objects were added", () => {
    press("d");
    tell(2, 1, [wireInstance(7)], [1, 2]);
    expect(el.querySelector("[aria-live]")?.textContent).toBe("Image 2: b.jpg, no objects");
  });

  it("names the image that a command is for", async () => {
    el.querySelectorAll<HTMLElement>("[data-action=visible]")[0]?.click();
    expect(wire.last("command").payload).toEqual({
      name: "set_visible",
      args: { object_id: 1, visible: false, image_idx: 0 },
    });
    wire.say(wire.last("command").id, "patch", 2, { base: 1 });
    press("d");
    tell(3, 1, [wireInstance(7)], [1, 2]);
    show(1);
    await decoding[1]?.done();
    el.querySelectorAll<HTMLElement>("[data-action=visible]")[0]?.click();
    expect(wire.last("command").payload).toEqual({
      name: "set_visible",
      args: { object_id: 7, visible: false, image_idx: 1 },
    });
  });

  it("keeps tool, mode, brush and class from image to image", async () => {
    press("2");
    press("b");
    press("]");
    await frame();
    const brush = find("radius").getAttribute("aria-valuetext");
    press("d");
    tell(2, 1, [], [1, 2]);
    show(1);
    await decoding[1]?.done();
    expect(find("new").textContent).toBe("New plate");
    expect(find("tool-box").getAttribute("aria-pressed")).toBe("true");
    expect(find("radius").getAttribute("aria-valuetext")).toBe(brush);
    expect(el.querySelector("[data-label=plate]")?.getAttribute("aria-pressed")).toBe("true");
  });

  it("skims while D is held, one request at a time", async () => {
    for (let k = 0; k < 4; k++) press("d", { repeat: k > 0 });
    expect(commands()).toHaveLength(1);
    await frame();
    expect((find("image-field") as HTMLInputElement).value).toBe("5");
    tell(2, 1, [], [1, 2]);
    show(1);
    await frame();
    expect(commands()).toHaveLength(1);
    await decoding[1]?.done();
    expect(commands().at(-1)).toEqual({ name: "go", args: { image_idx: 4, ahead: [] } });
    expect(commands()).toHaveLength(2);
  });

  it("decides, and goes on", async () => {
    press("e");
    expect(wire.last("command").payload).toEqual({
      name: "decide",
      args: { image_idx: 0, status: "accepted" },
    });
    wire.say(wire.last("command").id, "patch", 2, { base: 1 });
    await frame();
    expect(commands().at(-1)).toEqual({ name: "go", args: { image_idx: 1, ahead: [2, 3, 4] } });
    expect(find("filter-accepted").textContent).toBe("Accepted1");
    expect(find("decided").title).toBe(
      "1 of 5 decided: 1 accepted, 0 rejected, 0 skipped, 4 to do. Written to labels.json",
    );
  });

  it("takes a decision back by the button that shows it", async () => {
    wire.say(null, "dataset", 1, {
      whole: false,
      rows: [[0, "rejected", 2, 0.4, null]],
      classes: [],
      applied: "cup",
    });
    await frame();
    expect(find("reject").getAttribute("aria-pressed")).toBe("true");
    expect(find("order").hidden).toBe(false);
    expect([find("apply").getAttribute("aria-pressed"), find("apply").title]).toEqual([
      "true",
      expect.stringMatching(/Now asked: cup$/),
    ]);
    find("reject").click();
    expect(wire.last("command").payload).toEqual({ name: "decide", args: { image_idx: 0, status: "open" } });
  });

  it("says why an image cannot be shown, and stays", async () => {
    press("d");
    wire.say(wire.last("command").id, "error", 1, { code: "unreadable", message: "b.jpg is no image" });
    await frame();
    expect(find("error-text").textContent).toBe("b.jpg is no image");
    expect((find("image-field") as HTMLInputElement).value).toBe("1");
  });

  it("goes on past a picture that the browser cannot read", async () => {
    press("d");
    tell(2, 1, [], [1, 2]);
    show(1);
    await decoding[1]?.fail();
    expect(root().dataset.sam3wState).toBe("error");
    press("d");
    expect(commands().at(-1)).toEqual({ name: "go", args: { image_idx: 2, ahead: [3, 4] } });
  });

  it("goes to the image whose number is typed", () => {
    const field = find("image-field") as HTMLInputElement;
    field.value = "4";
    field.dispatchEvent(new Event("change"));
    expect(commands()).toEqual([{ name: "go", args: { image_idx: 3, ahead: [4] } }]);
    field.value = "x";
    field.dispatchEvent(new Event("change"));
    expect([field.value, commands().length]).toEqual(["4", 1]);
    expect(find("notice").textContent).toBe("Images are numbered 1 to 5, and “x” is none of them.");
    field.value = "6";
    field.dispatchEvent(new Event("change"));
    expect([field.value, commands().length]).toEqual(["4", 1]);
  });

  it("says of a filter that it holds nothing", async () => {
    expect(find("strip-none").hidden).toBe(true);
    find("filter-rejected").click();
    await frame();
    expect([find("strip-none").hidden, find("strip-none").textContent]).toEqual([
      false,
      "No image is rejected.",
    ]);
  });

  it("shows an image with the same content as the last one at once", async () => {
    press("d");
    const same = { ...image(1), image: { ...image(0).image, name: "copy.jpg" } };
    wire.say(wire.last("command").id, "patch", 2, { base: 1, set: same, removed: [1, 2] });
    await frame();
    expect([find("dataset").dataset.sam3wImage, root().dataset.sam3wState]).toEqual(["1", "ready"]);
    expect(objects()).toEqual([]);
  });
});
