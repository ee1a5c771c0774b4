/**
 * The results of a run as plain data: what results.json holds, what the summary is made from, and what other commands
 * read back. Times are in nanoseconds and instants in UTC; a new field is optional, a changed meaning a new version.
 */
import { z } from 'zod';
import { OPS, OUTCOMES } from '../metrics/ops.ts';

export const RESULTS_VERSION = 1;

const amount = z.number().min(0);

/** A distribution of latencies. Percentiles are those of the merged histogram, at most 0.8 % above the true ones. */
export const Quantiles = z.object({
  count: amount,
  meanNs: amount,
  p50Ns: amount,
  p90Ns: amount,
  p99Ns: amount,
  p999Ns: amount,
  maxNs: amount,
});
export type Quantiles = z.infer<typeof Quantiles>;

export const Violation = z.object({
  invariant: z.string(),
  count: amount,
  /** Whether the scenario said it would happen. */
  expected: z.boolean(),
  /** The shortest sequence of steps that shows it, as text. */
  history: z.string().nullable(),
});
export type Violation = z.infer<typeof Violation>;

export const ThresholdResult = z.object({
  metric: z.string(),
  expression: z.string(),
  /** It held: false if it was crossed or not judged. */
  ok: z.boolean(),
  /** False: there was nothing to measure, and the threshold does not say that it may be empty. Left out: true. */
  judged: z.boolean().optional(),
  /** ns for latencies; null if there was nothing to measure. */
  observed: z.number().nullable(),
  unit: z.enum(['ns', 'per_second', 'share', 'plain']),
  /** For one that holds over windows: when the window that `observed` is of began and ended. */
  window: z.object({ startSeconds: z.number(), endSeconds: z.number() }).optional(),
  /** It was crossed at this moment, and the run stopped for it; `observed` is what it was then. */
  stoppedAtSeconds: z.number().optional(),
});
export type ThresholdResult = z.infer<typeof ThresholdResult>;

export const Verdict = z.object({
  verdict: z.enum(['pass', 'fail', 'inconclusive']),
  exitCode: z.number().int(),
  /** Everything that speaks against a pass, the one that decided first. */
  reasons: z.array(z.string()),
});
export type Verdict = z.infer<typeof Verdict>;

/** How the variant keeps the account. */
export const AccountPolicy = z.object({
  /** An update tries mmap_sem and may be deferred, waits for it, or does without. */
  update: z.enum(['trylock', 'waits', 'lock-free']),
  /** What is charged, under the limit of each process. */
  charged: z.enum(['locked_vm', 'user', 'nobody']),
  /** Users that the guests belong to; guests without a uid have one each. */
  users: amount,
  /** The named user of most guests. */
  largest: z.object({ uid: amount, guests: amount }).nullable(),
});
export type AccountPolicy = z.infer<typeof AccountPolicy>;

/** What identifies a run, known when it starts. */
export const RunIdentity = z.object({
  id: z.string(),
  name: z.string(),
  driver: z.enum(['wall', 'virtual']),
  variant: z.string(),
  seed: z.number(),
  /** Model time per real time; 0: as fast as it goes. */
  pace: z.number(),
  planHash: z.string(),
  commandLine: z.array(z.string()),
  startedAt: z.string(),
  version: z.string(),
  /** Left out by versions before it was recorded. */
  account: AccountPolicy.optional(),
  /** Latencies are part of the verdict even if no threshold is of one (`--strict`). Left out: false. */
  strict: z.boolean().optional(),
});
export type RunIdentity = z.infer<typeof RunIdentity>;

export const Coverage = z.object({
  guestsPlanned: amount,
  guestsFinished: amount,
  /** Guests that a stop cut off or kept from beginning. Left out by versions that counted them as finished. */
  guestsStopped: amount.optional(),
  /** Guests whose workload ended with an unexpected error. */
  guestsFailed: amount,
  /** Guests that were lost with their worker and could not be run again. */
  guestsLost: amount,
  /** Of the planned guests: begun again because their worker was lost. Nothing of what came before counts. */
  guestsRerun: amount.optional(),
  workersLost: amount,
  /** Least share of guests that must not be lost for a verdict, 0 .. 1. */
  minShare: z.number().min(0).max(1),
});
export type Coverage = z.infer<typeof Coverage>;

