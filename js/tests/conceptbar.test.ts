import { afterEach, beforeEach, describe, expect, it } from "vitest";
import widget from "../src/index";
import type { Concept, WireInstance, WireState } from "../src/state";
import { encodeRows, Wire, wireConcept, wireInstance, wireState } from "./helpers";

const ADVICE = { text: "Words take SAM 3", exemplars: "Examples take SAM 3" };
const IDLE = { phase: "idle", fraction: null, cancellable: false };

let wire: Wire;
let ending: AbortController;
let el: HTMLElement;
let rev: number;

const frame = () => new Promise((resolve) => setTimeout(resolve, 40));
const all = (testid: string) => [...el.querySelectorAll<HTMLElement>(`[data-testid=sam3w-${testid}]`)];
const find = (testid: string, index = 0) => {
  const found = all(testid)[index];
  if (found === undefined) throw new Error(`there is no ${testid} ${index}`);
  return found;
};
const field = () => find("find") as HTMLInputElement;
const text = (testid: string, index = 0) => find(testid, index).textContent;
const asked = () =>
  wire.sent.filter(({ type }) => type === "command").map(({ payload }) => payload as { name: string });

function press(element: Element, key: string): KeyboardEvent {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
  element.dispatchEvent(event);
  return event;
}

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

const TWO = [
  wireConcept(1, { exemplars: [{ exemplar_id: 4, positive: 0, box: [1, 2, 3, 4], point: null }] }),
  wireConcept(2, { text: "dog", presence: null, count: 0, pending: true }),
];

async function begin(
  concepts: Concept[] = TWO,
  { able = {}, ...more }: Partial<WireState> & { able?: Record<string, boolean> } = {},
): Promise<void> {
  const capabilities = { points: true, boxes: true, text: true, exemplars: true, ...able };
  const state = wireState(more.instances ?? [], {
    model: { name: "sam3", capabilities, advice: ADVICE },
    concepts,
    concept: concepts[0]?.concept_id ?? null,
    ...more,
  });
  rev = 4;
  wire.say(wire.last("hello").id, "snapshot", rev, state, [encodeRows(["#."])]);
  await frame();
}

async function patch(set: Partial<WireState>, id: string | null = null, instances: WireInstance[] = []) {
  wire.say(id, "patch", ++rev, { base: rev - 1, set, instances });
  await frame();
}

describe("the field", () => {
  it("adds a concept for each phrase on Enter, which show at once", async () => {
    await begin([]);
    field().value = "cup, red  ball";
    expect(press(field(), "Enter").defaultPrevented).toBe(true);
    expect(asked()).toEqual([
      { name: "add_concept", args: { text: "cup" } },
      { name: "add_concept", args: { text: "red ball" } },
    ]);
    expect(field().value).toBe("");
    await frame();
    expect(all("concept").map((chip) => chip.querySelector(".sam3w-concept-text")?.textContent)).toEqual([
      "cup",
      "red ball",
    ]);
    expect(all("concept").every((chip) => chip.classList.contains("sam3w-pending"))).toBe(true);
  });

  it("gets back what was refused, and the chip goes", async () => {
    await begin([]);
    field().value = "cup, ball";
    press(field(), "Enter");
    const [first, second] = wire.sent.filter(({ type }) => type === "command");
    wire.say(first?.id ?? null, "error", rev, { code: "refused", message: "Not now" });
    await patch({ concepts: [wireConcept(1, { text: "ball" })], concept: 1 }, second?.id);
    expect(field().value).toBe("cup");
    expect(all("concept")).toHaveLength(1);
    expect(text("error-text")).toBe("Not now");
  });

  it("asks for nothing where nothing was typed, and lets a composition end", async () => {
    await begin([]);
    field().value = " , ";
    press(field(), "Enter");
    field().value = "犬";
    field().dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true }));
    expect(asked()).toEqual([]);
    expect(field().value).toBe("犬");
  });

  it("gives the keyboard to the canvas on Esc, and has it by its key", async () => {
    await begin([]);
    field().focus();
    press(field(), "Escape");
    const canvas = el.querySelector("canvas");
    expect(document.activeElement).toBe(canvas);
    press(canvas as Element, "/");
    expect(document.activeElement).toBe(field());
  });

  it.each([
    [{ text: false, exemplars: false }, true],
    [{ text: false, exemplars: true }, false],
    [{ text: true, exemplars: false }, false],
  ])("keeps the place of the chips where one may come: %o", async (able, never) => {
    await begin([], { able });
    expect(el.querySelector(".sam3w-concept-bar")?.classList.contains("sam3w-never")).toBe(never);
  });

  it("says which model could where this one takes no words", async () => {
    await begin([], { able: { text: false, exemplars: false } });
    expect(field().disabled).toBe(true);
    expect(field().placeholder).toBe(ADVICE.text);
    press(el.querySelector("canvas") as Element, "/");
    expect(text("notice")).toBe(ADVICE.text);
    expect(text("empty")).toBe("Click an object, or drag a box around it, to begin.");
  });

  it("is not offered by a kernel that knows no concepts", async () => {
    const { concepts, concept, ...old } = wireState([wireInstance(1)]);
    wire.say(wire.last("hello").id, "snapshot", 4, old);
    await frame();
    expect(field().disabled).toBe(true);
    expect(all("concept")).toHaveLength(0);
    expect(el.querySelectorAll(".sam3w-row")).toHaveLength(1);
  });
});

