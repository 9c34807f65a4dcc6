/** Run lengths of a mask on the wire, and spans per row for drawing. */

const MAX_RUN = 2 ** 31 - 1;

export interface Runs {
  height: number;
  width: number;
  /** Row-major run lengths, the first one background. */
  runs: Uint32Array;
}

/** Bytes of a message's buffer; a view into a larger buffer keeps its own offset and length. */
export function toBytes(buffer: ArrayBuffer | ArrayBufferView): Uint8Array<ArrayBuffer> {
  return buffer instanceof ArrayBuffer
    ? new Uint8Array(buffer)
    : new Uint8Array(buffer.buffer as ArrayBuffer, buffer.byteOffset, buffer.byteLength);
}

class Reader {
  #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** Plain arithmetic, not bit operators: a zigzag difference of two 31-bit runs needs 32 bits. */
  varint(): number {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < 5; count++) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new Error("mask is truncated: its last number is not complete");
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        if (byte === 0 && count > 0) throw new Error("mask has an overlong number");
        if (value > 0xffffffff) throw new Error("mask has a number beyond 32 bits");
        return value;
      }
      factor *= 128;
    }
    throw new Error("mask has an overlong number: more than five bytes");
  }
}

export function decodeRuns(bytes: Uint8Array): Runs {
  const reader = new Reader(bytes);
  const height = reader.varint();
  const width = reader.varint();
  if (height > MAX_RUN || width > MAX_RUN) throw new Error(`mask is too large: ${height} x ${width}`);
  const runs: number[] = [];
  let sum = 0;
  while (!reader.done) {
    const raw = reader.varint();
    let run = raw;
    if (runs.length >= 2) {
      const difference = raw % 2 === 0 ? raw / 2 : -(raw + 1) / 2;
      run = (runs[runs.length - 2] ?? 0) + difference;
    }
    if (run === 0 && runs.length > 0) throw new Error("mask has an empty run inside");
    if (run < 0) throw new Error(`mask has a negative run: ${run}`);
    if (run > MAX_RUN) throw new Error(`mask has a run that is too long: ${run}`);
    runs.push(run);
    sum += run;
  }
  if (sum !== height * width) {
    throw new Error(`mask runs sum to ${sum}, expected ${height} x ${width} = ${height * width}`);
  }
  return { height, width, runs: Uint32Array.from(runs) };
}

export function encodeRuns({ height, width, runs }: Runs): Uint8Array {
  const out: number[] = [];
  const put = (value: number) => {
    let rest = value;
    while (rest >= 128) {
      out.push((rest % 128) + 128);
      rest = Math.floor(rest / 128);
    }
    out.push(rest);
  };
  put(height);
  put(width);
  runs.forEach((run, index) => {
    const difference = index < 2 ? 0 : run - (runs[index - 2] ?? 0);
    if (index < 2) put(run);
    else put(difference >= 0 ? 2 * difference : -2 * difference - 1);
  });
  return Uint8Array.from(out);
}

/** A decoded mask: foreground spans, cut at row ends, with direct access to each row. */
export class Mask {
  readonly height: number;
  readonly width: number;
  /** First row that holds a span, and one past the last. */
  readonly top: number;
  readonly bottom: number;
  /** `[start, end)` column pairs; those of row `top + i` lie at `2 * rows[i] .. 2 * rows[i + 1]`. */
  readonly spans: Uint32Array;
  readonly rows: Uint32Array;

  constructor({ height, width, runs }: Runs) {
    this.height = height;
    this.width = width;
    const spans: number[] = [];
    const rows: number[] = [];
    let top = 0;
    let row = 0;
    let offset = 0;
    for (let index = 0; index < runs.length; index++) {
      const end = offset + (runs[index] ?? 0);
      if (index % 2 === 1) {
        while (offset < end) {
          const y = Math.floor(offset / width);
          if (rows.length === 0) {
            top = y;
            row = y;
            rows.push(0);
          }
          while (row < y) {
            rows.push(spans.length / 2);
            row++;
          }
          const stop = Math.min(end, (y + 1) * width);
          spans.push(offset - y * width, stop - y * width);
          offset = stop;
        }
      }
      offset = end;
    }
    this.top = top;
    this.bottom = rows.length > 0 ? row + 1 : top;
    rows.push(spans.length / 2);
    this.spans = Uint32Array.from(spans);
    this.rows = Uint32Array.from(rows);
  }

  static decode(buffer: ArrayBuffer | ArrayBufferView): Mask {
    return new Mask(decodeRuns(toBytes(buffer)));
  }

  contains(x: number, y: number): boolean {
    const row = Math.floor(y);
    if (row < this.top || row >= this.bottom) return false;
    const column = Math.floor(x);
    const last = this.rows[row - this.top + 1] ?? 0;
    for (let span = this.rows[row - this.top] ?? 0; span < last; span++) {
      if (column < (this.spans[2 * span] ?? 0)) return false;
      if (column < (this.spans[2 * span + 1] ?? 0)) return true;
    }
    return false;
  }
}
