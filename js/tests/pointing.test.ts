import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Command, Commands } from "../src/commands";
import { Editor } from "../src/editor";
import { Gestures } from "../src/gestures";
import type { State, WireState } from "../src/state";
import { fromSnapshot } from "../src/state";
import { Viewport } from "../src/viewport";
import { encodeRows, wireConcept, wireInstance, wireState } from "./helpers";

/** Object 1 fills the left half of the picture; 2 is a spot in it; 3 is a locked spot in it. */
const half = encodeRows(Array.from({ length: 100 }, () => "#".repeat(50) + ".".repeat(50)));
const spot = (left: number) =>
  encodeRows(
    Array.from({ length: 100 }, (_, y) =>
      (y >= 10 && y < 20 ? ".".repeat(left) + "#".repeat(10) : "").padEnd(100, "."),
    ),
  );

const abilities = { points: true, boxes: true, text: true, exemplars: true };
const concept = wireConcept(7, {
  exemplars: [{ exemplar_id: 4, positive: 1, box: [60, 60, 90, 90], point: null }],
});

let ending: AbortController;
let canvas: HTMLCanvasElement;
let editor: Editor;
let state: State;
let away: boolean;
/** The frame or image on the canvas. */
let place: number | null;
let sent: Command[];
let said: string[];

function begin(more: Partial<WireState> = {}): void {
  const instances = [
    wireInstance(1, { mask: 0, area: 5000 }),
    wireInstance(2, { mask: 1, area: 100 }),
    wireInstance(3, { mask: 2, area: 100, locked: true }),
  ];
  const model = { name: "sam3", capabilities: abilities, advice: { exemplars: "Needs SAM 3" } };
  state = fromSnapshot(wireState(instances, { model, concepts: [concept], concept: 7, ...more }), [
    half,
    spot(10),
    spot(30),
  ]);
}

beforeEach(() => {
  ending = new AbortController();
  canvas = document.createElement("canvas");
  canvas.setPointerCapture = () => {};
  away = false;
  place = null;
  sent = [];
  said = [];
  begin();
  const connection = {
    get state() {
      return state;
    },
    get away() {
      return away;
    },
  };
  const commands = new Commands(
    async (command) => {
      sent.push(command);
      return { instances: [], selected: null, concept: null };
    },
    () => {},
    () => {},
    () => place,
  );
  const viewport = new Viewport();
  viewport.resize(400, 400);
  viewport.setImage(100, 100);
  editor = new Editor(connection, commands, viewport, {
    say: (message) => said.push(message),
    changed() {},
    moved() {},
    hasFocus: () => true,
    takeFocus() {},
  });
  new Gestures(canvas, viewport, editor, ending.signal);
});

afterEach(() => ending.abort());

type Place = [x: number, y: number];
type How = { right?: boolean; shift?: boolean };

/** A press, and a release at the last place; in pixels of the picture, of which one is four of the canvas. */
function drag(path: Place[], { right = false, shift = false }: How = {}): void {
  const event = (type: string, [x, y]: Place) =>
    canvas.dispatchEvent(
      new PointerEvent(type, {
        pointerId: 1,
        pointerType: "mouse",
        button: right ? 2 : 0,
        shiftKey: shift,
        clientX: 4 * x,
        clientY: 4 * y,
      }),
    );
  const [first = [0, 0]] = path;
  event("pointerdown", first);
  for (const place of path.slice(1)) event("pointermove", place);
  event("pointerup", path.at(-1) ?? first);
}

const click = (x: number, y: number, how: How = {}) => drag([[x, y]], how);
const asked = () => sent.map(({ name, args }) => [name, args]);