describe("the mode", () => {
  it("is switched by its buttons and by C", async () => {
    await begin();
    find("mode-concept").click();
    await frame();
    expect(find("mode-concept").getAttribute("aria-pressed")).toBe("true");
    expect(text("notice")).toBe("Concept mode: clicks and boxes show what “handle” means");
    press(el.querySelector("canvas") as Element, "c");
    await frame();
    expect(find("mode-object").getAttribute("aria-pressed")).toBe("true");
  });

  it("stays with objects where the model takes no examples, and says why", async () => {
    await begin([], { able: { exemplars: false } });
    expect(field().disabled).toBe(false);
    expect(find("mode-concept").getAttribute("aria-disabled")).toBe("true");
    find("mode-concept").click();
    await frame();
    expect(find("mode-concept").getAttribute("aria-pressed")).toBe("false");
    expect(text("notice")).toBe(ADVICE.exemplars);
  });
});

describe("a chip", () => {
  it("tells what was found, and in words what it shows", async () => {
    await begin();
    expect(text("concept-count")).toBe("2");
    const [handle, dog] = all("concept-name");
    expect(handle?.getAttribute("aria-label")).toBe("Concept handle, 2 found, presence 90 %");
    expect(dog?.getAttribute("aria-label")).toBe("Concept dog, looking");
    expect([handle, dog].map((name) => name?.getAttribute("aria-pressed"))).toEqual(["true", "false"]);
    expect(find("concept").style.getPropertyValue("--sam3w-object")).toBe("#e69f00");
  });

  it("has words of its own where the examples alone say it", async () => {
    await begin([wireConcept(1, { text: "" })]);
    expect(text("concept-name")).toContain("like the examples");
  });

  it("shows that a click says which one is meant, and the status bar names no concept twice", async () => {
    const note = "Nothing like “handle” at (7, 8)";
    await begin([wireConcept(1, { at: [7.5, 8], count: 0, note }), wireConcept(2)]);
    const pins = all("concept").map((chip) => chip.querySelector(".sam3w-pin")?.hasAttribute("hidden"));
    expect(pins).toEqual([false, true]);
    expect(find("concept-name").title).toContain("handle, only the one at 7, 8");
    expect(text("phase")).toBe(note);
  });

  it("is made active by a click, and keeps its element", async () => {
    await begin();
    const before = all("concept");
    find("concept-name", 1).click();
    await frame();
    expect(asked()).toEqual([{ name: "select_concept", args: { concept_id: 2 } }]);
    expect(find("concept-name", 1).getAttribute("aria-pressed")).toBe("true");
    await patch({ concept: 2 }, wire.last("command").id);
    expect(all("concept")).toEqual(before);
    find("concept-name", 1).click();
    expect(asked()).toHaveLength(1);
  });

  it("goes at once when it is deleted, and comes back when that is refused", async () => {
    await begin();
    find("concept-remove", 1).click();
    await frame();
    expect(all("concept")).toHaveLength(1);
    wire.say(wire.last("command").id, "error", rev, { code: "refused", message: "Not now" });
    await frame();
    expect(all("concept")).toHaveLength(2);
  });

  it("changes its words by a double click, F2, or Enter while it is active", async () => {
    await begin();
    find("concept-name", 1).dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
    expect((find("concept-edit") as HTMLInputElement).value).toBe("dog");
    press(find("concept-edit"), "Escape");
    expect(all("concept-edit")).toHaveLength(0);
    expect(document.activeElement).toBe(find("concept-name", 1));
    expect(press(find("concept-name", 1), "Enter").defaultPrevented).toBe(false);
    for (const key of ["F2", "Enter"]) {
      press(find("concept-name"), key);
      (find("concept-edit") as HTMLInputElement).value = " big   handle ";
      press(find("concept-edit"), "Escape");
    }
    expect(asked()).toEqual([]);
    press(find("concept-name"), "Enter");
    (find("concept-edit") as HTMLInputElement).value = " big   handle ";
    press(find("concept-edit"), "Enter");
    expect(asked()).toEqual([{ name: "set_text", args: { text: "big handle", concept_id: 1 } }]);
    await frame();
    expect(text("concept-name")).toContain("big handle");
  });

  it("keeps what is being typed while the kernel speaks, and takes it when one goes on", async () => {
    await begin();
    press(find("concept-name"), "F2");
    const edit = find("concept-edit") as HTMLInputElement;
    edit.value = "grip";
    await patch({ concepts: [wireConcept(1, { count: 9 }), wireConcept(2, { text: "dog" })] });
    expect(edit.value).toBe("grip");
    field().focus();
    expect(asked()).toEqual([{ name: "set_text", args: { text: "grip", concept_id: 1 } }]);
    expect(all("concept-edit")).toHaveLength(0);
  });

  it("is reached by arrow keys and deleted by a key", async () => {
    await begin();
    expect(all("concept-name").map(({ tabIndex }) => tabIndex)).toEqual([0, -1]);
    find("concept-name").focus();
    press(find("concept-name"), "ArrowRight");
    expect(document.activeElement).toBe(find("concept-name", 1));
    press(find("concept-name", 1), "Delete");
    expect(asked()).toEqual([{ name: "remove_concept", args: { concept_id: 2 } }]);
    expect(document.activeElement).toBe(find("concept-name"));
  });

  it("marks an error and a note, which the status bar tells of the active one", async () => {
    await begin([
      wireConcept(1, { count: 0, note: "Nothing found: the best score is 0.31" }),
      wireConcept(2, { text: "dog", error: "Out of memory" }),
    ]);
    expect(text("phase")).toBe("“handle”: Nothing found: the best score is 0.31");
    expect(all("concept").map((chip) => chip.querySelector(".sam3w-mark")?.textContent)).toEqual(["i", "!"]);
    expect(find("concept-name", 1).title).toContain("Out of memory");
    await patch({ concept: 2 });
    expect(text("phase")).toBe("“dog”: Out of memory");
  });

  it("lists its examples while it is active, of which one can be chosen, flipped and deleted", async () => {
    await begin();
    expect(all("exemplar").map((sign) => sign.textContent)).toEqual(["−"]);
    find("exemplar").click();
    await frame();
    expect(find("exemplar").getAttribute("aria-pressed")).toBe("true");
    press(el.querySelector("canvas") as Element, "t");
    await frame();
    expect(all("exemplar").map((sign) => sign.textContent)).toEqual(["+"]);
    press(el.querySelector("canvas") as Element, "Delete");
    await frame();
    expect(all("exemplar")).toHaveLength(0);
    expect(asked().map(({ name }) => name)).toEqual(["flip_exemplar", "remove_exemplar"]);
  });
});

