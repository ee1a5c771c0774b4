/**
 * What the charts of a report and of the live page are drawn from: plain data, small enough to lie in the page. Times
 * are seconds of the run's clock, latencies nanoseconds. Runs in Node.js and in the browser.
 */

/**
 * The latencies of a series in one slot of time: count, p50, p99, p99.9, largest; then the heat: first row, counts per
 * row.
 */
export type SlotSeries = readonly [
  count: number,
  p50Ns: number,
  p99Ns: number,
  p999Ns: number,
  maxNs: number,
  firstRow: number,
  ...rows: number[],
];

/** One or more intervals of a run, added up. */
export interface Slot {
  readonly start: number;
  readonly end: number;
  readonly series: Readonly<Record<string, SlotSeries>>;
  /** Increases. */
  readonly counters: Readonly<Record<string, number>>;
  /** The largest value in the slot. */
  readonly gauges: Readonly<Record<string, number>>;
  /** Guests by state at its end. */
  readonly guests: Readonly<Record<string, number>>;
}

/** A whole run's latencies of a series: points of the percentile spectrum, [share of the samples, ns]. */
export interface Spectrum {
  readonly count: number;
  readonly maxNs: number;
  readonly points: readonly (readonly [number, number])[];
}

export interface EventMark {
  readonly at: number;
  readonly kind: string;
  readonly text: string;
}

/** A guest of the table and the timeline. Moments are seconds of the run's clock. */
export interface GuestLine {
  readonly guest: number;
  readonly class: string;
  readonly state: string;
  readonly worker: string;
  readonly start: number;
  readonly rest: number | null;
  readonly settled: number | null;
  readonly end: number | null;
  readonly operations: number;
  readonly failed: number;
  readonly lockedVm: string;
  readonly error: string | null;
}

export interface ChartData {
  /** Whether the seconds are real or simulated. */
  readonly clock: 'wall' | 'virtual';
  readonly durationSeconds: number;
  /** Intervals added up in each slot, at most. */
  readonly merged: number;
  readonly slots: readonly Slot[];
  readonly spectra: Readonly<Record<string, Spectrum>>;
  readonly events: readonly EventMark[];
  readonly guests: readonly PackedGuest[];
}

/** A guest without the names of its fields: there can be ten thousand of them in a page. */
export type PackedGuest = readonly [
  guest: number,
  className: string,
  state: string,
  worker: string,
  start: number,
  rest: number | null,
  settled: number | null,
  end: number | null,
  operations: number,
  failed: number,
  lockedVm: string,
  error: string | null,
];

export function unpackGuest(packed: PackedGuest): GuestLine {
  const [guest, name, state, worker, start, rest, settled, end, operations, failed, lockedVm, error] = packed;
  return { guest, class: name, state, worker, start, rest, settled, end, operations, failed, lockedVm, error };
}

/** Rows of the heatmap per doubling of the latency. */
export const ROWS_PER_OCTAVE = 4;
export const rowOf = (ns: number): number => Math.floor(ROWS_PER_OCTAVE * Math.log2(Math.max(ns, 1)));
/** The smallest latency of a row, ns. */
export const rowStartNs = (row: number): number => 2 ** (row / ROWS_PER_OCTAVE);

/** What the live page is told: changes of the data since the last message; the first one to a page holds everything. */
export interface LiveUpdate {
  /** Slots before this one are as they were. */
  readonly from: number;
  readonly slots: readonly Slot[];
  readonly merged: number;
  readonly durationSeconds: number;
  /** Left out when they are as before. */
  readonly spectra?: ChartData['spectra'];
  readonly events: readonly EventMark[];
  readonly guests: readonly PackedGuest[];
  /** Whether `events` and `guests` are all there are, not those that came. */
  readonly whole: boolean;
  /** Parts of the page that are words, HTML made by the server. */
  readonly fragments: Readonly<Record<string, string>>;
  readonly state: 'waiting' | 'running' | 'stopping' | 'ended';
  /** The state in words. */
  readonly text: string;
  /** Once it has ended: the verdict, and a sentence. */
  readonly end?: { readonly verdict: string; readonly sentence: string; readonly report: string };
}
