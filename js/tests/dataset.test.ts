import { beforeEach, describe, expect, it } from "vitest";
import messages from "../../tests/wire/messages.json";
import type { Command } from "../src/commands";
import { Dataset, type DatasetNews, type ImageStatus, type Order, type Shown } from "../src/dataset";
import type { State } from "../src/state";
import { asState, wireState } from "./helpers";

type Row = DatasetNews["rows"][number];

const row = (
  index: number,
  status: ImageStatus = "open",
  count = 0,
  score: number | null = null,
  error: string | null = null,
): Row => [index, status, count, score, error];

const news = (rows: readonly Row[], more: Partial<DatasetNews> = {}): DatasetNews => ({
  whole: false,
  rows,
  classes: [],
  applied: null,
  ...more,
});

const tick = () => new Promise((resolve) => setTimeout(resolve, 0));

let dataset: Dataset;
let state: State;
let kernel: { state: State };
let shown: Shown & { away: boolean; arrive(): void };
let said: string[];
let turns: number;
let sent: { command: Command; answer(done: boolean): Promise<void> }[];

/** The kernel goes to another image, and the canvas follows at once. */
function move(index: number): void {
  state = asState(wireState([], { image_idx: index }));
  kernel.state = state;
  dataset.refresh();
}

/** The kernel does what the last command says. */
async function obey(): Promise<void> {
  const last = sent.at(-1);
  if (last === undefined) throw new Error("nothing was asked");
  if (last.command.name === "go") move(last.command.args.image_idx);
  await last.answer(true);
}

const asked = () => sent.map(({ command }) => [command.name, command.args]);
const goes = () => sent.flatMap(({ command }) => (command.name === "go" ? [command.args.image_idx] : []));

async function walk(way: 1 | -1): Promise<number> {
  dataset.step(way);
  await obey();
  return dataset.current;
}

function make(length: number, order: Order = "given"): void {
  state = asState(wireState([], { image_idx: 0 }));
  kernel = { state };
  said = [];
  sent = [];
  turns = 0;
  const arrivals: (() => void)[] = [];
  shown = {
    away: false,
    get state() {
      return state;
    },
    arrived: () => (shown.away ? new Promise((resolve) => arrivals.push(resolve)) : Promise.resolve()),
    arrive: () => {
      shown.away = false;
      for (const each of arrivals.splice(0)) each();
    },
  };
  dataset = new Dataset({ length, out: "labels.json", order }, kernel, shown, {
    say: (message) => said.push(message),
    turned: () => turns++,
    changed: () => {},
    run: (command) =>
      new Promise((resolve) =>
        sent.push({
          command,
          answer: async (done) => {
            resolve(done);
            await tick();
          },
        }),
      ),
  });
  dataset.refresh();
}

beforeEach(() => make(8));

