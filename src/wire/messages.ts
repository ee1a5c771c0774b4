import { z } from 'zod';
import { oneLine } from '../base/printable.ts';
import type { AccountingReport, GuestOutcome, Mark, Violation } from '../emulator/emulator.ts';
import { GUEST_ENDS, GUEST_STATES } from '../engine/guest-life.ts';
import { MAX_SNAPSHOT_CHARS } from '../metrics/read-snapshot.ts';
import { INVARIANTS } from '../model/oracle.ts';
import type { Fields } from './fields.ts';
import { isKeyPart } from './queue.ts';

const id = z.string().refine(isKeyPart, 'not an identifier');
const count = z.int().min(0);

/** Text that may reach a terminal: control characters and those that turn the direction of writing become spaces. */
const shown = (most: number) =>
  z
    .string()
    .max(most)
    .transform((text) => text.split('\n').map(oneLine).join('\n'));
const line = shown(2000);

/** The latest instant that counts as a time: the end of the year 9999, epoch milliseconds. */
const instantMs = z.number().positive().max(253_402_300_799_999);

export const RunRecord = z.strictObject({
  version: z.string().max(64),
  planHash: z.string().length(64),
  /** A worker silent for this long is lost, ms. */
  leaseMs: z.number().min(500).max(3_600_000),
});
export type RunRecord = z.infer<typeof RunRecord>;

/** Workers wait this long for a coordinator that is away, and a run without one this long is dead, ms. */
export const orphanMs = ({ leaseMs }: Pick<RunRecord, 'leaseMs'>): number => 6 * leaseMs;

/** A job of the guest queue: the guests of a slice. */
export const GuestJob = z.strictObject({
  v: z.literal(1),
  slice: count,
  incarnation: count,
  /**
   * What counts as the run's start for guests that run again, ms of the Redis clock. Left out: the start of the run.
   */
  epochMs: instantMs.optional(),
});
export type GuestJob = z.infer<typeof GuestJob>;

/** Guests a worker can be told to run at a time. */
const concurrency = z.int().min(0).max(1_000_000);

export const ControlMessage = z.discriminatedUnion('t', [
  z.strictObject({
    t: z.literal('start'),
    /** Epoch milliseconds on the Redis clock. */
    startAtMs: instantMs,
  }),
  /** Jobs at a time, by worker. Sent again when workers come or go. */
  z.strictObject({ t: z.literal('share'), jobs: z.record(id, concurrency) }),
  z.strictObject({ t: z.literal('stop') }),
  z.strictObject({ t: z.literal('finish') }),
  z.strictObject({ t: z.literal('exit') }),
]);
export type ControlMessage = z.infer<typeof ControlMessage>;

const Outcome = z.strictObject({
  guest: count,
  incarnation: count,
  state: z.enum(GUEST_ENDS),
  operations: count,
  failedOperations: count,
  lockedVmAfterPages: z.string().regex(/^\d{1,20}$/),
  error: line.optional(),
  phasesMs: z.strictObject({ rest: z.number(), settled: z.number(), ended: z.number() }).optional(),
  lateMs: z.number().min(0).optional(),
} satisfies Fields<GuestOutcome>);

const mark = { guest: count, incarnation: count, label: line, value: line } satisfies Fields<Mark>;

/** What a worker says of the account at its end. */
const accounting = {
  checked: count,
  violationCount: count,
  violations: z
    .array(z.strictObject({ invariant: z.enum(INVARIANTS), guest: z.int(), detail: line } satisfies Fields<Violation>))
    .max(1000),
} satisfies Fields<AccountingReport>;

/** What became of a worker's deferred updates. */
const DeferredReport = z.strictObject({
  /** Taken from the ring. */
  queued: count,
  applied: count,
  /** Of guests that died. */
  discarded: count,
  /** Deliveries of an operation id that had been applied before; harmless. */
  duplicates: count,
  /** Jobs sent, counting each once. */
  jobs: count,
  /** Jobs sent again because they were not settled in time. */
  resent: count,
  /** Jobs refused as malformed or not ours. */
  refused: count,
  missingCount: z.int(),
  /** Operation ids queued but never applied, as inclusive ranges (the first 100). Empty when all is well. */
  missing: z.array(z.tuple([count, count])).max(1000),
});
export type DeferredReport = z.infer<typeof DeferredReport>;

