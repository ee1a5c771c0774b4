/**
 * What is measured: operations, outcomes, lock modes, and the one table of latency series. A series has a dense number
 * (its place in shared memory) and a name (its tag in files and messages); names stay when numbers move.
 */
import * as errno from '../base/errno.ts';

export const OPS = [
  'map',
  'unmap',
  'close',
  'mlock',
  'munlock',
  'fault',
  'mmap',
  'munmap',
  'madvise',
  'fork',
  'exec',
  'exit',
  'pin',
  'unpin',
  'attach',
  'detach',
  'vaddr_update',
  'collapse',
  'smaps',
  'null',
] as const;
export type OpName = (typeof OPS)[number];

export const OUTCOMES = ['ok', 'enomem', 'einval', 'eexist', 'enospc', 'efault', 'other_error', 'interrupted'] as const;
export type OutcomeName = (typeof OUTCOMES)[number];

/** Index for index the lock kinds of the model's context: mmap_sem read and write, the container's mutex, a kworker. */
export const LOCK_MODES = ['mmap_read', 'mmap_write', 'container', 'kworker'] as const;
export type LockMode = (typeof LOCK_MODES)[number];

/** States of a guest as seen by the process that runs the load. */
export const GUEST_STATES = ['pending', 'running', 'finished', 'stopped', 'failed', 'lost'] as const;
export type GuestState = (typeof GUEST_STATES)[number];

/** Latencies that are neither per operation nor per lock mode. */
export const SINGLE_SERIES = ['schedule_lag', 'deferred_settle', 'deferred_lock_wait', 'lateness'] as const;
export type SingleSeries = (typeof SINGLE_SERIES)[number];

/** The number of a latency series in a statistics block. */
export type SeriesId = number;

/** Numbers of the operations and outcomes, for the hot path. */
export const Op = index(OPS);
export const Outcome = index(OUTCOMES);

const PER_OP = OUTCOMES.length;
const ACTUAL_BASE = OPS.length * PER_OP;
const LOCK_WAIT_BASE = ACTUAL_BASE * 2;
const LOCK_HOLD_BASE = LOCK_WAIT_BASE + LOCK_MODES.length;
const SINGLE_BASE = LOCK_HOLD_BASE + LOCK_MODES.length;
export const SERIES_COUNT = SINGLE_BASE + SINGLE_SERIES.length;

/** Latency from the intended start of an operation: what a user who wanted it then has to wait. */
export const intendedSeries = (op: number, outcome: number): SeriesId => op * PER_OP + outcome;
/** Latency from the actual start of an operation. */
export const actualSeries = (op: number, outcome: number): SeriesId => ACTUAL_BASE + op * PER_OP + outcome;
export const lockWaitSeries = (mode: number): SeriesId => LOCK_WAIT_BASE + mode;
export const lockHoldSeries = (mode: number): SeriesId => LOCK_HOLD_BASE + mode;
const single = (name: SingleSeries): SeriesId => SINGLE_BASE + SINGLE_SERIES.indexOf(name);
/** From the intended to the actual start of an operation. */
export const SCHEDULE_LAG: SeriesId = single('schedule_lag');
/** From queueing a deferred update to its application. */
export const DEFERRED_SETTLE: SeriesId = single('deferred_settle');
/** The part of that spent waiting for the lock of the address space. */
export const DEFERRED_LOCK_WAIT: SeriesId = single('deferred_lock_wait');
/** How much later than due the driver resumed an actor: the generator's own error. */
export const LATENESS: SeriesId = single('lateness');

export interface SeriesInfo {
  readonly kind: 'intended' | 'actual' | 'lock_wait' | 'lock_hold' | SingleSeries;
  /** Name in files and messages: `actual.map.ok`, `lock_wait.mmap_write`, `schedule_lag`. */
  readonly name: string;
  readonly op: OpName | null;
  readonly outcome: OutcomeName | null;
  readonly mode: LockMode | null;
}

/** The table of all series, by number. */
export const SERIES: readonly SeriesInfo[] = [
  ...(['intended', 'actual'] as const).flatMap((kind) =>
    OPS.flatMap((op) =>
      OUTCOMES.map((outcome) => ({ kind, name: `${kind}.${op}.${outcome}`, op, outcome, mode: null })),
    ),
  ),
  ...(['lock_wait', 'lock_hold'] as const).flatMap((kind) =>
    LOCK_MODES.map((mode) => ({ kind, name: `${kind}.${mode}`, op: null, outcome: null, mode })),
  ),
  ...SINGLE_SERIES.map((kind) => ({ kind, name: kind, op: null, outcome: null, mode: null })),
];

export const seriesInfo = (id: SeriesId): SeriesInfo => SERIES[id] as SeriesInfo;

export const SERIES_BY_NAME: ReadonlyMap<string, SeriesId> = new Map(SERIES.map((s, i) => [s.name, i]));

/** The outcome number of a kernel return value: 0 and above is ok, otherwise the negated errno decides. */
export function outcomeOf(ret: number): number {
  if (ret >= 0) return Outcome.ok;
  switch (-ret) {
    case errno.ENOMEM:
      return Outcome.enomem;
    case errno.EINVAL:
      return Outcome.einval;
    case errno.EEXIST:
      return Outcome.eexist;
    case errno.ENOSPC:
      return Outcome.enospc;
    case errno.EFAULT:
      return Outcome.efault;
    case errno.EINTR:
      return Outcome.interrupted;
    default:
      return Outcome.other_error;
  }
}

function index<const T extends readonly string[]>(names: T): Readonly<Record<T[number], number>> {
  return Object.freeze(Object.fromEntries(names.map((n, i) => [n, i]))) as Readonly<Record<T[number], number>>;
}
