/**
 * Statistics in shared memory. Each driver thread has one block that only it writes; anybody reads, at any time,
 * without disturbing it. Every word is a double, 8-byte aligned: counts are exact to 2^53 and cannot wrap, and an
 * aligned 64-bit word is never seen half written on the machines Node runs on. All words only grow.
 *
 * A latency series keeps an HdrHistogram's cells (for percentiles, files and merging) and, beside them, counts between
 * fixed edges (for Prometheus and exact shares below a threshold). A block reserves room for every series; the
 * operating system gives pages only to the parts that were written, so unused series and octaves cost nothing.
 */
import { createHash } from 'node:crypto';
import { addTo } from './cells.ts';
import { HdrScale, MAX_TRACKABLE_NS, type SignificantDigits } from './hdr.ts';
import { actualSeries, intendedSeries, SERIES_COUNT, type SeriesId } from './ops.ts';

/** Counters every block has besides the model's. */
export const OWN_COUNTERS = [
  /** Time a driver thread slept because none of its actors was due, ns of real time. */
  'thread_idle_ns',
  /** Deferred updates that were queued and then given up, because their guest died with its worker. */
  'deferred_discarded',
  /** Latencies outside 0 .. 1 h, kept as the nearer end. */
  'values_clamped',
] as const;

/** Edges of the Prometheus buckets, ns: 1 us to 8.4 s by factors of 2, and 10 s. */
const STANDARD_EDGES_NS: readonly number[] = [...Array.from({ length: 24 }, (_, i) => 1000 * 2 ** i), 10e9];
const MAX_EDGES = 64;
const MAGIC = 0x5053_0001;

/**
 * The layout table of a block, in 64-bit words:  header | counters | SERIES_COUNT x (sumNs | maxNs | buckets | cells)
 */
const HEADER_WORDS = 1;
const SUM_NS = 0;
const MAX_NS = 1;
const BUCKETS = 2;

/** Statistics lack a counter that a threshold or a report needs. */
export class UnknownCounterError extends Error {
  override readonly name = 'UnknownCounterError';
}

/** What all blocks of a run agree on. Build one per process from the same plan. */
export class StatsLayout {
  readonly counterNames: readonly string[];
  readonly scale: HdrScale;
  /** Upper, inclusive bucket edges in ns, ascending; one more bucket holds what lies above. */
  readonly edgesNs: Float64Array;
  /** Size of one block in bytes, a multiple of 64. */
  readonly bytes: number;
  /** Equal for layouts whose snapshots can be merged. */
  readonly fingerprint: string;
  readonly countersAt = HEADER_WORDS;
  readonly seriesAt: number;
  readonly seriesWords: number;
  /** Per cell the first edge that can hold a value of it. */
  readonly firstEdge: Uint8Array;

  /**
   * @param modelCounters names of the counters the driver mirrors, by index (MODEL_COUNTERS of the model).
   * @param options.exactEdgesNs values that get a bucket edge of their own, so that the share below is exact:
   * thresholds.
   */
  constructor(
    modelCounters: readonly string[],
    options: { readonly digits?: SignificantDigits; readonly exactEdgesNs?: readonly number[] } = {},
  ) {
    this.counterNames = [...modelCounters, ...OWN_COUNTERS];
    this.scale = new HdrScale(options.digits ?? 2);
    const exact = (options.exactEdgesNs ?? []).filter((ns) => ns > 0 && ns <= MAX_TRACKABLE_NS);
    const edges = [...new Set([...STANDARD_EDGES_NS, ...exact.map(Math.floor)])].toSorted((a, b) => a - b);
    if (edges.length > MAX_EDGES) throw new Error(`${edges.length} bucket edges, at most ${MAX_EDGES} are possible`);
    this.edgesNs = Float64Array.from(edges);
    this.firstEdge = new Uint8Array(this.scale.cells);
    for (let cell = 0, edge = 0; cell < this.scale.cells; cell += 1) {
      while (edge < edges.length && (edges[edge] as number) < this.scale.lowest(cell)) edge += 1;
      this.firstEdge[cell] = edge;
    }
    this.seriesAt = HEADER_WORDS + this.counterNames.length;
    this.seriesWords = BUCKETS + this.buckets + this.scale.cells;
    this.bytes = Math.ceil(((this.seriesAt + SERIES_COUNT * this.seriesWords) * 8) / 64) * 64;
    this.fingerprint = createHash('sha256')
      .update(JSON.stringify([this.counterNames, this.scale.digits, edges, SERIES_COUNT]))
      .digest('hex')
      .slice(0, 16);
  }

