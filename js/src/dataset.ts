/** The images of a data set: which one a person is at, what became of each, and in which order to go through them. */

import { type Command, Throttle } from "./commands";
import { capitalized, type Seen, type State } from "./state";

export type ImageStatus = "open" | "accepted" | "rejected" | "skipped";
export type Filter = "all" | ImageStatus | "empty";
export type Order = "given" | "score";

export interface DatasetInfo {
  length: number;
  /** Name of the file that the labels are written to. */
  out: string;
  order: Order;
}

export interface ImageRow {
  status: ImageStatus;
  /** Of its objects. */
  count: number;
  /** The lowest of its objects. */
  score: number | null;
  /** Why the file cannot be opened. */
  error: string | null;
}

export interface DatasetNews {
  whole: boolean;
  names?: readonly string[];
  rows: readonly (readonly [
    image: number,
    status: ImageStatus,
    count: number,
    score: number | null,
    error: string | null,
  ])[];
  classes: readonly (readonly [label: string, count: number])[];
  applied: string | null;
}

/** Where the image on the canvas is known from. */
export interface Shown extends Seen {
  /** Resolves once the picture on the canvas is that of the kernel's state, or cannot be. */
  arrived(): Promise<void>;
}

export interface DatasetHost {
  say(message: string): void;
  /** Another image is on the canvas. */
  turned(): void;
  changed(): void;
  run(command: Command): Promise<unknown>;
}

export const FILTERS: readonly Filter[] = ["all", "open", "accepted", "rejected", "skipped", "empty"];

/** What there is to say of a filter that holds nothing. */
export const NONE: Record<Filter, string> = {
  all: "There are no images.",
  open: "No image is left to do.",
  accepted: "No image is accepted.",
  rejected: "No image is rejected.",
  skipped: "No image is skipped.",
  empty: "No image is empty.",
};
const UNTOUCHED: ImageRow = { status: "open", count: 0, score: null, error: null };
/** Images that the kernel opens before anybody is there. */
const AHEAD = 3;

export class Dataset implements Seen {
  names: readonly string[] = [];
  /** Objects of each class in all images that are not rejected; those without one have "". */
  classes: ReadonlyMap<string, number> = new Map();
  /** What untouched images are asked for, in words. */
  applied: string | null = null;
  readonly out: string;
  /** Where a person wants to be. The kernel and the canvas follow. */
  target = 0;
  #filter: Filter = "all";
  #order: Order;
  #rows: ImageRow[];
  /** Scores to sort by: an image that a person has been at keeps its place while its objects get better. */
  #ranks: (number | null)[];
  #visited = new Set<number>();
  #visible: readonly number[] | null = null;
  #counts: Record<Filter, number> | null = null;
  #kernel: Seen;
  #page: Shown;
  #host: DatasetHost;
  #seek: Throttle<number>;
  /** The image that the kernel said last. */
  #told = -1;
  #was = -1;
  #deciding = false;
  /** The last decision, in words, until it was heard. */
  #decided: string | null = null;
  #isTold = false;

  constructor(info: DatasetInfo, kernel: Seen, page: Shown, host: DatasetHost) {
    this.out = info.out;
    this.#order = info.order;
    this.#rows = Array.from({ length: info.length }, () => UNTOUCHED);
    this.#ranks = this.#rows.map(() => null);
    this.#kernel = kernel;
    this.#page = page;
    this.#host = host;
    this.#seek = new Throttle((index) => this.#tellKernel(index));
  }

  get length(): number {
    return this.#rows.length;
  }

  /** The image that the kernel is at. */
  get current(): number {
    return this.#kernel.state?.image_idx ?? 0;
  }

  /** The image on the canvas. */
  get shown(): number {
    return this.#page.state?.image_idx ?? this.current;
  }

  get state(): State | null {
    return this.#page.state;
  }

  get away(): boolean {
    return this.#seek.busy || this.target !== this.shown || this.#page.away === true;
  }

  row(index: number): ImageRow {
    return this.#rows[index] ?? UNTOUCHED;
  }

