/**
 * The bucket layout of HdrHistogram (Gil Tene, public domain): log-linear cells, each octave cut in equal parts so that
 * a value keeps its significant digits. The index is computed here because recording must cost nanoseconds; a test
 * proves it equal to the library's. Files and messages carry the library's own V2 encoding.
 */
import { inflateSync } from 'node:zlib';

/** The largest latency kept, ns: one hour. Longer ones are kept as one hour and counted as clamped. */
export const MAX_TRACKABLE_NS = 3_600_000_000_000;

const INT31 = 0x8000_0000;
const HIGH_SHIFT = 21;
const HIGH_UNIT = 2 ** HIGH_SHIFT;

export type SignificantDigits = 2 | 3;

export class HdrScale {
  readonly digits: SignificantDigits;
  /** Cells of one histogram. */
  readonly cells: number;
  readonly #halfMagnitude: number;
  readonly #subBucketMask: number;

  /** @param digits 2: error at most 1/128 of the value; 3: 1/1024, at 8 times the memory. */
  constructor(digits: SignificantDigits) {
    this.digits = digits;
    this.#halfMagnitude = Math.ceil(Math.log2(2 * 10 ** digits)) - 1;
    this.#subBucketMask = 2 ** (this.#halfMagnitude + 1) - 1;
    this.cells = this.indexOf(MAX_TRACKABLE_NS) + 1;
    // The library always ends with a whole octave.
    const half = 1 << this.#halfMagnitude;
    this.cells = Math.ceil(this.cells / half) * half;
  }

  /** The cell of a whole number of ns, 0 .. MAX_TRACKABLE_NS. */
  indexOf(valueNs: number): number {
    if (valueNs < INT31) {
      const bucket = 31 - Math.clz32(valueNs | this.#subBucketMask) - this.#halfMagnitude;
      return (bucket << this.#halfMagnitude) + (valueNs >>> bucket);
    }
    const bucket = 31 + HIGH_SHIFT - Math.clz32(valueNs / HIGH_UNIT) - this.#halfMagnitude;
    return (bucket << this.#halfMagnitude) + Math.floor(valueNs / 2 ** bucket);
  }

  /** The smallest value of a cell, ns. */
  lowest(cell: number): number {
    const half = 1 << this.#halfMagnitude;
    const bucket = Math.max((cell >> this.#halfMagnitude) - 1, 0);
    return (cell - bucket * half) * 2 ** bucket;
  }

  /** The largest value of a cell, ns. */
  highest(cell: number): number {
    return this.lowest(cell + 1) - 1;
  }

  /**
   * Decodes what `encodeCells` made. The input is untrusted: sizes are checked before anything is allocated.
   * @throws {Error} saying what is wrong.
   */
  decode(base64: string): Float64Array {
    if (base64.length > MAX_ENCODED_CHARS) throw new Error(`histogram of ${base64.length} characters is too long`);
    const packed = Buffer.from(base64, 'base64');
    if (packed.length < 8 || (packed.readUInt32BE(0) & ~0xf0) >>> 0 !== COMPRESSED_COOKIE) {
      throw new Error('not a compressed HdrHistogram (V2)');
    }
    const length = packed.readUInt32BE(4);
    if (packed.length < 8 + length) throw new Error('histogram is cut off');
    const raw = inflate(packed.subarray(8, 8 + length), HEADER_BYTES + this.cells * MAX_WORD_BYTES);
    if (raw.length < HEADER_BYTES || (raw.readUInt32BE(0) & ~0xf0) >>> 0 !== COOKIE) {
      throw new Error('not an HdrHistogram (V2)');
    }
    const digits = raw.readUInt32BE(12);
    if (digits !== this.digits || raw.readBigUInt64BE(16) !== 1n) {
      throw new Error(`histogram of ${digits} digits, expected ${this.digits} digits of 1 ns`);
    }
    const end = HEADER_BYTES + raw.readUInt32BE(4);
    if (raw.length < end) throw new Error('histogram is cut off');
    return this.#readCounts(raw, end);
  }

  /** Counts are ZigZag LEB128 words of at most 9 bytes; a negative one stands for that many empty cells. */
  #readCounts(raw: Buffer, end: number): Float64Array {
    const out = new Float64Array(this.cells);
    let cell = 0;
    let used = 0;
    for (let at = HEADER_BYTES; at < end;) {
      let word = 0;
      let scale = 1;
      for (let i = 0; ; i += 1) {
        if (at >= end) throw new Error('histogram is cut off');
        const byte = raw[at] as number;
        at += 1;
        const last = i === MAX_WORD_BYTES - 1;
        word += (last ? byte : byte & 0x7f) * scale;
        if (last || byte < 0x80) break;
        scale *= 128;
      }
      if (word > 2 * Number.MAX_SAFE_INTEGER) throw new Error('histogram count is too large');
      if (word % 2 === 1) {
        cell += (word + 1) / 2;
      } else {
        if (cell >= this.cells) throw new Error('histogram has too many cells');
        out[cell] = word / 2;
        cell += 1;
        if (word > 0) used = cell;
      }
      if (cell > this.cells) throw new Error('histogram has too many cells');
    }
    return out.slice(0, used);
  }
}

const COOKIE = 0x1c84_9303;
const COMPRESSED_COOKIE = 0x1c84_9304;
const HEADER_BYTES = 40;
const MAX_WORD_BYTES = 9;
const MAX_ENCODED_CHARS = 1 << 19;

function inflate(data: Buffer, maxOutputLength: number): Buffer {
  try {
    return inflateSync(data, { maxOutputLength });
  } catch (error) {
    throw new Error('histogram does not decompress', { cause: error });
  }
}
