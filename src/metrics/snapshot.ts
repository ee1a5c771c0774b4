/**
 * Snapshots of statistics: what the blocks of a process held at one moment, or what an interval added. They merge by
 * addition, so percentiles of many threads and machines come from merged histograms, never from merged percentiles.
 */
import type { JsHistogram } from 'hdr-histogram-js';
import { encodeCells, toHistogram } from './histogram.ts';
import { addTo } from './cells.ts';
import { seriesInfo, SERIES_COUNT, type SeriesId } from './ops.ts';
import type { StatsBlock, StatsLayout } from './stats.ts';

/**
 * What one series recorded. `cells` ends with the last non-empty cell. Cells and buckets are two counts of the same
 * values; while a thread records they may differ by the value in flight, and neither ever loses one.
 */
export interface SeriesData {
  cells: Float64Array;
  /** Counts between the layout's edges, the last one above all of them. */
  readonly buckets: Float64Array;
  sumNs: number;
  maxNs: number;
}

/** The cheap part of the statistics: enough for Prometheus, read straight from the blocks. */
export interface StatsView {
  readonly layout: StatsLayout;
  counter(name: string): number;
  /** Null while the series is empty. */
  series(id: SeriesId): { readonly buckets: Float64Array; readonly sumNs: number } | null;
}

/** A view of live blocks; each call reads them again. */
export function liveView(layout: StatsLayout, blocks: readonly StatsBlock[]): StatsView {
  return {
    layout,
    counter(name) {
      const index = layout.counter(name);
      return blocks.reduce((sum, block) => sum + block.readCounter(index), 0);
    },
    series(id) {
      const buckets = new Float64Array(layout.buckets);
      let any = false;
      let sumNs = 0;
      for (const block of blocks) {
        if (!block.addBuckets(id, buckets)) continue;
        any = true;
        sumNs += block.readSumNs(id);
      }
      return any ? { buckets, sumNs } : null;
    },
  };
}

export class Snapshot implements StatsView {
  readonly layout: StatsLayout;
  readonly counters: Float64Array;
  /** Non-empty series by number. */
  readonly data: Map<SeriesId, SeriesData>;

  constructor(layout: StatsLayout) {
    this.layout = layout;
    this.counters = new Float64Array(layout.counterNames.length);
    this.data = new Map();
  }

  /** The sum of the blocks now. */
  static take(layout: StatsLayout, blocks: readonly StatsBlock[]): Snapshot {
    const snapshot = new Snapshot(layout);
    for (let i = 0; i < snapshot.counters.length; i += 1) {
      for (const block of blocks) addTo(snapshot.counters, i, block.readCounter(i));
    }
    let buckets = new Float64Array(layout.buckets);
    for (let id = 0; id < SERIES_COUNT; id += 1) {
      const used = blocks.filter((block) => block.addBuckets(id, buckets));
      if (used.length === 0) continue;
      const cells = new Float64Array(layout.scale.cells);
      let sumNs = 0;
      let maxNs = 0;
      for (const block of used) {
        block.addCells(id, cells);
        sumNs += block.readSumNs(id);
        maxNs = Math.max(maxNs, block.readMaxNs(id));
      }
      snapshot.data.set(id, { cells: trim(cells), buckets, sumNs, maxNs });
      buckets = new Float64Array(layout.buckets);
    }
    return snapshot;
  }

  counter(name: string): number {
    return this.counters[this.layout.counter(name)] as number;
  }

  /** Counters by name: all, or those that `keep` accepts. */
  countersByName(keep: (n: number) => boolean = () => true): Record<string, number> {
    const all = this.layout.counterNames.map((name, i) => [name, this.counters[i] as number] as const);
    return Object.fromEntries(all.filter(([, n]) => keep(n)));
  }

  series(id: SeriesId): SeriesData | null {
    return this.data.get(id) ?? null;
  }

  /** How many values the series holds: always the sum of its cells. */
  count(id: SeriesId): number {
    return total(this.data.get(id)?.cells);
  }