  name(index: number): string {
    return this.names[index] ?? (index === this.shown ? (this.state?.image.name ?? "") : "");
  }

  get filter(): Filter {
    return this.#filter;
  }

  set filter(filter: Filter) {
    this.#filter = filter;
    this.#refresh();
  }

  get order(): Order {
    return this.#order;
  }

  set order(order: Order) {
    this.#order = order;
    this.#visited = new Set([this.target]);
    this.#ranks = this.#rows.map(({ score }) => score);
    this.#refresh();
  }

  /** Whether there is anything to order by score. */
  get scored(): boolean {
    return this.#rows.some(({ score }) => score !== null);
  }

  /** The images of the filter, in order. The same array as long as it holds the same. */
  get visible(): readonly number[] {
    this.#visible ??= [...this.#rows.keys()]
      .filter((index) => matches(this.row(index), this.#filter))
      .sort((a, b) => this.#compare(a, b));
    return this.#visible;
  }

  get counts(): Readonly<Record<Filter, number>> {
    if (this.#counts === null) {
      const counts = { all: 0, open: 0, accepted: 0, rejected: 0, skipped: 0, empty: 0 };
      for (const row of this.#rows) for (const each of FILTERS) if (matches(row, each)) counts[each]++;
      this.#counts = counts;
    }
    return this.#counts;
  }

  /** Place of an image among the visible ones; of one that is not among them, where it would be. */
  placeOf(index: number): number {
    const list = this.visible;
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(list[middle] ?? 0, index) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Takes the kernel's news; returns whether they are of other files than before. */
  take({ whole, names, rows, classes, applied }: DatasetNews): boolean {
    const isFirst = !this.#isTold;
    this.#isTold = true;
    const others = names !== undefined && this.names.length > 0 && !isSame(names, this.names);
    if (names !== undefined) this.names = names;
    if (whole) {
      const length = names?.length ?? this.length;
      this.#rows = Array.from({ length }, () => UNTOUCHED);
      this.#ranks = Array.from({ length }, (_, index) => (others ? null : (this.#ranks[index] ?? null)));
    }
    for (const [index, status, count, score, error] of rows) {
      if (index < 0 || index >= this.length) continue;
      this.#rows[index] = { status, count, score, error };
      if (isFirst || others || !this.#visited.has(index)) this.#ranks[index] = score;
    }
    this.classes = new Map(classes);
    this.applied = applied;
    this.#refresh();
    return others;
  }

  /** The kernel's state, or the picture on the canvas, has changed: the kernel may have gone elsewhere by itself. */
  refresh(): void {
    const { current } = this;
    if (current !== this.#told && !this.#seek.busy) this.#aim(current);
    this.#told = current;
    const { shown } = this;
    if (shown === this.#was) return;
    this.#was = shown;
    this.#host.turned();
  }

  go(index: number): void {
    const wanted = Math.max(0, Math.min(Math.round(index), this.length - 1));
    if (wanted === this.target && !this.away) return;
    this.#aim(wanted);
    this.#seek.push(wanted);
    this.#host.changed();
  }

  /** What became of an image, in words. */
  describe(index: number): string {
    const { status, count, error } = this.row(index);
    const name = this.name(index);
    const start = `image ${index + 1}${name === "" ? "" : `: ${name}`}`;
    if (error !== null) return `${start}, cannot be opened: ${error}`;
    const objects = count === 0 ? "no objects" : `${count} object${count === 1 ? "" : "s"}`;
    return `${start}, ${objects}${status === "open" ? "" : `, ${status}`}`;
  }

  /** What a person hears who gets to an image: first what was decided of the one before. */
  arrival(index: number): string {
    const words = this.describe(index);
    const decided = this.#decided === null ? "" : `${this.#decided}. `;
    this.#decided = null;
    return `${decided}${capitalized(words)}`;
  }

  /** Within the filter, from where the wanted image is or would be. */
  step(way: 1 | -1): void {
    const next = this.#next(this.target, way);
    if (next !== null) this.go(next);
    else if (this.visible.length === 0) this.#host.say(NONE[this.#filter]);
    else
      this.#host.say(way > 0 ? `This is the last image${this.#leftBefore()}.` : "This is the first image.");
  }

  /** Of the image on the canvas, and on to the next one. */
  async decide(status: ImageStatus): Promise<void> {
    if (this.#deciding || this.away) {
      return this.#host.say("The next image is on its way: decide when it is there.");
    }
    const index = this.shown;
    this.#deciding = true;
    try {
      const done = await this.#host.run({ name: "decide", args: { image_idx: index, status } });
      if (done !== true) return;
    } finally {
      this.#deciding = false;
    }
    // The kernel's news may come later, and the next image depends on them.
    this.#rows[index] = { ...this.row(index), status };
    this.#refresh();
    const name = this.name(index) || `image ${index + 1}`;
    this.#decided = null;
    if (status === "open") return this.#host.say(`${name} to do again`);
    const decided = `${name} ${status}`;
    if (this.target === index) {
      const next = this.#next(index, 1) ?? this.#left(index)[0];
      if (next === undefined) return this.#host.say(`${decided}. That was the last image: ${this.tally}.`);
      this.go(next);
    }
    this.#decided = decided;
  }

  #leftBefore(): string {
    const { length } = this.#left(this.target);
    return this.#filter === "all" && length > 0 ? `: the filter “To do” shows what is left, ${length}` : "";
  }

  /** The other images of the filter that are to do. */
  #left(but: number): number[] {
    const isLeft = ({ status, error }: ImageRow) => status === "open" && error === null;
    return this.visible.filter((index) => index !== but && isLeft(this.row(index)));
  }

  /** How many were decided, in words. */
  get tally(): string {
    const { accepted, rejected, skipped, open } = this.counts;
    const words = `${accepted} accepted, ${rejected} rejected, ${skipped} skipped`;
    return open > 0 ? `${words}, ${open} to do` : words;
  }

  /** Asks what this image was asked of every image that nobody has touched. */
  toRest(): void {
    if (this.away) return this.#host.say("The next image is on its way: try again when it is there.");
    void this.#host.run({ name: "apply_to_rest", args: {} });
  }

  #refresh(): void {
    this.#counts = null;
    this.#visible = null;
    this.#host.changed();
  }

  #aim(index: number): void {
    this.target = index;
    this.#visited.add(index);
  }

  #compare(a: number, b: number): number {
    if (this.#order === "given") return a - b;
    const [first, second] = [this.#ranks[a] ?? null, this.#ranks[b] ?? null];
    if (first === second) return a - b;
    if (first === null) return 1;
    return second === null ? -1 : first - second;
  }

  /** The next image that can be opened; null where there is none. */
  #next(from: number, way: 1 | -1): number | null {
    const list = this.visible;
    let place = this.placeOf(from);
    if (way < 0 || list[place] === from) place += way;
    for (; place >= 0 && place < list.length; place += way) {
      const index = list[place] as number;
      if (this.row(index).error === null) return index;
    }
    return null;
  }

  #ahead(index: number): number[] {
    const found: number[] = [];
    for (let at = this.#next(index, 1); at !== null && found.length < AHEAD; at = this.#next(at, 1)) {
      found.push(at);
    }
    return found;
  }

  async #tellKernel(index: number): Promise<void> {
    if (this.current !== index) {
      const args = { image_idx: index, ahead: this.#ahead(index) };
      const done = await this.#host.run({ name: "go", args });
      if (done !== true && this.target === index) this.target = this.current;
    }
    // Who holds a key down wants to see what passes by.
    await this.#page.arrived();
    if (this.target === index) this.target = this.current;
    this.#host.changed();
  }
}

function matches({ status, count, error }: ImageRow, filter: Filter): boolean {
  if (filter === "all") return true;
  // Nobody knows what is in a file that cannot be opened.
  return filter === "empty" ? count === 0 && error === null : status === filter;
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, index) => each === b[index]);
}
