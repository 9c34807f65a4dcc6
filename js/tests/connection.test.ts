import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Connection, KernelError, type Listener } from "../src/connection";
import { encodeRows, Wire, wireInstance, wireState } from "./helpers";

let wire: Wire;
let ending: AbortController;
let errors: string[];
let connection: Connection;

beforeEach(() => {
  vi.useFakeTimers();
  wire = new Wire();
  ending = new AbortController();
  errors = [];
  const listener: Listener = {
    state: () => {},
    progress: () => {},
    activity: () => {},
    error: (message) => errors.push(message),
  };
  connection = new Connection(wire.model, listener, ending.signal);
});

afterEach(() => {
  ending.abort();
  vi.useRealTimers();
});

function begin(rev = 5): void {
  connection.start();
  wire.say(wire.last("hello").id, "snapshot", rev, wireState([wireInstance(1, { mask: 0 })]), [
    encodeRows(["#."]),
  ]);
}

const hellos = () => wire.sent.filter((message) => message.type === "hello").length;

describe("requests", () => {
  it("resolve by their own id alone, once", async () => {
    begin();
    const first = connection.request("command", { name: "undo", args: {} });
    const id = wire.last("command").id;
    const second = connection.request("command", { name: "redo", args: {} });
    expect(wire.last("command").id).not.toBe(id);
    expect(connection.outstanding).toBe(2);
    wire.say("someone-else", "patch", 6, { base: 5 });
    expect(connection.outstanding).toBe(2);
    wire.say(id, "patch", 7, { base: 6, set: { selected: 1 } });
    expect((await first).envelope.rev).toBe(7);
    expect(connection.outstanding).toBe(1);
    wire.say(id, "error", 7, { code: "late", message: "twice" });
    wire.say(wire.last("command").id, "error", 7, { code: "refused", message: "Nothing to redo" });
    await expect(second).rejects.toEqual(new KernelError("refused", "Nothing to redo"));
    expect(connection.outstanding).toBe(0);
    expect(errors).toEqual([]);
  });

  it("apply every patch, also one that answers another view", () => {
    begin();
    wire.say("other-3", "patch", 6, { base: 5, set: { selected: 1 } });
    expect(connection.rev).toBe(6);
    expect(connection.state?.selected).toBe(1);
  });

  it("resolve by a stale patch without taking its content", async () => {
    begin();
    const answer = connection.request("command", { name: "select", args: {} });
    wire.say(wire.last("command").id, "patch", 5, { base: 4, set: { selected: 1 } });
    await answer;
    expect(connection.state?.selected).toBeNull();
    expect(connection.rev).toBe(5);
  });

  it("fail when the channel is gone", async () => {
    const broken = {
      ...wire.model,
      send: () => {
        throw new Error("disposed");
      },
    };
    const other = new Connection(
      broken,
      { state() {}, progress() {}, error() {}, activity() {} },
      ending.signal,
    );
    await expect(other.request("cancel", {})).rejects.toThrow(/could not be reached: disposed/);
    expect(other.outstanding).toBe(0);
  });

  it("say that the kernel has gone once its channel closes, and wait for nothing", async () => {
    const { model } = wire;
    let closed = false;
    const send = model.send.bind(model);
    model.send = (...message) => {
      if (closed) throw new Error("Cannot send");
      send(...message);
    };
    const said: string[] = [];
    connection = new Connection(
      model,
      { state() {}, progress() {}, activity() {}, error: (message) => said.push(message) },
      ending.signal,
    );
    begin();
    wire.emit("comm_live_update");
    vi.runAllTimers();
    expect(connection.presence).toBe("live");
    wire.say(wire.last("hello").id, "snapshot", 6, wireState([]));
    const open = connection.request("command", { name: "undo", args: {} });
    closed = true;
    wire.emit("comm_live_update");
    vi.runAllTimers();
    await expect(open).rejects.toThrow(/run the cell again/);
    expect(connection.presence).toBe("lost");
    expect(connection.outstanding).toBe(0);
    expect(said).toEqual([expect.stringMatching(/run the cell again/)]);
    await expect(connection.request("command", {})).rejects.toThrow(/run the cell again/);
  });
});

