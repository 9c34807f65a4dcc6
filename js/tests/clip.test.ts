import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Connection } from "../src/connection";
import type { Imagery } from "../src/imagery";
import { columnsOf, frameAt, xOf } from "../src/lanes";
import { type Mark, Marks } from "../src/marks";
import { type Clip, Player } from "../src/player";
import { phaseOf } from "../src/statusbar";
import { clock, ticks } from "../src/timeline";
import { encodeRows, Wire, wireInstance, wireState } from "./helpers";

const carried = (score: number | null, area: number | null): Mark => ({
  source: "forward",
  score,
  area,
  flag: null,
});

describe("marks", () => {
  const marks = () => {
    const made = new Marks();
    made.take({
      whole: true,
      rows: [
        [1, 0, 0, 0.9, 100, 0],
        [1, 1, 1, 0.8, 100, 0],
        [1, 2, 1, 0.3, 400, 1],
        [2, 4, 2, 0.5, 50, 2],
        [2, 6, 0, null, null, 0],
      ],
      removed: [],
    });
    return made;
  };

  it("are told by object and frame", () => {
    expect(marks().of(1).get(2)).toEqual({ source: "forward", score: 0.3, area: 400, flag: "score" });
    expect(marks().of(2).get(6)).toEqual({ source: "prompt", score: null, area: null, flag: null });
    expect(marks().of(3).size).toBe(0);
  });

  it("name the frames whose masks have changed", () => {
    const made = marks();
    expect(
      made.take({
        whole: false,
        rows: [
          [1, 2, null],
          [1, 1, 1, 0.7, 90, 0],
        ],
        removed: [],
      }),
    ).toEqual(new Set([1, 2]));
    expect(made.of(1).has(2)).toBe(false);
    expect(made.take({ whole: false, rows: [], removed: [2] })).toBeNull();
    expect(made.of(2).size).toBe(0);
  });

  it.each([
    [0, 1, 2],
    [2, 1, 4],
    [4, 1, 6],
    [6, 1, null],
    [6, -1, 4],
    [3, -1, 2],
    [0, -1, null],
  ] as const)("from frame %i, way %i, lead to %s", (from, way, found) => {
    expect(marks().next(from, way)).toBe(found);
  });

  it("know the worst frame of one object and of all", () => {
    expect(marks().worst(null)).toBe(2);
    expect(marks().worst(2)).toBe(4);
    expect(marks().worst(7)).toBeNull();
  });
});

describe("a lane", () => {
  it("has a column for each frame of a short clip", () => {
    const columns = columnsOf(new Map([[1, carried(0.5, 9)]]), { width: 6, length: 3 });
    const shown = { area: 9, score: 0.5 };
    expect(columns).toEqual([undefined, undefined, shown, shown, undefined, undefined]);
  });

  it("loses neither the largest area nor the lowest score of a long clip", () => {
    const marks = new Map(Array.from({ length: 100 }, (_, k) => [k, carried(0.9, 10)] as const));
    marks.set(37, carried(0.1, 500));
    const columns = columnsOf(marks, { width: 10, length: 100 });
    expect(columns[3]).toEqual({ area: 500, score: 0.1 });
    expect(columns[4]).toEqual({ area: 10, score: 0.9 });
  });

  it("finds the frame under a place, and the place of a frame", () => {
    const size = { width: 300, length: 12 };
    for (let frame = 0; frame < 12; frame++) expect(frameAt(xOf(frame, size), size)).toBe(frame);
    expect(frameAt(-5, size)).toBe(0);
    expect(frameAt(999, size)).toBe(11);
  });
});