export const Accounting = z.object({
  /** exact: the account equals the truth at quiescence. unchecked: nobody looked, for example after a crash. */
  balance: z.enum(['exact', 'violated', 'unchecked']),
  driftPages: z.number(),
  deferred: z.object({ queued: amount, applied: amount, lost: amount, discarded: amount }),
  limitRefusals: amount,
  /** Invariants that were judged, held or not; none when nobody looked. Left out by versions before it was recorded. */
  invariants: z.array(z.string()).optional(),
  violations: z.array(Violation),
  /** Further facts worth a line, for example locked_vm after the maps and after close. */
  notes: z.array(z.string()),
  /** Why it is so, in one sentence. */
  explanation: z.string(),
});
export type Accounting = z.infer<typeof Accounting>;

/** One worker of a live run. */
export const WorkerFigures = z.object({
  name: z.string(),
  host: z.string(),
  threads: amount,
  /** Guests at a time. */
  capacity: amount,
  /** Guests that ended on it and count. */
  guests: amount,
  operations: amount,
  lateness: Quantiles.nullable(),
  cpuSeconds: amount,
  residentBytes: amount,
  /** Why it was lost, or null. What it measured counts unless its guests were run again elsewhere. */
  lost: z.string().nullable(),
});
export type WorkerFigures = z.infer<typeof WorkerFigures>;

export const Health = z.object({
  lateness: Quantiles.nullable(),
  saturated: z.boolean(),
  /** What shows it, and what to do; null when not saturated. */
  saturation: z.object({ reason: z.string(), advice: z.string() }).nullable(),
  /** The harness' own cost per operation, from a null workload run beside the load. */
  nullOperation: Quantiles.nullable(),
  eventLoopDelayP99Ns: amount.nullable(),
  /**
   * The workers' clocks against that of Redis, ms: how far the furthest is away, what the round trip leaves open, and
   * how far one has moved since it came.
   */
  clocks: z.object({ skewMs: amount, roundTripMs: amount, jumpMs: amount }).optional(),
  cores: amount,
  threads: amount,
  workers: amount,
  /** Each of them, in the order they came. */
  perWorker: z.array(WorkerFigures).optional(),
  profile: z.object({ name: z.string(), calibrated: z.boolean() }),
});
export type Health = z.infer<typeof Health>;

export const RunResults = z.object({
  schemaVersion: z.literal(RESULTS_VERSION),
  run: RunIdentity,
  /** False if rebuilt from the directory of a run that did not end. */
  complete: z.boolean(),
  stoppedByUser: z.boolean(),
  /** Time the rates refer to: real on the wall clock, simulated in virtual time. */
  durationNs: amount,
  coverage: Coverage,
  thresholds: z.array(ThresholdResult),
  accounting: Accounting,
  /** Per operation and outcome, from the intended and from the actual start. */
  latency: z.array(
    z.object({
      op: z.enum(OPS),
      outcome: z.enum(OUTCOMES),
      intended: Quantiles.nullable(),
      actual: Quantiles.nullable(),
      /**
       * How many samples, from the intended start, lie below each bound and not below the one before, as exact as the
       * histogram (0.8 %); empty ones left out.
       */
      ranges: z.array(z.object({ belowNs: z.number(), count: amount })).optional(),
    }),
  ),
  /** Where the time goes. */
  split: z.object({
    scheduleLag: Quantiles.nullable(),
    lockWait: z.record(z.string(), Quantiles),
    lockHold: z.record(z.string(), Quantiles),
    deferredSettle: Quantiles.nullable(),
    deferredLockWait: Quantiles.nullable(),
  }),
  counters: z.record(z.string(), amount),
  /** Largest number of deferred updates pending at once, as sampled each interval. */
  deferredBacklogMax: amount.nullable(),
  health: Health,
  verdict: Verdict,
});
export type RunResults = z.infer<typeof RunResults>;