describe("the score threshold", () => {
  const slide = (value: number) => {
    const slider = find("score-threshold") as HTMLInputElement;
    slider.value = String(value);
    slider.dispatchEvent(new Event("input"));
  };

  it("is the active concept's, one gesture a drag", async () => {
    await begin();
    expect(find("concept").contains(find("score-threshold"))).toBe(true);
    slide(0.6);
    slide(0.7);
    expect(find("concept").querySelector("output")?.textContent).toBe("0.70");
    await patch({}, wire.last("command").id);
    find("score-threshold").dispatchEvent(new Event("change"));
    await patch({}, wire.last("command").id);
    slide(0.8);
    const args = asked().map((command) => (command as unknown as { args: Record<string, unknown> }).args);
    expect(args.map(({ value, concept_id }) => [value, concept_id])).toEqual([
      [0.6, 1],
      [0.7, 1],
      [0.8, 1],
    ]);
    expect(args[0]?.gesture).toBe(args[1]?.gesture);
    expect(args[2]?.gesture).not.toBe(args[1]?.gesture);
  });

  it("goes to the next active concept, and is gone without one", async () => {
    await begin();
    await patch({ concept: 2 });
    expect(find("concept", 1).contains(find("score-threshold"))).toBe(true);
    await patch({ concept: null });
    expect(all("score-threshold")).toHaveLength(0);
  });
});