it.each([
  [10, 700, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
  [60, 700, [0, 10, 20, 30, 40, 50]],
  [3000, 700, [0, 500, 1000, 1500, 2000, 2500]],
])("the ruler of %i frames on %i pixels has round numbers", (length, width, expected) => {
  expect(ticks(length, width)).toEqual(expected);
});

it("a clock shows minutes, seconds and hundredths", () => {
  expect([clock(0), clock(9.504), clock(75.25)]).toEqual(["0:00.00", "0:09.50", "1:15.25"]);
});

it.each([
  [12.2, "Propagating… 40 % · 13 s left"],
  [600, "Propagating… 40 % · 10 min left"],
  [7200, "Propagating… 40 % · 2 h left"],
  [undefined, "Propagating… 40 %"],
])("with %s seconds left the status says so", (seconds_left, words) => {
  const status = { phase: "propagating", fraction: 0.4, cancellable: true } as const;
  expect(phaseOf(seconds_left === undefined ? status : { ...status, seconds_left }, [])).toBe(words);
});

describe("a player", () => {
  const clip: Clip = { length: 40, fps: 20, times: null, video: true };
  let wire: Wire;
  let ending: AbortController;
  let connection: Connection;
  let player: Player;
  let drawn: string[];
  let said: string[];
  let commands: unknown[];

  const tick = () => new Promise((resolve) => setTimeout(resolve, 5));
  const seeks = () =>
    wire.sent
      .filter(({ payload }) => (payload as { name?: string }).name === "seek")
      .map(({ payload }) => payload);
  const asked = () =>
    wire.sent.filter(({ type }) => type === "frame").map(({ payload }) => payload as { frame_idx: number });

  /** Answers every request for a frame that is still open. */
  const answered = new Set<string>();
  async function serve(rows: readonly string[] = ["#."]): Promise<void> {
    for (let round = 0; round < 30; round++) {
      const open = wire.sent.filter(({ type, id }) => type === "frame" && id !== null && !answered.has(id));
      if (open.length === 0) return;
      for (const { id, payload } of open) {
        answered.add(id as string);
        const { frame_idx, picture } = payload as { frame_idx: number; picture: boolean };
        const info = { key: String(frame_idx), width: 2, height: 1, mime: "image/png" };
        const told = { frame_idx, instances: [{ object_id: 1, mask: 0, area: 1 }] };
        const buffers: unknown[] = [encodeRows(rows)];
        if (picture) buffers.push(new Uint8Array([1, 2, 3]));
        wire.say(id, "frame", connection.rev, picture ? { ...told, picture: info } : told, buffers);
      }
      await tick();
    }
  }

  async function confirm(rev: number, frame_idx: number): Promise<void> {
    wire.say(null, "patch", rev, { base: connection.rev, set: { frame_idx } });
    wire.say(wire.last("command").id, "patch", rev + 1, { base: rev });
    await tick();
  }

  beforeEach(async () => {
    vi.stubGlobal("createImageBitmap", async () => ({ width: 2, height: 1, close: () => {} }));
    wire = new Wire();
    ending = new AbortController();
    answered.clear();
    drawn = [];
    said = [];
    commands = [];
    const listener = {
      state: () => player.stateChanged(),
      progress: () => {},
      error: () => {},
      activity: () => {},
      timeline: (news: Parameters<Player["heard"]>[0]) => player.heard(news),
    };
    connection = new Connection(wire.model, listener, ending.signal);
    const imagery = { show: ({ key }: { key: string }) => drawn.push(key) } as unknown as Imagery;
    const host = {
      say: (message: string) => said.push(message),
      turned: () => {},
      changed: () => {},
      run: async (command: unknown) => commands.push(command),
      selected: () => null,
    };
    player = new Player(clip, connection, imagery, host, ending.signal);
    connection.start();
    const state = wireState([wireInstance(1, { mask: 0 })], { frame_idx: 0 });
    wire.say(wire.last("hello").id, "snapshot", 1, state, [encodeRows([".#"])]);
    await serve();
  });

  afterEach(() => {
    ending.abort();
    vi.unstubAllGlobals();
  });

  it("fetches what lies ahead before anybody asks", () => {
    const frames = asked().map(({ frame_idx }) => frame_idx);
    expect(frames.slice(0, 3)).toEqual([0, 1, 2]);
    expect(new Set(frames)).toEqual(new Set(Array.from({ length: 25 }, (_, k) => k)));
  });

  it("shows a frame that is there at once, and tells the kernel", async () => {
    player.step(1);
    expect([player.shown, drawn.at(-1)]).toEqual([1, "1"]);
    expect(seeks()).toEqual([{ name: "seek", args: { frame_idx: 1 } }]);
    const seen = player.state;
    expect(seen?.instances[0]?.mask?.contains(0, 0)).toBe(true);
    expect(seen?.instances[0]?.points).toEqual([]);
    expect(player.state).toBe(seen);
    await confirm(2, 1);
    expect(player.state).toBe(connection.state);
  });

  it("tells the kernel of the newest frame alone while it is busy", async () => {
    for (let k = 0; k < 5; k++) player.step(1);
    expect(seeks()).toHaveLength(1);
    await confirm(2, 1);
    expect(player.shown).toBe(5);
    expect(seeks().at(-1)).toEqual({ name: "seek", args: { frame_idx: 5 } });
    expect(seeks()).toHaveLength(2);
  });

  it("keeps what it shows until the wanted frame is there", async () => {
    player.go(35);
    expect([player.shown, player.target, player.waiting]).toEqual([0, 35, true]);
    await serve();
    expect([player.shown, player.waiting]).toEqual([35, false]);
  });

  it("stays within the clip", () => {
    player.step(-3);
    expect(player.target).toBe(0);
    player.go(999);
    expect(player.target).toBe(39);
  });

  it("follows the kernel to another frame", async () => {
    wire.say(null, "patch", 2, { base: 1, set: { frame_idx: 3 } });
    await serve();
    expect([player.shown, player.target]).toEqual([3, 3]);
    expect(seeks()).toEqual([]);
  });

  it("asks again for masks that have changed, and not for the picture", async () => {
    const before = asked().length;
    wire.say(null, "timeline", 1, { whole: false, rows: [[1, 2, 1, 0.7, 5, 0]], removed: [] });
    expect(asked().slice(before)).toEqual([{ frame_idx: 2, picture: false }]);
    await serve([".#"]);
    player.go(2);
    expect(player.state?.instances[0]?.mask?.contains(1, 0)).toBe(true);
    expect(player.state?.instances[0]?.score).toBe(0.7);
  });

  it("drops an answer that a change has overtaken", async () => {
    wire.say(null, "timeline", 1, { whole: false, rows: [[1, 2, 1, 0.7, 5, 0]], removed: [] });
    wire.say(null, "timeline", 1, { whole: false, rows: [[1, 2, 1, 0.6, 6, 0]], removed: [] });
    const before = asked().length;
    await serve(["##"]);
    expect(asked().slice(before)).toContainEqual({ frame_idx: 2, picture: false });
  });

  it("says why a frame cannot be had", async () => {
    player.go(30);
    const open = wire.sent.filter(({ type, id }) => type === "frame" && !answered.has(id as string));
    const of30 = open.find(({ payload }) => (payload as { frame_idx: number }).frame_idx === 30);
    wire.say(of30?.id ?? null, "error", 1, { code: "invalid_video", message: "frame 30 is gone" });
    await tick();
    expect(player.failure).toBe("frame 30 is gone");
    expect(player.shown).toBe(0);
  });

  it("propagates through the range that was chosen", () => {
    player.propagate("forward");
    player.go(4);
    player.begin();
    player.go(9);
    player.end();
    player.propagate("both");
    expect(commands).toEqual([
      { name: "propagate", args: { direction: "forward", start: null, stop: null } },
      { name: "propagate", args: { direction: "both", start: 4, stop: 10 } },
    ]);
    player.end();
    expect(player.range).toEqual({ first: 4, last: 39, chosen: true });
  });

  it("forgets the other end of a range that would be empty", () => {
    player.go(9);
    player.end();
    player.go(20);
    player.begin();
    expect(player.range).toEqual({ first: 20, last: 39, chosen: true });
  });

  it("says what is missing instead of propagating nothing", () => {
    wire.say(null, "patch", 2, { base: 1, removed: [1] });
    player.propagate("forward");
    expect(commands).toEqual([]);
    expect(said[0]).toMatch(/^Nothing to propagate/);
  });

  it("plays to the end of the range and tells the kernel where it stopped", async () => {
    player.go(3);
    await confirm(2, 3);
    player.end();
    player.go(0);
    await confirm(4, 0);
    player.toggle();
    expect(player.playing).toBe(true);
    await vi.waitFor(() => expect(player.playing).toBe(false), 2000);
    expect(player.shown).toBe(3);
    expect(seeks().at(-1)).toEqual({ name: "seek", args: { frame_idx: 3 } });
  });
});
