import { describe, expect, it } from "vitest";
import { type Answer, type Command, Commands, promptsOf, selectionOf, Throttle } from "../src/commands";
import { asState, wireInstance, wireState } from "./helpers";

const settled = () => new Promise((resolve) => setTimeout(resolve, 0));

/** A kernel that answers when the test says so. */
function kernel() {
  const sent: { command: Command; done: (answer: Answer) => void; fail: (error: Error) => void }[] = [];
  const errors: unknown[] = [];
  const commands = new Commands(
    (command) => new Promise((done, fail) => sent.push({ command, done, fail })),
    () => {},
    (error) => errors.push(error),
  );
  return { sent, errors, commands };
}

const state = asState(
  wireState(
    [
      wireInstance(1, { points: [[7, 10, 20, 1]], box: [1, 2, 30, 40] }),
      wireInstance(2, { points: [[8, 50, 60, 0]] }),
    ],
    { selected: 1 },
  ),
);
const point = (x: number, y: number): Extract<Command, { name: "add_point" }> => ({
  name: "add_point",
  args: { x, y, positive: true, object_id: null },
});

describe("optimistic prompts", () => {
  it("draws a point at once, pending, and takes it back on an error", async () => {
    const { sent, errors, commands } = kernel();
    const before = promptsOf(state, commands.pending, 1);
    const done = commands.add(point(3, 4), 1);
    const during = promptsOf(state, commands.pending, 1);
    expect(during.points).toHaveLength(2);
    expect(during.points[1]).toEqual({ pointId: null, x: 3, y: 4, label: 1, pending: true });
    sent[0]?.fail(new Error("no"));
    expect(await done).toBe(false);
    expect(promptsOf(state, commands.pending, 1)).toEqual(before);
    expect(errors).toHaveLength(1);
    expect(commands.idle).toBe(true);
  });

  it("moves, flips and removes before the answer", () => {
    const { commands } = kernel();
    void commands.run({ name: "move_point", args: { point_id: 7, x: 11, y: 22 } });
    void commands.run({ name: "flip_point", args: { point_id: 7 } });
    expect(promptsOf(state, commands.pending, 1).points).toEqual([
      { pointId: 7, x: 11, y: 22, label: 0, pending: true },
    ]);
    void commands.run({ name: "remove_point", args: { point_id: 7 } });
    void commands.run({ name: "remove_box", args: { object_id: 1 } });
    expect(promptsOf(state, commands.pending, 1)).toEqual({ points: [], box: null, strokes: [] });
  });

  it("shows each object only its own", () => {
    const { commands } = kernel();
    void commands.add(point(3, 4), 2);
    expect(promptsOf(state, commands.pending, 1).points).toHaveLength(1);
    expect(promptsOf(state, commands.pending, 2).points).toHaveLength(2);
  });
});

describe("selection", () => {
  it("follows what was asked, in order", () => {
    const { commands } = kernel();
    expect(selectionOf(state, commands.pending)).toBe(1);
    void commands.run({ name: "select", args: { object_id: null } });
    expect(selectionOf(state, commands.pending)).toBeNull();
    void commands.add(point(3, 4), null);
    expect(selectionOf(state, commands.pending)).toEqual({ newFrom: "c2" });
    void commands.run({ name: "select", args: { object_id: 2 } });
    expect(selectionOf(state, commands.pending)).toBe(2);
  });
});

describe("quick clicks on an object that is only being made", () => {
  it("wait for its id and then go to it", async () => {
    const { sent, commands } = kernel();
    void commands.add(point(1, 1), null);
    void commands.add(point(2, 2), selectionOf(state, commands.pending));
    void commands.add(point(3, 3), selectionOf(state, commands.pending));
    expect(sent).toHaveLength(1);
    const selection = selectionOf(state, commands.pending);
    expect(promptsOf(state, commands.pending, selection).points.map(({ x }) => x)).toEqual([1, 2, 3]);
    sent[0]?.done({ instances: [9], selected: 9, concept: null });
    await settled();
    expect(sent.slice(1).map(({ command }) => command.args)).toEqual([
      { x: 2, y: 2, positive: true, object_id: 9 },
      { x: 3, y: 3, positive: true, object_id: 9 },
    ]);
  });

  it("are dropped with it when it fails", async () => {
    const { sent, commands } = kernel();
    void commands.add(point(1, 1), null);
    void commands.add(point(2, 2), selectionOf(state, commands.pending));
    sent[0]?.fail(new Error("no"));
    await settled();
    expect(sent).toHaveLength(1);
    expect(commands.idle).toBe(true);
  });
});

it("sends the next value of a drag only after an answer, and then the newest", async () => {
  const sent: number[] = [];
  const answers: (() => void)[] = [];
  const throttle = new Throttle<number>((value) => {
    sent.push(value);
    return new Promise<void>((resolve) => answers.push(resolve));
  });
  for (const value of [1, 2, 3]) throttle.push(value);
  expect(sent).toEqual([1]);
  answers[0]?.();
  await settled();
  expect(sent).toEqual([1, 3]);
  expect(throttle.busy).toBe(true);
  answers[1]?.();
  await settled();
  expect(throttle.busy).toBe(false);
});