describe("while the model looks", () => {
  it("says for what and how far, and can be cancelled", async () => {
    await begin();
    expect(el.querySelector<HTMLElement>(".sam3w")?.dataset.sam3wState).toBe("busy");
    wire.say(null, "progress", rev, { phase: "detecting", fraction: 0.4, cancellable: true });
    await frame();
    expect(text("phase")).toBe("Looking for “dog”… 40 %");
    find("cancel").click();
    expect(wire.last("cancel")).toBeDefined();
    wire.say(wire.last("cancel").id, "patch", rev, { base: rev });
    wire.say(null, "progress", rev, IDLE);
    await patch({ concepts: [wireConcept(1), wireConcept(2, { text: "dog", count: 3 })] });
    expect(text("live")).toBe("3 found for dog");
    expect(text("phase")).toBe("");
  });

  it.each([
    [[wireConcept(1, { pending: true, text: "" })], "Looking for things like the examples… 40 %"],
    [[1, 2, 3].map((id) => wireConcept(id, { pending: true })), "Looking for “handle” and 2 more… 40 %"],
    [[], "Looking for concepts… 40 %"],
  ])("names them: %#", async (concepts, words) => {
    await begin(concepts);
    wire.say(null, "progress", rev, { phase: "detecting", fraction: 0.4, cancellable: true });
    await frame();
    expect(text("phase")).toBe(words);
  });

  it("says that the image is encoded once", async () => {
    await begin([]);
    wire.say(null, "progress", rev, { phase: "encoding", fraction: 0.35, cancellable: true });
    await frame();
    expect(text("phase")).toBe("Encoding the image, once… 35 %");
  });
});

it("announces what became of a concept over what became of its objects", async () => {
  await begin([wireConcept(1, { pending: true, count: 0 })]);
  const found = [wireInstance(1, { label: "handle", concept_id: 1 }), wireInstance(2, { concept_id: 1 })];
  await patch({ concepts: [wireConcept(1)] }, null, found);
  expect(text("live")).toBe("2 found for handle");
  await patch({ concepts: [wireConcept(1, { count: 0, note: "Nothing scores so high" })] });
  expect(text("live")).toBe("0 found for handle. Nothing scores so high");
  await patch({ concepts: [] });
  expect(text("live")).toBe("handle removed");
});

it("shows in the list which concept found an object, and what is worth knowing of it", async () => {
  const instances = [wireInstance(1, { concept_id: 1, note: "Looks at 16 of 17 points" }), wireInstance(2)];
  await begin([wireConcept(1)], { instances });
  const rows = [...el.querySelectorAll<HTMLElement>(".sam3w-row")];
  const [mine, other] = rows.map((row) => row.querySelector<HTMLElement>("[data-testid=sam3w-row-concept]"));
  expect([mine?.hidden, other?.hidden]).toEqual([false, true]);
  expect(mine?.title).toBe("Found as “handle”");
  expect(mine?.style.getPropertyValue("--sam3w-object")).toBe("#e69f00");
  expect(rows[0]?.querySelector(".sam3w-row-note")?.textContent).toBe("Looks at 16 of 17 points");
  await patch({ concepts: [wireConcept(1, { text: "grip" })] });
  expect(mine?.title).toBe("Found as “grip”");
});

it("says in an empty list that a thing can be named", async () => {
  await begin([]);
  expect(text("empty")).toBe("Name a thing above, click an object, or drag a box around it, to begin.");
});