describe("the images of a data set", () => {
  it("are told by the kernel in these words", () => {
    const { first, later } = messages.dataset;
    dataset.take(first as unknown as DatasetNews);
    expect(dataset.length).toBe(4);
    expect(dataset.name(1)).toBe("b/c.jpg");
    expect(dataset.row(0)).toEqual({ status: "open", count: 0, score: null, error: null });
    expect(dataset.row(1)).toEqual({ status: "accepted", count: 2, score: 0.5, error: null });
    expect(dataset.row(3).error).toBe("it is no image");
    expect([...dataset.classes]).toEqual([
      ["cup", 1],
      ["dog", 0],
      ["", 1],
    ]);
    dataset.take(later as unknown as DatasetNews);
    expect(dataset.row(1)).toEqual({ status: "rejected", count: 2, score: 0.5, error: null });
    expect(dataset.row(2)).toEqual({ status: "open", count: 1, score: null, error: null });
    expect(dataset.classes.get("cup")).toBe(0);
    expect(dataset.applied).toBe("“cup”");
  });

  it("can be gone through before their news have come", async () => {
    expect(dataset.visible).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(await walk(1)).toBe(1);
    expect(await walk(-1)).toBe(0);
  });

  it("are what the last news of each say", () => {
    dataset.take(news([row(2, "accepted", 4, 0.5)], { whole: true, names: ["a", "b", "c"] }));
    dataset.take(news([row(1, "rejected", 1, null)], { classes: [["cup", 3]], applied: "cup over 0.5" }));
    expect(dataset.length).toBe(3);
    expect(dataset.name(2)).toBe("c");
    expect([0, 1, 2].map((index) => dataset.row(index).status)).toEqual(["open", "rejected", "accepted"]);
    expect(dataset.classes.get("cup")).toBe(3);
    expect(dataset.applied).toBe("cup over 0.5");
  });

  it("tell whether they are of other files", () => {
    expect(dataset.take(news([], { whole: true, names: ["a", "b"] }))).toBe(false);
    expect(dataset.take(news([], { whole: true, names: ["a", "b"] }))).toBe(false);
    expect(dataset.take(news([], { whole: true, names: ["a", "z"] }))).toBe(true);
  });

  it("are counted and listed by filter", () => {
    dataset.take(
      news([
        row(0, "accepted", 2),
        row(1, "rejected"),
        row(2, "skipped", 1),
        row(3, "open", 1),
        row(4, "open", 0, null, "broken"),
      ]),
    );
    expect(dataset.counts).toEqual({ all: 8, open: 5, accepted: 1, rejected: 1, skipped: 1, empty: 4 });
    dataset.filter = "open";
    expect(dataset.visible).toEqual([3, 4, 5, 6, 7]);
    dataset.filter = "empty";
    expect(dataset.visible).toEqual([1, 5, 6, 7]);
    dataset.filter = "rejected";
    expect(dataset.visible).toEqual([1]);
  });

  it("come with the lowest score first, ties as given and those without one last", () => {
    dataset.take(news([row(1, "open", 1, 0.9), row(3, "open", 1, 0.2), row(4, "open", 1, 0.9)]));
    dataset.order = "score";
    expect(dataset.visible).toEqual([3, 1, 4, 0, 2, 5, 6, 7]);
    dataset.take(news([row(6, "open", 1, 0.1)]));
    expect(dataset.visible[0]).toBe(6);
    dataset.order = "given";
    expect(dataset.visible).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("may come in the order of their scores from the beginning, the first one included", () => {
    make(8, "score");
    dataset.take(news([row(0, "open", 1, 0.8), row(5, "open", 1, 0.3)], { whole: true }));
    expect(dataset.visible.slice(0, 3)).toEqual([5, 0, 1]);
    dataset.take(news([row(0, "open", 1, 0.1)]));
    expect(dataset.visible.slice(0, 3)).toEqual([5, 0, 1]);
  });

  it("keep their place while a person makes them better", async () => {
    dataset.take(news([row(1, "open", 1, 0.2), row(2, "open", 1, 0.3), row(3, "open", 1, 0.4)]));
    dataset.order = "score";
    dataset.go(1);
    await obey();
    dataset.take(news([row(1, "open", 1, 0.99)]));
    expect(dataset.visible.slice(0, 3)).toEqual([1, 2, 3]);
    expect(await walk(1)).toBe(2);
    dataset.order = "score";
    expect(dataset.visible.slice(0, 3)).toEqual([2, 3, 1]);
  });
});

describe("stepping", () => {
  it("tells the kernel which images come after", () => {
    dataset.take(news([row(3, "accepted"), row(5, "open", 0, null, "broken")]));
    dataset.filter = "open";
    dataset.step(1);
    expect(asked()).toEqual([["go", { image_idx: 1, ahead: [2, 4, 6] }]]);
  });

  it("goes past what cannot be opened", async () => {
    dataset.take(news([row(1, "open", 0, null, "no"), row(2, "open", 0, null, "no")]));
    expect(await walk(1)).toBe(3);
    expect(await walk(-1)).toBe(0);
  });

  it.each([
    ["given", 1, 5],
    ["given", -1, 2],
    ["score", 1, 5],
    ["score", -1, 7],
  ] as const)(
    "ordered as %s, way %i, from an image out of the filter leads to %i",
    async (order, way, found) => {
      const scores = [0.5, 0.6, 0.2, 0.3, 0.4, 0.7, 0.8, 0.1];
      dataset.take(news(scores.map((score, index) => row(index, "open", 1, score))));
      dataset.take(
        news([
          row(3, "accepted", 1, 0.3),
          row(4, "accepted", 1, 0.4),
          row(2, order === "score" ? "accepted" : "open", 1, 0.2),
        ]),
      );
      dataset.take(news([row(0, "rejected", 1, 0.5), row(1, "rejected", 1, 0.6)]));
      dataset.order = order;
      dataset.filter = "open";
      dataset.go(4);
      await obey();
      expect(await walk(way)).toBe(found);
    },
  );

  it("says where there is no further", () => {
    dataset.step(-1);
    dataset.filter = "accepted";
    dataset.step(1);
    dataset.take(news([row(0, "accepted")]));
    dataset.step(1);
    expect(said).toEqual(["This is the first image.", "No image is accepted.", "This is the last image."]);
    expect(sent).toEqual([]);
    dataset.filter = "all";
    move(7);
    dataset.step(1);
    expect(said.at(-1)).toBe("This is the last image: the filter “To do” shows what is left, 6.");
  });

  it("asks for the newest image alone while the kernel is busy", async () => {
    for (let k = 0; k < 5; k++) dataset.step(1);
    expect([goes(), dataset.target, dataset.shown]).toEqual([[1], 5, 0]);
    await obey();
    expect(goes()).toEqual([1, 5]);
    await obey();
    expect([dataset.shown, dataset.away]).toEqual([5, false]);
    expect(turns).toBe(3);
  });

  it("lets each picture be seen before it asks for the next", async () => {
    dataset.step(1);
    shown.away = true;
    dataset.step(1);
    await obey();
    expect(goes()).toEqual([1]);
    shown.arrive();
    await tick();
    expect(goes()).toEqual([1, 2]);
  });

  it("ends where it was if there and back is faster than the kernel", async () => {
    dataset.step(1);
    dataset.step(-1);
    expect(dataset.away).toBe(true);
    await obey();
    expect(goes()).toEqual([1, 0]);
    await obey();
    expect([dataset.current, dataset.away]).toEqual([0, false]);
  });

  it("falls back from an image that cannot be opened, and gets past it the next time", async () => {
    dataset.step(1);
    expect(dataset.away).toBe(true);
    dataset.take(news([row(1, "open", 0, null, "not an image")]));
    await sent[0]?.answer(false);
    expect([dataset.target, dataset.away]).toEqual([0, false]);
    expect(await walk(1)).toBe(2);
  });

  it("stays within the folder", async () => {
    dataset.go(99);
    await obey();
    expect(dataset.target).toBe(7);
    dataset.go(-4);
    expect(dataset.target).toBe(0);
  });

  it("follows the kernel to another image", () => {
    move(5);
    expect([dataset.target, dataset.away]).toEqual([5, false]);
    expect(sent).toEqual([]);
  });
});

describe("a decision", () => {
  it("is about the image on the canvas, and leads to the next", async () => {
    move(2);
    void dataset.decide("accepted");
    expect(asked()).toEqual([["decide", { image_idx: 2, status: "accepted" }]]);
    await obey();
    expect(goes()).toEqual([3]);
  });

  it("that is taken back stays", async () => {
    void dataset.decide("open");
    await obey();
    expect(asked()).toEqual([["decide", { image_idx: 0, status: "open" }]]);
    expect(said).toEqual(["picture to do again"]);
  });

  it("is heard with the image that comes next, once", async () => {
    dataset.take(news([row(1, "open", 1), row(2, "skipped")], { whole: true, names: [..."abcdefgh"] }));
    void dataset.decide("accepted");
    await sent[0]?.answer(true);
    expect(dataset.arrival(1)).toBe("a accepted. Image 2: b, 1 object");
    expect(dataset.arrival(2)).toBe("Image 3: c, no objects, skipped");
  });

  it("that was taken back is not heard later", async () => {
    dataset.take(news([0, 1, 2, 3, 4, 5, 6].map((index) => row(index, "accepted"))));
    move(7);
    void dataset.decide("accepted");
    await obey();
    void dataset.decide("open");
    await sent[1]?.answer(true);
    expect(dataset.arrival(6)).toBe("Image 7, no objects, accepted");
  });

  it("leads back to what was left out", async () => {
    dataset.take(news([0, 1, 3, 5, 6].map((index) => row(index, "accepted"))));
    dataset.take(news([row(2, "open", 0, null, "broken")]));
    move(7);
    void dataset.decide("accepted");
    await obey();
    expect(goes()).toEqual([4]);
    expect(said).toEqual([]);
  });

  it("that is refused stays", async () => {
    void dataset.decide("rejected");
    await sent[0]?.answer(false);
    expect(sent).toHaveLength(1);
    expect(dataset.row(0).status).toBe("open");
  });

  it("is not made of an image that is not there yet", async () => {
    dataset.step(1);
    await dataset.decide("accepted");
    expect(sent.map(({ command }) => command.name)).toEqual(["go"]);
    expect(said.at(-1)).toMatch(/^The next image is on its way/);
  });

  it("is made once, however fast the key is pressed", async () => {
    void dataset.decide("accepted");
    void dataset.decide("accepted");
    expect(sent).toHaveLength(1);
    expect(said).toEqual(["The next image is on its way: decide when it is there."]);
    await obey();
    expect(goes()).toEqual([1]);
  });

  it("follows a person who went elsewhere meanwhile", async () => {
    void dataset.decide("accepted");
    dataset.go(6);
    await sent[0]?.answer(true);
    expect(goes()).toEqual([6]);
    expect(dataset.target).toBe(6);
  });

  it("is summed up after the last image", async () => {
    dataset.take(news([0, 1, 2, 3, 4].map((index) => row(index, "accepted"))));
    dataset.take(news([row(5, "rejected"), row(6, "skipped")]));
    move(7);
    void dataset.decide("rejected");
    await obey();
    expect(said).toEqual(["picture rejected. That was the last image: 5 accepted, 2 rejected, 1 skipped."]);
    move(3);
    dataset.filter = "skipped";
    dataset.take(news([row(6, "open")]));
    void dataset.decide("skipped");
    await obey();
    expect(said.at(-1)).toBe(
      "picture skipped. That was the last image: 4 accepted, 2 rejected, 1 skipped, 1 to do.",
    );
  });
});

it("asks the rest what this image was asked", () => {
  dataset.toRest();
  expect(asked()).toEqual([["apply_to_rest", {}]]);
});
