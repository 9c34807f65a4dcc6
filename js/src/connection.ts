/** Messages to and from the kernel: each request has one answer, and patches build on each other. */

import type { AnyModel } from "@anywidget/types";
import type { DatasetNews } from "./dataset";
import type { TimelineNews } from "./marks";
import type { Buffer, Patch, State, Status, WireState } from "./state";
import { applyPatch, fromSnapshot } from "./state";

/** A page without a kernel may lack the manager. */
export type Model = Omit<AnyModel, "widget_manager"> & { widget_manager?: unknown };

export type RequestType = "hello" | "command" | "cancel" | "tile" | "frame" | "thumb" | "script";

export interface Envelope {
  v: 1;
  id: string | null;
  type: string;
  rev: number;
  payload: unknown;
}

export interface Reply {
  envelope: Envelope;
  buffers: readonly Buffer[];
}

export class KernelError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "KernelError";
    this.code = code;
  }
}

export interface Listener {
  /** The state has changed. */
  state(): void;
  /** The status of work under way has changed. */
  progress(): void;
  /** Something went wrong that no request asked for. */
  error(message: string): void;
  /** The number of unanswered requests, or whether there is a kernel, has changed. */
  activity(): void;
  /** Something that no request asked for, and that nobody need act on. */
  notice?(message: string): void;
  /** News of the timeline of a clip. */
  timeline?(news: TimelineNews): void;
  /** News of the images of a data set. */
  dataset?(news: DatasetNews): void;
}

/** Lost: the kernel was there, and has ended or started anew without this widget. */
export type Presence = "connecting" | "waiting" | "absent" | "live" | "lost";

const IDLE: Status = { phase: "idle", fraction: null, cancellable: false };
const LOST = "The kernel has restarted or ended, and this widget with it: run the cell again.";

/** Nobody waits for these. */
const AHEAD: ReadonlySet<RequestType> = new Set(["frame", "thumb"]);
/** Work of its own, which may be answered after what was asked later. */
const OUT_OF_TURN: ReadonlySet<RequestType> = new Set(["tile", "frame", "thumb"]);

const PATIENCE_MS = 3000;
const RETRY_MS = 5000;

interface Waiting {
  type: RequestType;
  order: number;
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

export class Connection {
  state: State | null = null;
  rev = -1;
  presence: Presence = "connecting";