describe("object mode with nothing selected", () => {
  it.each([
    [15, 15, 2],
    [40, 50, 1],
  ])("selects what a click at %i, %i hits: there is nothing to add", (x, y, object_id) => {
    click(x, y);
    expect(asked()).toEqual([["select", { object_id }]]);
  });

  it("takes what is unlocked below a locked one", () => {
    click(35, 15);
    expect(asked()).toEqual([["select", { object_id: 1 }]]);
  });

  it("starts a new object outside all masks", () => {
    click(70, 20);
    expect(asked()).toEqual([["add_point", { x: 70, y: 20, positive: true, object_id: null }]]);
  });

  it("starts a new object on a mask when that was asked for, once", () => {
    editor.startNew();
    click(15, 15);
    expect(sent.at(-1)).toEqual({
      name: "add_point",
      args: { x: 15, y: 15, positive: true, object_id: null },
    });
  });

  it("forgets that a new object was asked for when Esc lets go of it", () => {
    editor.startNew();
    editor.back();
    click(15, 15);
    expect(asked()).toEqual([["select", { object_id: 2 }]]);
  });

  it.each([{ right: true }, { shift: true }])("refines the topmost by a click with %o", (how) => {
    click(15, 15, how);
    expect(asked()).toEqual([["add_point", { x: 15, y: 15, positive: false, object_id: 2 }]]);
  });

  it("has nothing to exclude outside all masks", () => {
    click(70, 20, { right: true });
    expect(sent).toEqual([]);
    expect(said).toEqual([expect.stringContaining("Nothing to exclude")]);
  });
});

describe("object mode with one selected", () => {
  it("gives it every click", () => {
    begin({ selected: 1 });
    click(15, 15);
    click(70, 20);
    expect(sent.map(({ args }) => "object_id" in args && args.object_id)).toEqual([1, 1]);
  });

  it.each([{ right: true }, { shift: true }])(
    "says of a box with %o that it can only include, and does nothing else",
    (how) => {
      begin({ selected: 1 });
      const path: Place[] = [
        [10, 10],
        [20, 20],
        [30, 30],
      ];
      drag(path, how);
      expect(sent).toEqual([]);
      expect(editor.draft).toBeNull();
      expect(said.at(-1)).toContain("can only include");
      expect(said.at(-1)).toContain("concept mode (C)");
    },
  );

  it.each([
    [7, 7, "select"],
    [7, 8, "add_point"],
    [null, null, "add_point"],
  ])("goes to the other find of its concept alone: of %o and %o", (mine, other, name) => {
    begin({ selected: 2 });
    const concepts = [mine, mine, other];
    const locked = false;
    const instances = state.instances.map((each, k) => ({
      ...each,
      locked,
      concept_id: concepts[k] ?? null,
    }));
    state = { ...state, instances: instances.map((each, k) => ({ ...each, label: k > 0 ? "coin" : "" })) };
    click(15, 15);
    expect(sent.at(-1)?.name).toBe("add_point");
    expect(said).toEqual([]);
    click(35, 15);
    expect(sent.at(-1)?.name).toBe(name);
    const selects = name === "select";
    expect(said).toEqual([
      selects ? "Selected coin 3: click where it is wrong" : "Added to coin 2. Ctrl+click selects coin 3.",
    ]);
  });

  it("takes an unsteady right click for a click", () => {
    begin({ selected: 1 });
    drag(
      [
        [10, 10],
        [11.5, 10],
      ],
      { right: true },
    );
    expect(asked()).toEqual([["add_point", { x: 10, y: 10, positive: false, object_id: 1 }]]);
  });

  it("speaks of no concept mode to a model without", () => {
    begin({ model: { name: "sam", capabilities: { ...abilities, exemplars: false }, advice: {} } });
    drag(
      [
        [10, 10],
        [30, 30],
      ],
      { right: true },
    );
    expect(said.at(-1)).toContain("can only include");
    expect(said.at(-1)).not.toContain("concept mode");
  });

  it("draws a box that includes", () => {
    drag([
      [10, 10],
      [30, 40],
    ]);
    expect(asked()).toEqual([["add_box", { box: [10, 10, 30, 40], object_id: null }]]);
  });
});

