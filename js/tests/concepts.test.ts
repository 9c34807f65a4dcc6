import { describe, expect, it } from "vitest";
import { type Answer, type Command, Commands, type ShowCommand } from "../src/commands";
import { conceptsOf, phrases } from "../src/concepts";
import type { Exemplar } from "../src/state";
import { asState, wireConcept, wireState } from "./helpers";

const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

function kernel() {
  const sent: { command: Command; done: (answer: Answer) => void; fail: (error: Error) => void }[] = [];
  const commands = new Commands(
    (command) => new Promise((done, fail) => sent.push({ command, done, fail })),
    () => {},
    () => {},
  );
  return { sent, commands, now: (state = some) => conceptsOf(state, commands.pending) };
}

const shown: Exemplar = { exemplar_id: 4, positive: 1, box: [1, 2, 30, 40], point: null };
const clicked: Exemplar = { exemplar_id: 5, positive: 0, box: null, point: [50, 60] };
const some = asState(
  wireState([], {
    concepts: [wireConcept(1, { exemplars: [shown, clicked] }), wireConcept(2, { text: "dog" })],
    concept: 1,
  }),
);
const none = asState(wireState([]));
const box = (positive = true): ShowCommand => ({
  name: "add_exemplar",
  args: { box: [5, 5, 9, 9], positive },
});
const point = (): ShowCommand => ({ name: "add_exemplar_point", args: { x: 7, y: 8, positive: false } });

it.each([
  ["handle", ["handle"]],
  [" red  car , dog,, dog ,\ncat", ["red car", "dog", "cat"]],
  [" , ", []],
])("takes %j for phrases", (typed, expected) => {
  expect(phrases(typed)).toEqual(expected);
});

describe("concepts before the kernel's answer", () => {
  it("are what it told, the one without a box yet still waiting", () => {
    const { list, active, target } = kernel().now();
    expect(list.map(({ text }) => text)).toEqual(["handle", "dog"]);
    expect(active).toBe(list[0]);
    expect(target).toBe(1);
    expect(active?.exemplars.map(({ exemplarId, pending }) => [exemplarId, pending])).toEqual([
      [4, false],
      [5, true],
    ]);
  });

  it("come at once, and go again where they are refused", async () => {
    const { sent, commands, now } = kernel();
    void commands.run({ name: "add_concept", args: { text: "cat" } });
    expect(now().list.at(-1)).toMatchObject({ conceptId: null, text: "cat", pending: true, count: 0 });
    expect(now().active?.text).toBe("cat");
    sent[0]?.fail(new Error("no"));
    await settled();
    expect(now()).toEqual(kernel().now());
  });

  it("are not doubled by words that are there", () => {
    const { commands, now } = kernel();
    void commands.run({ name: "add_concept", args: { text: "dog" } });
    expect(now().list).toHaveLength(2);
    expect(now().target).toBe(2);
  });

  it("change their words, and lose the examples of the old ones", () => {
    const { commands, now } = kernel();
    void commands.run({ name: "set_text", args: { text: " handle ", concept_id: 1 } });
    expect(now().list[0]?.exemplars).toHaveLength(2);
    void commands.run({ name: "set_text", args: { text: "grip", concept_id: 1 } });
    expect(now().list[0]).toMatchObject({ text: "grip", pending: true, exemplars: [] });
  });

  it("get words beside the examples where they had none", () => {
    const { commands, now } = kernel();
    const wordless = asState(
      wireState([], { concepts: [wireConcept(1, { text: "", exemplars: [shown] })], concept: 1 }),
    );
    void commands.run({ name: "set_text", args: { text: "grip", concept_id: 1 } });
    expect(now(wordless).list[0]).toMatchObject({ text: "grip", exemplars: [{ exemplarId: 4 }] });
  });

  it("go with the last example where they have no words", () => {
    const { commands, now } = kernel();
    const wordless = asState(
      wireState([], { concepts: [wireConcept(1, { text: "", exemplars: [shown] })], concept: 1 }),
    );
    void commands.run({ name: "remove_exemplar", args: { exemplar_id: 4 } });
    expect(now(wordless)).toEqual({ list: [], active: null, target: null });
  });

  it("are chosen and deleted, and then the next one is active", () => {
    const { commands, now } = kernel();
    void commands.run({ name: "select_concept", args: { concept_id: 2 } });
    expect(now().target).toBe(2);
    void commands.run({ name: "remove_concept", args: { concept_id: 2 } });
    expect(now().list.map(({ conceptId }) => conceptId)).toEqual([1]);
    expect(now().target).toBe(1);
    void commands.run({ name: "reset", args: {} });
    expect(now().list).toEqual([]);
  });

  it("keep what the kernel found: counts and masks are never guessed", () => {
    const { commands, now } = kernel();
    void commands.run({ name: "set_score_threshold", args: { value: 0.9, concept_id: 1 } });
    expect(now().list[0]).toMatchObject({ count: 2, score_threshold: 0.5, pending: false });
  });
});

describe("exemplars before the kernel's answer", () => {
  it("are drawn at once, flipped and removed", () => {
    const { commands, now } = kernel();
    const mine = () => now().active?.exemplars.map(({ exemplarId, positive }) => [exemplarId, positive]);
    void commands.add(box(false), 1);
    void commands.add(point(), 1);
    expect(now().active?.exemplars.slice(2)).toEqual([
      { exemplarId: null, positive: 0, box: [5, 5, 9, 9], point: null, pending: true },
      { exemplarId: null, positive: 0, box: null, point: [7, 8], pending: true },
    ]);
    void commands.run({ name: "flip_exemplar", args: { exemplar_id: 4 } });
    void commands.run({ name: "remove_exemplar", args: { exemplar_id: 5 } });
    expect(mine()).toEqual([
      [4, 0],
      [null, 0],
      [null, 0],
    ]);
    expect(now().active?.pending).toBe(true);
  });

  it("go to the concept they were meant for, also when another is chosen since", () => {
    const { sent, commands, now } = kernel();
    void commands.add(box(), now().target);
    void commands.run({ name: "select_concept", args: { concept_id: 2 } });
    expect(sent[0]?.command.args).toEqual({ box: [5, 5, 9, 9], positive: true, concept_id: 1 });
    expect(now().list.map(({ exemplars }) => exemplars.length)).toEqual([3, 0]);
  });

  it("make a concept without words where none is active, and the next wait for its id", async () => {
    const { sent, commands, now } = kernel();
    void commands.add(box(), now(none).target);
    void commands.add(point(), now(none).target);
    expect(now(none).list).toHaveLength(1);
    expect(now(none).active).toMatchObject({ text: "", pending: true });
    expect(now(none).active?.exemplars).toHaveLength(2);
    expect(sent.map(({ command }) => command.args)).toEqual([{ box: [5, 5, 9, 9], positive: true }]);
    sent[0]?.done({ instances: [], selected: 6, concept: 3 });
    await settled();
    expect(sent[1]?.command.args).toEqual({ x: 7, y: 8, positive: false, concept_id: 3 });
  });

  it("go with the concept that was refused", async () => {
    const { sent, commands, now } = kernel();
    void commands.run({ name: "add_concept", args: { text: "cat" } });
    void commands.add(box(), now().target);
    expect(now().active?.exemplars).toHaveLength(1);
    sent[0]?.fail(new Error("no"));
    await settled();
    expect(sent).toHaveLength(1);
    expect(commands.idle).toBe(true);
    expect(now().target).toBe(1);
  });
});
