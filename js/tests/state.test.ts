import { describe, expect, it } from "vitest";
import messages from "../../tests/wire/messages.json";
import {
  applyPatch,
  drawOrder,
  fromSnapshot,
  type Patch,
  type State,
  topmostAt,
  type WireState,
} from "../src/state";
import { encodeRows, fromHex, wireInstance, wireState } from "./helpers";

const left = encodeRows(["##..", "##.."]);
const right = encodeRows(["..##", "..##"]);

function start(): State {
  return fromSnapshot(wireState([wireInstance(1, { mask: 0 }), wireInstance(2, { mask: 1 })]), [left, right]);
}

function applied(state: State, patch: Parameters<typeof applyPatch>[3], buffers: Uint8Array[] = []): State {
  const result = applyPatch(state, 5, 6, patch, buffers);
  if (result.kind !== "applied") throw new Error(`the patch was ${result.kind}`);
  return result.state;
}

describe("patches", () => {
  it("keeps the mask that a changed instance does not name, and the identity of the others", () => {
    const before = start();
    const after = applied(before, { base: 5, instances: [wireInstance(1, { label: "cup" })] });
    expect(after.instances[0]?.label).toBe("cup");
    expect(after.instances[0]?.mask).toBe(before.instances[0]?.mask);
    expect(after.instances[0]?.mask?.contains(0, 0)).toBe(true);
    expect(after.instances[1]).toBe(before.instances[1]);
  });

  it("takes a mask away only by null, and replaces it by number", () => {
    const none = applied(start(), { base: 5, instances: [wireInstance(1, { mask: null })] });
    expect(none.instances[0]?.mask).toBeNull();
    const other = applied(start(), { base: 5, instances: [wireInstance(1, { mask: 0 })] }, [right]);
    expect(other.instances[0]?.mask?.contains(0, 0)).toBe(false);
    expect(other.instances[0]?.mask?.contains(3, 1)).toBe(true);
  });

  it("adds, removes and orders", () => {
    const after = applied(start(), {
      base: 5,
      instances: [wireInstance(3)],
      removed: [1],
      order: [3, 2],
      set: { selected: 3 },
    });
    expect(after.instances.map((instance) => instance.object_id)).toEqual([3, 2]);
    expect(after.selected).toBe(3);
  });

  it.each([
    ["older than ours", 4, 3, "stale"],
    ["the same as ours", 5, 5, "stale"],
    ["built on another", 8, 7, "mismatch"],
    ["built on an older one but newer", 6, 4, "mismatch"],
  ])("that is %s changes nothing", (_, rev, base, kind) => {
    const before = start();
    const frozen = JSON.stringify(before);
    expect(applyPatch(before, 5, rev, { base, removed: [1] }, []).kind).toBe(kind);
    expect(JSON.stringify(before)).toBe(frozen);
  });

  it("refuses a mask whose buffer did not come", () => {
    expect(() => applied(start(), { base: 5, instances: [wireInstance(1, { mask: 3 })] })).toThrow(
      /buffer 3/,
    );
  });
});

describe("order of drawing", () => {
  const whole = encodeRows(["####", "####"]);
  const state = (selected: number | null, visible = true) =>
    fromSnapshot(
      wireState([wireInstance(1, { mask: 0, area: 4, visible }), wireInstance(2, { mask: 1, area: 8 })], {
        selected,
      }),
      [left, whole],
    );

  it("puts small above large, and the selected one above all", () => {
    expect(drawOrder(state(null)).map((instance) => instance.object_id)).toEqual([2, 1]);
    expect(drawOrder(state(2)).map((instance) => instance.object_id)).toEqual([1, 2]);
  });

  it("finds what is seen at a place", () => {
    expect(topmostAt(state(null), 0, 0)?.object_id).toBe(1);
    expect(topmostAt(state(2), 0, 0)?.object_id).toBe(2);
    expect(topmostAt(state(null, false), 0, 0)?.object_id).toBe(2);
    expect(topmostAt(state(null), 9, 9)).toBeNull();
  });
});

it("comes from a snapshot and a patch to what Python has after them", () => {
  const snapshot = ({ payload, buffers }: { payload: unknown; buffers: string[] }) =>
    fromSnapshot(payload as WireState, buffers.map(fromHex));
  const { before, patch, after } = messages;
  const result = applyPatch(
    snapshot(before),
    before.rev,
    patch.rev,
    patch.payload as unknown as Patch,
    patch.buffers.map(fromHex),
  );
  expect(result).toEqual({ kind: "applied", state: snapshot(after) });
  expect(result).not.toMatchObject({ state: snapshot(before) });
});
