/**
 * A run over time, as charts need it: intervals are added up in slots, so that a run of any length has a bounded number
 * of them. Histograms are added, never quantiles: the quantiles of a slot are those of all its samples.
 */
import { addTo } from '../metrics/cells.ts';
import type { HdrScale } from '../metrics/hdr.ts';
import { seriesInfo, type SeriesId } from '../metrics/ops.ts';
import { rowOf, type ChartData, type Slot, type SlotSeries, type Spectrum } from './chart-data.ts';

/** More slots than this are joined two by two: more points than a chart has pixels help nobody. */
const SLOTS_MAX = 480;

/** The non-empty cells of a histogram, in order. */
interface Sparse {
  readonly cells: number[];
  readonly counts: number[];
}

interface OpenSlot {
  start: number;
  end: number;
  /** Intervals in it. */
  intervals: number;
  series: Map<SeriesId, Sparse>;
  counters: Record<string, number>;
  gauges: Record<string, number>;
  guests: Readonly<Record<string, number>>;
  /** What it looks like, once nothing is added any more. */
  closed: Slot | null;
}

export interface TimelineInterval {
  readonly startSeconds: number;
  readonly endSeconds: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly gauges: Readonly<Record<string, number>>;
  readonly guests: Readonly<Record<string, number>>;
}

export class Timeline {
  /** Intervals per slot. */
  merged = 1;
  readonly #scale: HdrScale;
  #slots: OpenSlot[] = [];
  readonly #whole = new Map<SeriesId, Float64Array>();

  /** The heatmap's row of each cell. */
  readonly #rows: Int16Array;

  constructor(scale: HdrScale) {
    this.#scale = scale;
    this.#rows = Int16Array.from({ length: scale.cells }, (_, cell) => rowOf(scale.lowest(cell)));
  }

  get length(): number {
    return this.#slots.length;
  }

  /** Adds the interval after the last one; `series` holds the cells of what was recorded in it. */
  add(interval: TimelineInterval, series: Iterable<readonly [SeriesId, Float64Array]>): void {
    const sparse = new Map<SeriesId, Sparse>();
    for (const [id, cells] of series) {
      const own = toSparse(cells);
      sparse.set(id, own);
      const whole = this.#whole.get(id) ?? new Float64Array(this.#scale.cells);
      this.#whole.set(id, whole);
      own.cells.forEach((cell, i) => addTo(whole, cell, own.counts[i] as number));
    }
    const { startSeconds: start, endSeconds: end, counters, gauges, guests } = interval;
    const fresh: OpenSlot = {
      start,
      end,
      intervals: 1,
      series: sparse,
      counters: { ...counters },
      gauges: { ...gauges },
      guests,
      closed: null,
    };
    const last = this.#slots.at(-1);
    if (last !== undefined && last.intervals < this.merged) join(last, fresh);
    else this.#slots.push(fresh);
    if (this.#slots.length <= SLOTS_MAX) return;
    this.merged *= 2;
    this.#slots = this.#slots.flatMap((slot, i) => {
      if (i % 2 === 1) return [];
      const next = this.#slots[i + 1];
      if (next !== undefined) join(slot, next);
      return [slot];
    });
  }

  /** The slots from `from` on. */
  slots(from = 0): Slot[] {
    return this.#slots.slice(from).map((slot) => (slot.closed ??= this.#close(slot)));
  }

  spectra(): ChartData['spectra'] {
    const out: Record<string, Spectrum> = {};
    for (const [id, cells] of this.#whole) {
      const spectrum = spectrumOf(this.#scale, cells);
      if (spectrum !== null) out[seriesInfo(id).name] = spectrum;
    }
    return out;
  }

  /** Counts of the whole run, by series. */
  get whole(): ReadonlyMap<SeriesId, Float64Array> {
    return this.#whole;
  }

  #close({ start, end, series, counters, gauges, guests }: OpenSlot): Slot {
    const out: Record<string, SlotSeries> = {};
    for (const [id, sparse] of series) {
      const one = this.#summary(sparse);
      if (one !== null) out[seriesInfo(id).name] = one;
    }
    return { start: round(start), end: round(end), series: out, counters, gauges, guests };
  }

  #summary({ cells, counts }: Sparse): SlotSeries | null {
    const count = counts.reduce((sum, n) => sum + n, 0);
    if (count === 0) return null;
    const top = (p: number): number => {
      let left = Math.ceil((p / 100) * count);
      const at = counts.findIndex((n) => (left -= n) <= 0);
      return this.#scale.highest(cells.at(at) as number);
    };
    const rows: number[] = [];
    const firstRow = this.#rows[cells[0] as number] as number;
    cells.forEach((cell, i) => {
      const row = (this.#rows[cell] as number) - firstRow;
      while (rows.length <= row) rows.push(0);
      rows[row] = (rows[row] as number) + (counts[i] as number);
    });
    return [count, top(50), top(99), top(99.9), top(100), firstRow, ...rows];
  }
}

/** Points of the percentile spectrum, as HdrHistogram's plots have them; null without samples. */
export function spectrumOf(scale: HdrScale, cells: Float64Array): Spectrum | null {
  const count = cells.reduce((sum, n) => sum + n, 0);
  if (count === 0) return null;
  const points: [number, number][] = [];
  let below = 0;
  let maxNs = 0;
  let last = -1;
  for (let cell = 0; cell < cells.length; cell += 1) {
    if (cells[cell] === 0) continue;
    below += cells[cell] as number;
    maxNs = scale.highest(cell);
    // The curve begins at the smallest sample.
    if (points.length === 0) points.push([0, maxNs]);
    // Evenly spaced on the axis the plot has: 1 / (1 - share), logarithmic.
    const place = below === count ? Infinity : -Math.log10(1 - below / count);
    if (place < last + 0.02) continue;
    last = place;
    points.push([Number((below / count).toPrecision(9)), maxNs]);
  }
  return { count, maxNs, points };
}

function toSparse(all: Float64Array): Sparse {
  const cells: number[] = [];
  const counts: number[] = [];
  for (let cell = 0; cell < all.length; cell += 1) {
    const n = all[cell] as number;
    if (n === 0) continue;
    cells.push(cell);
    counts.push(n);
  }
  return { cells, counts };
}

/** Adds a slot to the one before it. */
function join(into: OpenSlot, next: OpenSlot): void {
  into.end = next.end;
  into.intervals += next.intervals;
  into.guests = next.guests;
  into.closed = null;
  for (const [name, n] of Object.entries(next.counters)) into.counters[name] = (into.counters[name] ?? 0) + n;
  for (const [name, n] of Object.entries(next.gauges)) into.gauges[name] = Math.max(into.gauges[name] ?? -Infinity, n);
  for (const [id, sparse] of next.series) {
    const ours = into.series.get(id);
    into.series.set(id, ours === undefined ? sparse : addSparse(ours, sparse));
  }
}

function addSparse(a: Sparse, b: Sparse): Sparse {
  const out: Sparse = { cells: [], counts: [] };
  let i = 0;
  let j = 0;
  while (i < a.cells.length || j < b.cells.length) {
    const left = a.cells[i] ?? Infinity;
    const right = b.cells[j] ?? Infinity;
    out.cells.push(Math.min(left, right));
    out.counts.push((left <= right ? (a.counts[i] as number) : 0) + (right <= left ? (b.counts[j] as number) : 0));
    if (left <= right) i += 1;
    if (right <= left) j += 1;
  }
  return out;
}

/** Nanoseconds are enough. */
const round = (seconds: number): number => Number(seconds.toFixed(9));