describe("concept mode", () => {
  beforeEach(() => editor.setMode("concept"));

  it.each([
    [{}, true],
    [{ right: true }, false],
    [{ shift: true }, false],
  ])("makes a click with %o an exemplar, and a box", (how, positive) => {
    click(15, 15, how);
    drag(
      [
        [10, 10],
        [30, 30],
        [40, 50],
      ],
      how,
    );
    expect(asked()).toEqual([
      ["add_exemplar_point", { x: 15, y: 15, positive, concept_id: 7 }],
      ["add_exemplar", { box: [10, 10, 40, 50], positive, concept_id: 7 }],
    ]);
  });

  it("shows the box while it is drawn, in its own kind", () => {
    const event = (type: string, x: number, y: number) =>
      canvas.dispatchEvent(new PointerEvent(type, { pointerId: 1, button: 2, clientX: x, clientY: y }));
    event("pointerdown", 40, 40);
    event("pointermove", 160, 200);
    expect(editor.draft).toEqual({ kind: "exemplar", box: [10, 10, 40, 50], positive: false });
    event("pointerup", 160, 200);
    expect(editor.draft).toBeNull();
  });

  it("draws boxes by their corners", () => {
    editor.setTool("box", true);
    click(10, 10, { right: true });
    click(40, 50);
    expect(asked()).toEqual([["add_exemplar", { box: [10, 10, 40, 50], positive: false, concept_id: 7 }]]);
  });

  it("excludes nothing before there is a concept", () => {
    begin({ concepts: [], concept: null });
    click(15, 15, { right: true });
    drag(
      [
        [10, 10],
        [40, 50],
      ],
      { right: true },
    );
    expect(sent).toEqual([]);
    expect(said.at(-1)).toContain("Nothing to exclude from");
    click(15, 15);
    expect(asked()).toEqual([["add_exemplar_point", { x: 15, y: 15, positive: true }]]);
  });

  it("start a concept of the class that was chosen, and leave one that is there its own", () => {
    editor.label = "cup";
    begin({ concepts: [], concept: null });
    click(15, 15);
    expect(asked()).toEqual([["add_exemplar_point", { x: 15, y: 15, positive: true, label: "cup" }]]);
    begin({ concept: 7 });
    click(15, 15);
    expect(asked().at(-1)).toEqual(["add_exemplar_point", { x: 15, y: 15, positive: true, concept_id: 7 }]);
  });

  it.each([
    [75, 60],
    [61, 59],
  ])("chooses an exemplar by its edge or its sign at %i, %i, flips and deletes it", (x, y) => {
    click(x, y);
    expect(editor.chosen).toEqual({ kind: "exemplar", id: 4 });
    editor.flip();
    editor.remove();
    expect(asked()).toEqual([
      ["flip_exemplar", { exemplar_id: 4 }],
      ["remove_exemplar", { exemplar_id: 4 }],
    ]);
    expect(editor.chosen).toBeNull();
  });

  it("begins a box on the edge of another", () => {
    drag([
      [75, 60],
      [85, 70],
    ]);
    expect(asked()).toEqual([["add_exemplar", { box: [75, 60, 85, 70], positive: true, concept_id: 7 }]]);
    expect(editor.chosen).toBeNull();
  });

  it("leaves the edge of an exemplar to object mode, but its sign", () => {
    editor.setMode("object");
    click(75, 60);
    click(60, 60);
    expect(asked()).toEqual([["add_point", { x: 75, y: 60, positive: true, object_id: null }]]);
    expect(editor.chosen).toEqual({ kind: "exemplar", id: 4 });
  });

  it("lets go of an exemplar that is gone, or whose concept is", () => {
    editor.chooseExemplar(4);
    editor.refresh();
    expect(editor.chosen).not.toBeNull();
    begin({ concept: null });
    editor.refresh();
    expect(editor.chosen).toBeNull();
  });

  it("starts a new concept on M, and leaves step by step on Esc", () => {
    editor.startNew();
    expect(asked()).toEqual([["select_concept", { concept_id: null }]]);
    expect(editor.back()).toBe(true);
    expect(editor.concepts.mode).toBe("object");
    expect(editor.back()).toBe(false);
  });

  it("gives the brush to one object, and takes it from one that is left", () => {
    editor.setTool("brush", true);
    expect(editor.concepts.mode).toBe("object");
    editor.toggleMode();
    expect([editor.concepts.mode, editor.tool]).toEqual(["concept", "point"]);
  });

  it("ends with a model that takes no exemplars, and cannot begin there", () => {
    begin({
      model: {
        name: "sam",
        capabilities: { ...abilities, exemplars: false },
        advice: { exemplars: "Needs SAM 3" },
      },
    });
    expect(editor.concepts.mode).toBe("object");
    editor.toggleMode();
    expect(editor.concepts.mode).toBe("object");
    expect(said.at(-1)).toBe("Needs SAM 3");
  });
});