it("keeps the keyboard on a chip and on a row where earlier ones go", async () => {
  const instances = [wireInstance(1), wireInstance(2), wireInstance(3)];
  await begin([wireConcept(1), wireConcept(2, { text: "dog" }), wireConcept(3, { text: "cup" })], {
    instances,
  });
  const chip = find("concept-name", 2);
  chip.focus();
  await patch({ concepts: [wireConcept(2, { text: "dog" }), wireConcept(3, { text: "cup" })], concept: 2 });
  expect(document.activeElement).toBe(chip);
  const row = find("row", 2).querySelector<HTMLElement>("[data-action=visible]");
  row?.focus();
  wire.say(null, "patch", ++rev, { base: rev - 1, removed: [1] });
  await frame();
  expect(document.activeElement).toBe(row);
  wire.say(null, "patch", ++rev, { base: rev - 1, removed: [3] });
  await frame();
  expect(document.activeElement).toBe(el.querySelector("canvas"));
});

it("shows what was cancelled as no failure, and asks again where one wants it", async () => {
  const error = "cancelled: the same words again go on from here";
  await begin([wireConcept(1, { text: "coin", error, count: 0 })]);
  const mark = find("concept-name").querySelector<HTMLElement>(".sam3w-mark");
  expect([mark?.hidden, mark?.classList.contains("sam3w-bad")]).toEqual([false, false]);
  expect([text("phase"), text("empty")]).toEqual(["“coin”: cancelled", "“coin”: cancelled"]);
  mark?.click();
  expect(asked()).toEqual([{ name: "set_text", args: { text: "coin", concept_id: 1 } }]);
  await frame();
  expect(find("concept").classList.contains("sam3w-pending")).toBe(true);
  expect(text("empty")).toBe("Looking for “coin”…");
});

it("asks again for unchanged words on Enter where they failed, not where one goes on", async () => {
  await begin([wireConcept(1, { error: "Out of memory", at: [3, 4] })]);
  press(find("concept-name"), "F2");
  field().focus();
  expect(asked()).toEqual([]);
  press(find("concept-name"), "F2");
  press(find("concept-edit"), "Enter");
  expect(asked()).toEqual([{ name: "set_text", args: { text: "handle", concept_id: 1, at: [3, 4] } }]);
});

it("says a failure once", async () => {
  await begin([wireConcept(1, { error: "Out of memory" })]);
  expect(text("phase")).toBe("“handle”: Out of memory");
  wire.say(null, "error", rev, { code: "model", message: "Out of memory" });
  await frame();
  expect([text("error-text"), text("phase")]).toEqual(["Out of memory", ""]);
});

it("cancels by Esc what the model is at, before anything else", async () => {
  await begin(TWO, { status: { phase: "detecting", fraction: null, cancellable: true } });
  press(find("canvas"), "c");
  press(find("canvas"), "Escape");
  expect(wire.last("cancel")).toBeDefined();
  expect(text("notice")).toBe("Cancelled");
  await frame();
  expect(find("mode-concept").getAttribute("aria-pressed")).toBe("true");
});

it("tells concepts without words apart, and objects of one label", async () => {
  const instances = [1, 2].map((id) => wireInstance(id, { label: "coin" }));
  await begin([wireConcept(1, { text: "" }), wireConcept(2), wireConcept(3, { text: "" })], { instances });
  const words = all("concept").map((chip) => chip.querySelector(".sam3w-concept-text")?.textContent);
  expect(words).toEqual(["like example 1", "handle", "like example 2"]);
  expect(find("concept-name", 2).getAttribute("aria-label")).toContain("Concept like example 2,");
  expect(find("row", 1).querySelector("[data-action=select]")?.getAttribute("aria-label")).toBe(
    "Select coin 2",
  );
  await patch({ concepts: [wireConcept(1, { text: "" })] });
  expect(text("concept-name")).toContain("like the examples");
});

it("has an edit field that grows with what is typed", async () => {
  await begin();
  press(find("concept-name"), "F2");
  const edit = find("concept-edit") as HTMLInputElement;
  edit.value = "the handle of the left door";
  edit.dispatchEvent(new Event("input", { bubbles: true }));
  expect(edit.size).toBe(28);
});