  /** The sum of several series, null if all are empty. */
  merged(ids: readonly SeriesId[]): SeriesData | null {
    let sum: SeriesData | null = null;
    for (const id of ids) {
      const one = this.data.get(id);
      if (one === undefined) continue;
      if (sum === null) sum = { ...one, cells: one.cells.slice(), buckets: one.buckets.slice() };
      else addSeries(sum, one);
    }
    return sum;
  }

  /** A library histogram of the series, null if it is empty. */
  histogram(id: SeriesId): JsHistogram | null {
    const one = this.data.get(id);
    return one === undefined ? null : toHistogram(this.layout.scale, one.cells);
  }

  /** Adds another snapshot of the same layout: another thread's, process's or interval's. */
  add(other: Snapshot): void {
    if (other.layout.fingerprint !== this.layout.fingerprint) throw new Error('statistics of different layouts');
    other.counters.forEach((n, i) => addTo(this.counters, i, n));
    for (const [id, theirs] of other.data) {
      const ours = this.data.get(id);
      if (ours === undefined) {
        this.data.set(id, { ...theirs, cells: theirs.cells.slice(), buckets: theirs.buckets.slice() });
      } else {
        addSeries(ours, theirs);
      }
    }
  }

  /** What was added since an earlier snapshot of the same blocks. */
  since(earlier: Snapshot): Snapshot {
    const delta = new Snapshot(this.layout);
    delta.counters.set(this.counters.map((n, i) => n - (earlier.counters[i] as number)));
    for (const [id, now] of this.data) {
      const before = earlier.data.get(id);
      if (before === undefined) {
        delta.data.set(id, now);
        continue;
      }
      const cells = now.cells.slice();
      before.cells.forEach((n, i) => addTo(cells, i, -n));
      const trimmed = trim(cells);
      const buckets = now.buckets.map((n, i) => n - (before.buckets[i] as number));
      if (trimmed.length === 0 && total(buckets) === 0) continue;
      delta.data.set(id, {
        cells: trimmed,
        buckets,
        sumNs: now.sumNs - before.sumNs,
        // A maximum that did not move says nothing of this interval: the top of its highest cell bounds it.
        maxNs:
          now.maxNs > before.maxNs
            ? now.maxNs
            : Math.min(now.maxNs, this.layout.scale.highest(Math.max(trimmed.length - 1, 0))),
      });
    }
    return delta;
  }
}

function addSeries(into: SeriesData, from: SeriesData): void {
  if (from.cells.length > into.cells.length) {
    const longer = new Float64Array(from.cells.length);
    longer.set(into.cells);
    into.cells = longer;
  }
  from.cells.forEach((n, i) => addTo(into.cells, i, n));
  from.buckets.forEach((n, i) => addTo(into.buckets, i, n));
  into.sumNs += from.sumNs;
  into.maxNs = Math.max(into.maxNs, from.maxNs);
}

function trim(cells: Float64Array): Float64Array {
  let end = cells.length;
  while (end > 0 && cells[end - 1] === 0) end -= 1;
  return cells.slice(0, end);
}

export function total(cells: Float64Array | undefined): number {
  let sum = 0;
  if (cells !== undefined) for (const n of cells) sum += n;
  return sum;
}

export const FORMAT = 1;

/** What did not happen is left out where counters are written. */
export const isNotZero = (n: number): boolean => n !== 0;

/** What an encoded snapshot is: JSON of this. */
export interface EncodedSnapshot {
  readonly format: typeof FORMAT;
  /** The layout's fingerprint. */
  readonly layout: string;
  readonly counters: Record<string, number>;
  /** By series name. */
  readonly series: Record<string, [histogram: string, sumNs: number, maxNs: number, buckets: number[]]>;
}

/** A snapshot as text, for another process: compressed histograms of the non-empty series, non-zero counters. */
export function encodeSnapshot(snapshot: Snapshot): string {
  const { layout } = snapshot;
  const encoded: EncodedSnapshot = {
    format: FORMAT,
    layout: layout.fingerprint,
    counters: snapshot.countersByName(isNotZero),
    series: {},
  };
  for (const [id, one] of snapshot.data) {
    encoded.series[seriesInfo(id).name] = [
      encodeCells(layout.scale, one.cells),
      one.sumNs,
      one.maxNs,
      [...one.buckets],
    ];
  }
  return JSON.stringify(encoded);
}