describe("a class key", () => {
  const classes = ["cup", "plate"];

  const answered = () => new Promise((resolve) => setTimeout(resolve, 0));

  it("with nothing selected is for new objects, until it is pressed again", async () => {
    begin({ classes });
    editor.setClass(1);
    expect([editor.label, said.at(-1)]).toEqual(["plate", "New objects are: plate"]);
    click(70, 20);
    await answered();
    drag([
      [70, 20],
      [90, 40],
    ]);
    await answered();
    editor.setTool("brush", true);
    drag([
      [70, 60],
      [90, 60],
    ]);
    await answered();
    expect(sent.map(({ name, args }) => [name, (args as { label?: string }).label])).toEqual([
      ["add_point", "plate"],
      ["add_box", "plate"],
      ["add_stroke", "plate"],
    ]);
    editor.setClass(1);
    expect([editor.label, said.at(-1)]).toEqual([null, "New objects have no class"]);
    editor.setTool("point", true);
    click(70, 20);
    expect(sent.at(-1)?.args).toEqual({ x: 70, y: 20, positive: true, object_id: null });
  });

  it("labels what is selected, and leaves new objects alone", () => {
    begin({ classes });
    editor.setClass(0);
    begin({ classes, selected: 1 });
    editor.setClass(1);
    expect(asked()).toEqual([["set_label", { object_id: 1, label: "plate" }]]);
    expect(editor.label).toBe("cup");
    click(70, 20);
    expect(sent.at(-1)?.args).not.toHaveProperty("label");
  });

  it("of a clip needs an object", () => {
    begin({ classes, frame_idx: 0 });
    editor.setClass(0);
    expect([editor.label, said.at(-1)]).toEqual([null, "Select an object to give it a class."]);
  });

  it("does nothing while an object is being made", () => {
    begin({ classes });
    click(70, 20);
    editor.setClass(0);
    expect(editor.label).toBeNull();
  });

  it("is forgotten with its class", () => {
    begin({ classes });
    editor.setClass(1);
    begin({ classes: ["cup"] });
    editor.refresh();
    expect(editor.label).toBeNull();
  });
});

describe("while another image is coming", () => {
  it("neither pointer nor Enter does anything", () => {
    away = true;
    click(70, 20);
    editor.enter(false);
    editor.enter(false);
    expect(sent).toEqual([]);
    away = false;
    click(70, 20);
    expect(sent).toHaveLength(1);
  });

  it("no stroke begins", () => {
    editor.setTool("brush", true);
    const press = new PointerEvent("pointerdown", { pointerId: 1, clientX: 280, clientY: 80 });
    away = true;
    canvas.dispatchEvent(press);
    expect(editor.draft).toBeNull();
    away = false;
    canvas.dispatchEvent(press);
    expect(editor.draft?.kind).toBe("stroke");
  });

  it("a drag that began before ends in nothing", () => {
    const press = (type: string, x: number) =>
      canvas.dispatchEvent(
        new PointerEvent(type, { pointerId: 1, pointerType: "mouse", clientX: 4 * x, clientY: 240 }),
      );
    press("pointerdown", 60);
    press("pointermove", 90);
    away = true;
    press("pointerup", 90);
    expect(sent).toEqual([]);
    expect(editor.draft).toBeNull();
  });
});

it.each([
  ["image of a data set", { image_idx: 1 }, null],
  ["frame of a clip", { frame_idx: 1 }, { newFrom: "c1" }],
] as const)("an object that is being made on one %s is selected there", (_, there, found) => {
  place = 0;
  begin(found === null ? { image_idx: 0 } : { frame_idx: 0 });
  click(70, 20);
  expect(editor.selection).toEqual({ newFrom: "c1" });
  place = 1;
  begin(there);
  expect(editor.selection).toEqual(found);
});