  #model: Model;
  #listener: Listener;
  #signal: AbortSignal;
  #prefix = Math.random().toString(36).slice(2, 8).padEnd(6, "0");
  #counter = 0;
  #waiting = new Map<string, Waiting>();
  /** News of work that come before the first state. */
  #early: Status = IDLE;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(model: Model, listener: Listener, signal: AbortSignal) {
    this.#model = model;
    this.#listener = listener;
    this.#signal = signal;
    const receive = (message: Envelope, buffers?: readonly Buffer[]) => this.#receive(message, buffers ?? []);
    model.on("msg:custom", receive);
    // The host's word that the channel has changed, given before it has.
    const probe = () => setTimeout(() => this.#probe());
    model.on("comm_live_update", probe);
    signal.addEventListener("abort", () => {
      clearTimeout(this.#timer);
      model.off("msg:custom", receive);
      model.off("comm_live_update", probe);
      for (const waiting of this.#waiting.values()) waiting.reject(new Error("The view was closed."));
      this.#waiting.clear();
    });
  }

  /** Requests whose answer the person waits for. */
  get outstanding(): number {
    if (this.presence === "absent" || this.presence === "lost") return 0;
    let count = 0;
    for (const { type } of this.#waiting.values()) if (!AHEAD.has(type)) count++;
    return count;
  }

  get status(): Status {
    return this.presence === "lost" ? IDLE : (this.state?.status ?? this.#early);
  }

  start(): void {
    this.#hello();
    this.#timer = setTimeout(() => void this.#overdue(), PATIENCE_MS);
  }

  request(type: RequestType, payload: object): Promise<Reply> {
    if (this.#signal.aborted) return Promise.reject(new Error("The view was closed."));
    const order = ++this.#counter;
    const id = `${this.#prefix}-${order}`;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { type, order, resolve, reject });
      try {
        this.#model.send({ v: 1, id, type, rev: this.rev, payload }, undefined, []);
      } catch (error) {
        this.#waiting.delete(id);
        const reason = `The kernel could not be reached: ${error instanceof Error ? error.message : error}`;
        if (this.state !== null) this.#lose();
        reject(new Error(this.presence === "lost" ? LOST : reason));
      }
      this.#listener.activity();
    });
  }

  #hello(): void {
    this.request("hello", {}).catch((error: Error) => {
      if (!this.#signal.aborted) this.#listener.error(error.message);
    });
  }

  /** A channel that is closed throws; any other answers. */
  #probe(): void {
    if (this.#signal.aborted || this.presence !== "live") return;
    this.request("hello", {}).catch(() => {});
  }

  /** What is still open will not be answered. */
  #lose(): void {
    this.presence = "lost";
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(new Error(LOST));
    this.#listener.error(LOST);
  }

  get #helloIsOut(): boolean {
    for (const waiting of this.#waiting.values()) if (waiting.type === "hello") return true;
    return false;
  }

  async #overdue(): Promise<void> {
    if (this.#signal.aborted || this.presence === "live") return;
    this.presence = (await hasNoComm(this.#model)) ? "absent" : "waiting";
    if (this.#signal.aborted || this.state !== null) return;
    this.#hello();
    this.#timer = setTimeout(() => void this.#overdue(), RETRY_MS);
    this.#listener.activity();
  }

  #receive(message: Envelope, buffers: readonly Buffer[]): void {
    if (message?.v !== 1 || this.#signal.aborted) return;
    const waiting = message.id === null ? undefined : this.#waiting.get(message.id);
    try {
      if (message.type === "snapshot") this.#onSnapshot(message, buffers, waiting);
      else if (message.type === "patch") this.#onPatch(message, buffers);
      else if (message.type === "progress") this.#onProgress(message.payload as Status);
      else if (message.type === "notice")
        this.#listener.notice?.((message.payload as { message: string }).message);
      else if (message.type === "timeline") this.#listener.timeline?.(message.payload as TimelineNews);
      else if (message.type === "dataset") this.#listener.dataset?.(message.payload as DatasetNews);
    } catch (error) {
      this.#listener.error(
        `The kernel sent something unreadable: ${error instanceof Error ? error.message : error}`,
      );
    }
    if (message.type === "error") return this.#onError(message, waiting);
    if (waiting === undefined || message.id === null) return;
    this.#waiting.delete(message.id);
    waiting.resolve({ envelope: message, buffers });
    this.#listener.activity();
  }

  #onSnapshot(message: Envelope, buffers: readonly Buffer[], waiting: Waiting | undefined): void {
    if (message.id !== null && waiting === undefined) return;
    this.state = fromSnapshot(message.payload as WireState, buffers);
    this.rev = message.rev;
    this.presence = "live";
    clearTimeout(this.#timer);
    if (waiting) this.#settleUpTo(waiting.order);
    this.#listener.state();
  }

  #onPatch(message: Envelope, buffers: readonly Buffer[]): void {
    if (this.state === null) return;
    const result = applyPatch(this.state, this.rev, message.rev, message.payload as Patch, buffers);
    if (result.kind === "stale") return;
    if (result.kind === "mismatch") {
      if (!this.#helloIsOut) this.#hello();
      return;
    }
    this.state = result.state;
    this.rev = message.rev;
    this.#listener.state();
  }

  #onProgress(status: Status): void {
    this.#early = status;
    // Kept in the state: it holds until progress, a patch or a snapshot says otherwise.
    if (this.state !== null) this.state = { ...this.state, status };
    this.#listener.progress();
  }

  #onError(message: Envelope, waiting: Waiting | undefined): void {
    const { code, message: text } = message.payload as { code: string; message: string };
    if (message.id === null) return this.#listener.error(text);
    if (waiting === undefined) return;
    this.#waiting.delete(message.id);
    waiting.reject(new KernelError(code, text));
    this.#listener.activity();
  }

  /**
   * The kernel answers in order: what was asked before an answered hello and is still open got lost. Of several
   * hellos one answer is enough.
   */
  #settleUpTo(order: number): void {
    for (const [id, waiting] of this.#waiting) {
      if (waiting.type === "hello") {
        if (waiting.order !== order) this.#waiting.delete(id);
        continue;
      }
      if (waiting.order >= order || OUT_OF_TURN.has(waiting.type)) continue;
      this.#waiting.delete(id);
      waiting.reject(new Error("The kernel did not receive this; try it again."));
    }
  }
}

/** A saved page or a restarted kernel has models without a comm, and sending to those is silently nothing. */
async function hasNoComm(model: Model): Promise<boolean> {
  const manager = model.widget_manager as
    | { kernel?: unknown; _get_comm_info?: () => Promise<object> }
    | undefined;
  if (manager === undefined || manager === null) return false;
  if ("kernel" in manager && !manager.kernel) return true;
  if (typeof manager._get_comm_info !== "function") return false;
  try {
    // A busy kernel answers this late too, which is the case of waiting.
    const late = new Promise<null>((resolve) => setTimeout(() => resolve(null), 1000));
    const known = await Promise.race([manager._get_comm_info(), late]);
    return known !== null && Object.keys(known).length === 0;
  } catch {
    return false;
  }
}
