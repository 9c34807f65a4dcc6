import { afterEach, beforeEach, describe, expect, it } from "vitest";
import widget from "../src/index";
import { encodeRows, Wire, wireInstance, wireState } from "./helpers";

let wire: Wire;
let ending: AbortController;
let el: HTMLElement;

const frame = () => new Promise((resolve) => setTimeout(resolve, 40));
const find = (selector: string) => {
  const found = el.querySelector<HTMLElement>(selector);
  if (found === null) throw new Error(`there is no ${selector}`);
  return found;
};

beforeEach(() => {
  wire = new Wire();
  wire.values = { opacity: 0.5, outline: false, height: 400 };
  ending = new AbortController();
  el = document.createElement("div");
  document.body.append(el);
  widget.render({ model: wire.model, el, signal: ending.signal });
});

afterEach(() => {
  ending.abort();
  document.body.replaceChildren();
});

async function begin(): Promise<void> {
  const instances = [
    wireInstance(1, { mask: 0, label: "cup", points: [[7, 1, 0, 1]], candidates: [0.93, 0.71] }),
    wireInstance(2, { mask: 0 }),
  ];
  const state = wireState(instances, { selected: 1, history: { undo: "Add point", redo: null } });
  wire.say(wire.last("hello").id, "snapshot", 4, state, [encodeRows(["#."])]);
  await frame();
}

const rows = () => [...el.querySelectorAll<HTMLElement>(".sam3w-row")];

describe("a view", () => {
  it("says hello and is busy until it is answered", () => {
    expect(wire.sent.map(({ type }) => type)).toEqual(["hello"]);
    expect(find(".sam3w").dataset.sam3wState).toBe("busy");
  });

  it("lists the objects, with details of the selected one alone", async () => {
    await begin();
    expect(rows().map((row) => row.dataset.objectId)).toEqual(["1", "2"]);
    expect(rows()[0]?.getAttribute("aria-current")).toBe("true");
    expect(rows()[0]?.querySelectorAll("[data-action=candidate]")).toHaveLength(2);
    expect(rows()[0]?.querySelector("[data-testid=sam3w-chip]")?.textContent).toBe("+1, 0");
    expect(rows()[1]?.querySelectorAll("[data-testid=sam3w-chip]")).toHaveLength(0);
    expect(find("[data-testid=sam3w-undo]").title).toBe("Undo: Add point (Ctrl+Z)");
    expect(find("[data-testid=sam3w-redo]").hasAttribute("disabled")).toBe(true);
  });

  it("keeps the elements of rows that did not change", async () => {
    await begin();
    const before = rows();
    wire.say(null, "patch", 5, { base: 4, instances: [wireInstance(3)], removed: [1] });
    await frame();
    expect(rows().map((row) => row.dataset.objectId)).toEqual(["2", "3"]);
    expect(rows()[0]).toBe(before[1]);
  });

  it("asks for what its controls say", async () => {
    await begin();
    rows()[1]?.querySelector<HTMLElement>("[data-action=visible]")?.click();
    expect(wire.last("command").payload).toEqual({
      name: "set_visible",
      args: { object_id: 2, visible: false },
    });
    rows()[0]?.querySelector<HTMLElement>("[data-action=drop]")?.click();
    expect(wire.last("command").payload).toEqual({ name: "remove_point", args: { point_id: 7 } });
  });

  it("shows an error until it is dismissed, then is itself again", async () => {
    await begin();
    find("[data-testid=sam3w-undo]").click();
    wire.say(wire.last("command").id, "error", 4, { code: "refused", message: "Not now" });
    await frame();
    expect(find(".sam3w").dataset.sam3wState).toBe("error");
    expect(find("[data-testid=sam3w-error-text]").textContent).toBe("Not now");
    find("[data-testid=sam3w-dismiss]").click();
    await frame();
    expect(find("[data-testid=sam3w-error]").hidden).toBe(true);
  });

  it("gives a label back that the kernel refused", async () => {
    await begin();
    const label = find("[data-object-id='1'] .sam3w-label") as HTMLInputElement;
    label.value = "mug";
    label.dispatchEvent(new Event("change", { bubbles: true }));
    expect(wire.last("command").payload).toEqual({
      name: "set_label",
      args: { object_id: 1, label: "mug" },
    });
    wire.say(wire.last("command").id, "error", 4, { code: "refused", message: "It is locked" });
    await frame();
    expect(label.value).toBe("cup");
  });

  it("keeps the keyboard when a button it was on is disabled, and gives it up to a press outside", async () => {
    await begin();
    find("[data-testid=sam3w-reset]").focus();
    find("[data-testid=sam3w-reset]").click();
    expect(document.activeElement).toBe(find("canvas"));
    find("[data-testid=sam3w-undo]").focus();
    wire.say(null, "patch", 5, { base: 4, set: { history: { undo: null, redo: "Add point" } } });
    await frame();
    expect(document.activeElement).toBe(find("canvas"));
    find("canvas").dispatchEvent(new Event("pointerdown", { bubbles: true }));
    expect(document.activeElement).toBe(find("canvas"));
    document.body.dispatchEvent(new Event("pointerdown", { bubbles: true }));
    expect(document.activeElement).toBe(document.body);
  });

  it("changes a small brush by whole pixels from the keyboard", async () => {
    await begin();
    find("[data-testid=sam3w-tool-brush]").click();
    const slider = find("[data-testid=sam3w-radius]") as HTMLInputElement;
    const sizes: (string | null)[] = [];
    const step = async (by: number) => {
      slider.value = String(Number(slider.value) + by);
      slider.dispatchEvent(new Event("input"));
      await frame();
      sizes.push(slider.getAttribute("aria-valuetext"));
    };
    slider.value = "0";
    await step(0);
    for (const by of [1, 1, 1, -1]) await step(by);
    expect(sizes).toEqual(["1 pixels", "2 pixels", "3 pixels", "4 pixels", "3 pixels"]);
  });

  it("does not overwrite a number that is being typed", async () => {
    await begin();
    const holes = find("[data-testid=sam3w-holes]") as HTMLInputElement;
    holes.focus();
    holes.value = "";
    holes.dispatchEvent(new Event("input"));
    wire.say(null, "patch", 5, { base: 4, set: { selected: 2 } });
    await frame();
    expect(holes.value).toBe("");
    holes.value = "2.6";
    holes.dispatchEvent(new Event("input"));
    expect(wire.last("command").payload).toMatchObject({ name: "set_fill_holes", args: { area: 3 } });
    wire.say(wire.last("command").id, "error", 5, { code: "refused", message: "No" });
    await frame();
    holes.blur();
    expect(holes.value).toBe("0");
  });

  it("leaves nothing behind", async () => {
    await begin();
    expect(wire.listeners).toBeGreaterThan(3);
    ending.abort();
    expect(wire.listeners).toBe(0);
    expect(el.children).toHaveLength(0);
  });
});

it("ends by the returned function where a host gives no signal", () => {
  const other = new Wire();
  const place = document.createElement("div");
  const end = widget.render({ model: other.model, el: place });
  expect(place.children).toHaveLength(1);
  end();
  expect(place.children).toHaveLength(0);
  expect(other.listeners).toBe(0);
});