const byInvariant = z.partialRecord(z.enum(INVARIANTS), count);
const byState = z.partialRecord(z.enum(GUEST_STATES), z.int());
const positive = z.number().min(0);
const Interval = z.strictObject({
  t: z.literal('interval'),
  worker: id,
  seq: count,
  states: byState,
  /** Guests whose outcomes it had told when it took these figures. */
  ended: count,
  /** Statistics since the worker's start, encoded: the newest replaces the older ones, so nothing counts twice. */
  snapshot: z.string().max(MAX_SNAPSHOT_CHARS),
  violations: byInvariant,
  driftPages: z.string().regex(/^-?\d{1,25}$/),
  backlog: z.int(),
  oldestAgeSeconds: positive,
  eventLoopDelayP99Ns: positive,
  residentBytes: count,
  /** CPU time of the process since its start. */
  cpuSeconds: positive,
  /** What to add to the worker's clock to get the Redis clock, now. */
  clockOffsetMs: z.number(),
});
export type Interval = z.infer<typeof Interval>;
const decision = z.discriminatedUnion('d', [
  z.strictObject({ d: z.literal('start'), startAtMs: instantMs }),
  z.strictObject({ d: z.literal('lost'), worker: id, why: line }),
  /** The guests of a lost worker run again: nothing it said counts. */
  z.strictObject({
    d: z.literal('rerun'),
    worker: id,
    epochMs: instantMs,
    /** Slices it held, and slices nobody held; with their new incarnation. */
    held: z.array(z.tuple([count, count])),
    free: z.array(z.tuple([count, count])),
  }),
  /**
   * No guest of a lost worker is open: it never had one, or its last interval has all that they did. That interval
   * counts.
   */
  z.strictObject({ d: z.literal('accounted'), worker: id, last: Interval.nullable() }),
  z.strictObject({ d: z.literal('stop'), by: z.enum(['user', 'threshold', 'failure']) }),
  z.strictObject({ d: z.literal('finish') }),
  z.strictObject({ d: z.literal('reason'), text: line }),
]);
export type Decision = z.infer<typeof decision>;

/** A decision and the last event that was known when it was made. */
export const JournalEntry = z.strictObject({ after: z.string().regex(/^\d+(-\d+)?$/), decision });
export type JournalEntry = z.infer<typeof JournalEntry>;

export const WorkerMessage = z.discriminatedUnion('t', [
  /** The stream's first entry. Workers do not write to a stream that is gone. */
  z.strictObject({ t: z.literal('open') }),
  z.strictObject({
    t: z.literal('register'),
    worker: id,
    host: shown(255),
    pid: count,
    version: z.string().max(64),
    planHash: z.string().max(64),
    /** Guests at a time. */
    capacity: z.int().min(1).max(1_000_000),
    threads: z.int().min(1).max(1024),
    /** Difference of the worker's clock to the Redis clock, and the round trip that bounds its error. */
    clockOffsetMs: z.number(),
    roundTripMs: z.number(),
  }),
  z.strictObject({ t: z.literal('outcomes'), worker: id, outcomes: z.array(Outcome).max(100_000) }),
  z.strictObject({
    t: z.literal('mark'),
    worker: id,
    /** Of all the worker's marks, from 1: one that comes twice counts once. */
    seq: count,
    ...mark,
  }),
  Interval,
  z.strictObject({
    t: z.literal('final'),
    worker: id,
    ...accounting,
    deferred: DeferredReport,
    /** Guest jobs refused as malformed, and those delivered again. */
    refusedJobs: count,
    repeatedJobs: count,
    /** The last interval, because those in their own stream are trimmed. */
    last: Interval,
  }),
  /** The worker ends before its guests do. */
  z.strictObject({ t: z.literal('leave'), worker: id }),
  z.strictObject({ t: z.literal('trouble'), worker: id, error: line }),
]);
export type WorkerMessage = z.infer<typeof WorkerMessage>;
export type Final = Extract<WorkerMessage, { t: 'final' }>;
export type Registration = Extract<WorkerMessage, { t: 'register' }>;