  /** Buckets of a series: one per edge and one above the last. */
  get buckets(): number {
    return this.edgesNs.length + 1;
  }

  /** The index of a counter by name. @throws UnknownCounterError */
  counter(name: string): number {
    const index = this.counterNames.indexOf(name);
    if (index < 0) throw new UnknownCounterError(`no counter named ${name}`);
    return index;
  }
}

/** One thread's statistics. Recording allocates nothing and takes a few nanoseconds; only one thread may record. */
export class StatsBlock {
  readonly layout: StatsLayout;
  readonly #words: Float64Array;
  readonly #edgesNs: Float64Array;
  readonly #firstEdge: Uint8Array;
  readonly #scale: HdrScale;
  readonly #clamped: number;

  /** A view of `layout.bytes` bytes at `byteOffset`, which must be zero or hold a block of the same layout. */
  constructor(layout: StatsLayout, buffer: SharedArrayBuffer | ArrayBuffer, byteOffset = 0) {
    this.layout = layout;
    this.#words = new Float64Array(buffer, byteOffset, layout.bytes / 8);
    const magic = MAGIC * 65536 + layout.counterNames.length * 256 + layout.edgesNs.length;
    if (this.#words[0] === 0) this.#words[0] = magic;
    if (this.#words[0] !== magic) throw new Error('not a statistics block of this layout');
    this.#edgesNs = layout.edgesNs;
    this.#firstEdge = layout.firstEdge;
    this.#scale = layout.scale;
    this.#clamped = layout.counter('values_clamped');
  }

  /** Adds to a counter, by index. */
  count(counter: number, by: number): void {
    addTo(this.#words, HEADER_WORDS + counter, by);
  }

  /** Records one operation under both latencies, ns. */
  recordOp(op: number, outcome: number, actualNs: number, intendedNs: number): void {
    this.record(actualSeries(op, outcome), actualNs, 1);
    this.record(intendedSeries(op, outcome), intendedNs, 1);
  }

  /** Records `times` occurrences of a latency; it is rounded down to whole ns. */
  record(series: SeriesId, latencyNs: number, times: number): void {
    let ns = Math.floor(latencyNs);
    if (!(ns >= 0 && ns <= MAX_TRACKABLE_NS)) {
      ns = ns > MAX_TRACKABLE_NS ? MAX_TRACKABLE_NS : 0;
      this.count(this.#clamped, times);
    }
    const words = this.#words;
    const layout = this.layout;
    const at = layout.seriesAt + series * layout.seriesWords;
    const cell = this.#scale.indexOf(ns);
    let edge = this.#firstEdge[cell] as number;
    while (ns > (this.#edgesNs[edge] as number)) edge += 1;
    if (ns > (words[at + MAX_NS] as number)) words[at + MAX_NS] = ns;
    addTo(words, at + SUM_NS, ns * times);
    addTo(words, at + BUCKETS + edge, times);
    addTo(words, at + BUCKETS + this.#edgesNs.length + 1 + cell, times);
  }

  readCounter(counter: number): number {
    return this.#words[HEADER_WORDS + counter] as number;
  }

  readSumNs(series: SeriesId): number {
    return this.#words[this.#seriesStart(series) + SUM_NS] as number;
  }

  readMaxNs(series: SeriesId): number {
    return this.#words[this.#seriesStart(series) + MAX_NS] as number;
  }

  /** Adds the counts between edges to `into`; true if there are any. */
  addBuckets(series: SeriesId, into: Float64Array): boolean {
    return this.#addWords(this.#seriesStart(series) + BUCKETS, this.layout.buckets, into);
  }

  /** Adds the histogram cells to `into`; true if there are any. */
  addCells(series: SeriesId, into: Float64Array): boolean {
    return this.#addWords(this.#seriesStart(series) + BUCKETS + this.layout.buckets, this.layout.scale.cells, into);
  }

  #seriesStart(series: SeriesId): number {
    return this.layout.seriesAt + series * this.layout.seriesWords;
  }

  #addWords(start: number, length: number, into: Float64Array): boolean {
    let any = false;
    for (let i = 0; i < length; i += 1) {
      const n = this.#words[start + i] as number;
      if (n === 0) continue;
      addTo(into, i, n);
      any = true;
    }
    return any;
  }
}