describe("notices", () => {
  it("are no errors", () => {
    const told: string[] = [];
    const { model } = wire;
    connection = new Connection(
      model,
      { state() {}, progress() {}, activity() {}, error: (m) => errors.push(m), notice: (m) => told.push(m) },
      ending.signal,
    );
    begin();
    wire.say(null, "notice", 5, { message: "Went on from x.sam3.json" });
    expect(told).toEqual(["Went on from x.sam3.json"]);
    wire.say(null, "error", 5, { code: "model", message: "out of memory" });
    expect(told).toHaveLength(1);
    expect(errors).toContain("out of memory");
  });
});

describe("snapshots", () => {
  it("of another view are not ours; those for everybody are", () => {
    begin();
    wire.say("other-1", "snapshot", 9, wireState([]));
    expect(connection.rev).toBe(5);
    wire.say(null, "snapshot", 9, wireState([]));
    expect(connection.rev).toBe(9);
    expect(connection.state?.instances).toEqual([]);
  });

  it("are asked for once when a patch builds on something unknown", () => {
    begin();
    expect(hellos()).toBe(1);
    wire.say(null, "patch", 9, { base: 8, removed: [1] });
    wire.say(null, "patch", 10, { base: 9, removed: [1] });
    expect(hellos()).toBe(2);
    expect(connection.state?.instances).toHaveLength(1);
    wire.say(wire.last("hello").id, "snapshot", 10, wireState([]));
    expect(connection.rev).toBe(10);
  });

  it("end the wait for what was lost before", async () => {
    begin();
    const lost = connection.request("command", { name: "undo", args: {} });
    wire.say(null, "patch", 9, { base: 8 });
    wire.say(wire.last("hello").id, "snapshot", 9, wireState([]));
    await expect(lost).rejects.toThrow(/did not receive/);
  });

  it("with an unreadable mask are reported and change nothing", () => {
    begin();
    wire.say(null, "patch", 6, { base: 5, instances: [wireInstance(1, { mask: 0 })] }, [
      Uint8Array.of(2, 2, 1),
    ]);
    expect(errors[0]).toMatch(/unreadable.*sum to 1/);
    expect(connection.rev).toBe(5);
  });
});

describe("a silent kernel", () => {
  it("is asked again, and one answer is enough", async () => {
    connection.start();
    expect(connection.presence).toBe("connecting");
    await vi.advanceTimersByTimeAsync(3000);
    expect(connection.presence).toBe("waiting");
    await vi.advanceTimersByTimeAsync(5000);
    expect(hellos()).toBe(3);
    wire.say(wire.sent[0]?.id ?? null, "snapshot", 1, wireState([]));
    expect(connection.presence).toBe("live");
    expect(connection.outstanding).toBe(0);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(hellos()).toBe(3);
  });

  it("is absent where the host knows of no channel", async () => {
    connection = new Connection(
      { ...wire.model, widget_manager: { kernel: null } },
      { state() {}, progress() {}, error() {}, activity() {} },
      ending.signal,
    );
    connection.start();
    await vi.advanceTimersByTimeAsync(3000);
    expect(connection.presence).toBe("absent");
    expect(connection.outstanding).toBe(0);
  });
});

describe("progress", () => {
  const encoding = { phase: "encoding", fraction: 0.4, cancellable: true };
  const idle = { phase: "idle", fraction: null, cancellable: false };

  it("outlasts patches that do not speak of it", () => {
    begin();
    wire.say(null, "progress", 5, encoding);
    wire.say(null, "patch", 6, { base: 5, set: { selected: 1 } });
    expect(connection.status).toEqual(encoding);
    wire.say(null, "progress", 6, idle);
    wire.say(null, "patch", 7, { base: 6, set: { selected: null } });
    expect(connection.status).toEqual(idle);
  });

  it("ends by a patch or a snapshot that says so", () => {
    begin();
    wire.say(null, "progress", 5, encoding);
    wire.say(null, "patch", 6, { base: 5, set: { status: idle } });
    expect(connection.status).toEqual(idle);
    wire.say(null, "progress", 6, encoding);
    wire.say(null, "snapshot", 6, wireState([]));
    expect(connection.status).toEqual(idle);
  });

  it("is known before the first state", () => {
    connection.start();
    wire.say(null, "progress", 0, encoding);
    expect(connection.status).toEqual(encoding);
  });
});

it("leaves nothing behind", () => {
  begin();
  expect(wire.listeners).toBe(2);
  ending.abort();
  expect(wire.listeners).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});
