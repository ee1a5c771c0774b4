/**
 * What the coordinator and the workers of a run say to each other through Redis: keys, messages, streams.
 *
 * Messages are untrusted input: each is checked and bounded on receipt; one that does not fit is refused and counted.
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { EXIT, UserError } from '../base/errors.ts';
import { oneLine } from '../base/printable.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import { MAX_SNAPSHOT_CHARS } from '../metrics/snapshot.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { checkPlan } from '../scenario/plan-check.ts';
import { isKeyPart, runTag } from './queue.ts';

/** Hash of the runs in this Redis: run id to RunRecord. Workers started by hand look here. */
export const runsKey = (prefix: string): string => `{${prefix}}:runs`;

export interface RunKeys {
  /** The plan, JSON, gzip. */
  readonly plan: string;
  /** Stream: what the coordinator tells the workers. */
  readonly control: string;
  /** Stream: registrations, outcomes, finals; never trimmed. */
  readonly events: string;
  /** Stream: a message per worker and second; the oldest are trimmed. */
  readonly intervals: string;
  /** Stream: what the coordinator decided and after which event, so that another one can go on in its place. */
  readonly journal: string;
  /** Hash: slice to `incarnation:worker`. */
  readonly claims: string;
  /** Hash: name of a worker to the token of the process that bears it. Others cannot claim in its name. */
  readonly workers: string;
  /** Hash: workers declared lost. They may not claim, and end when they see it. */
  readonly fenced: string;
  /** Hash: worker to the slices that were taken from it, so that asking twice gets one answer. */
  readonly reclaimed: string;
  /** When the coordinator was last there, ms of the Redis clock. Expires when the workers stop waiting for it. */
  readonly alive: string;
  /** Token of the one coordinator that may decide; expires soon after it was last there. */
  readonly leader: string;
}

export function runKeys(prefix: string, runId: string): RunKeys {
  const key = (name: string): string => `${runTag(prefix, runId)}:${name}`;
  return {
    plan: key('plan'),
    control: key('control'),
    events: key('events'),
    intervals: key('intervals'),
    journal: key('journal'),
    claims: key('claims'),
    workers: key('workers'),
    fenced: key('fenced'),
    reclaimed: key('reclaimed'),
    alive: key('alive'),
    leader: key('leader'),
  };
}

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
  /** What counts as the run's start for guests that run again, ms of the Redis clock. Left out: the start of the run. */
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
  state: z.enum(['completed', 'stopped', 'failed']),
  operations: count,
  failedOperations: count,
  error: line.optional(),
  lockedVmAfterPages: z.string().regex(/^\d{1,20}$/),
  phasesMs: z.strictObject({ rest: z.number(), settled: z.number(), ended: z.number() }).optional(),
  /** It began so much later than planned, ms, because no worker had taken it in time. */
  lateMs: z.number().min(0).optional(),
});
const byInvariant = z.partialRecord(z.enum(INVARIANTS), count);
const byState = z.partialRecord(z.enum(['pending', 'running', 'finished', 'failed']), z.int());

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
  /** No guest of a lost worker is open: it never had one, or its last interval has all that they did. That interval counts. */
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
    guest: count,
    incarnation: count,
    label: line,
    value: line,
  }),
  Interval,
  z.strictObject({
    t: z.literal('final'),
    worker: id,
    checked: count,
    violationCount: count,
    violations: z.array(z.strictObject({ invariant: z.enum(INVARIANTS), guest: z.int(), detail: line })).max(1000),
    deferred: z.strictObject({
      queued: count,
      applied: count,
      discarded: count,
      duplicates: count,
      jobs: count,
      resent: count,
      refused: count,
      missingCount: z.int(),
      missing: z.array(z.tuple([count, count])).max(1000),
    }),
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

/** Intervals kept, of all workers together: enough for a reader that is a few seconds behind. */
const INTERVALS_KEPT = 4000;

/** @returns the entry's id in the stream. */
export async function tell(redis: Redis, keys: RunKeys, message: ControlMessage): Promise<string> {
  // Without NOMKSTREAM there always is one.
  return (await redis.xadd(keys.control, '*', 'm', JSON.stringify(message))) as string;
}

/** Posts what a worker says. @returns its id; null when the run is gone from Redis: nothing is made anew there. */
export async function post(redis: Redis, keys: RunKeys, message: WorkerMessage): Promise<string | null> {
  const text = JSON.stringify(message);
  return message.t === 'interval'
    ? redis.xadd(keys.intervals, 'NOMKSTREAM', 'MAXLEN', '~', INTERVALS_KEPT, '*', 'm', text)
    : redis.xadd(keys.events, 'NOMKSTREAM', '*', 'm', text);
}

/** Longest message, characters: an interval's statistics, as JSON within JSON, and 100 000 outcomes fit. */
const MAX_MESSAGE_CHARS = 4 * MAX_SNAPSHOT_CHARS;

/** Reads streams from their beginning, in order, on a connection of its own. */
export class StreamReader<T> {
  /** Entries that did not fit the schema. */
  refused = 0;
  readonly #redis: Redis;
  readonly #keys: readonly string[];
  readonly #ids: string[];
  readonly #schema: z.ZodType<T>;

  constructor(redis: Redis, keys: readonly string[], schema: z.ZodType<T>) {
    this.#redis = redis;
    this.#keys = keys;
    this.#ids = keys.map(() => '0');
    this.#schema = schema;
  }

  /** The last entry of a stream that was read. */
  last(key: string): string {
    return this.#ids[this.#keys.indexOf(key)] ?? '0';
  }

  /**
   * The next messages, or none after `blockMs`. Rejects when Redis is away for long.
   */
  async read(blockMs: number): Promise<T[]> {
    const reply = await this.#redis.xread('COUNT', 500, 'BLOCK', blockMs, 'STREAMS', ...this.#keys, ...this.#ids);
    const messages: T[] = [];
    for (const [key, entries] of reply ?? []) {
      for (const [entryId, fields] of entries) {
        this.#ids[this.#keys.indexOf(key)] = entryId;
        const message = decodeEntry(fields?.[1], this.#schema);
        if (message === null) this.refused++;
        else messages.push(message);
      }
    }
    return messages;
  }

  /** Goes on after this entry of a stream. */
  skipTo(key: string, entry: string): void {
    this.#ids[this.#keys.indexOf(key)] = entry;
  }

  close(): void {
    this.#redis.disconnect();
  }
}

/** Largest plan published and accepted, bytes of JSON: some 350 000 guests. */
const MAX_PLAN_BYTES = 1 << 28;

// Of two that publish the same run one is the first. What an earlier run of that id has left, its farewell above all, is nothing
// to the workers of the new one.
const PUBLISH = `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', unpack(KEYS))
redis.call('SET', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], '*', 'm', ARGV[2])
redis.call('XADD', KEYS[3], '*', 'm', ARGV[2])
return 1
`;

/** @throws UserError 104 for a plan that is too large or a name that is taken. */
export async function publishRun(
  redis: Redis,
  prefix: string,
  runId: string,
  record: RunRecord,
  plan: RunPlan,
): Promise<void> {
  const keys = runKeys(prefix, runId);
  const open: WorkerMessage = { t: 'open' };
  const text = JSON.stringify(plan);
  if (text.length > MAX_PLAN_BYTES) {
    throw new UserError(EXIT.invalid, `the plan is too large for Redis: ${text.length} bytes`, 'use fewer guests');
  }
  const { plan: planKey, events, intervals, ...rest } = keys;
  const all = [planKey, events, intervals, ...Object.values(rest)];
  const packed = gzipSync(text, { level: 1 });
  if ((await redis.eval(PUBLISH, all.length, ...all, packed, JSON.stringify(open))) === 0) {
    const hint = `--resume ${runId} goes on with it when its coordinator died; pinstorm clean removes what is dead`;
    throw new UserError(EXIT.invalid, `there is a run ${runId} already`, hint);
  }
  await redis.hset(runsKey(prefix), runId, JSON.stringify(record));
}

/** The runs in this Redis, by id. */
export async function listRuns(redis: Redis, prefix: string): Promise<Map<string, RunRecord>> {
  const runs = new Map<string, RunRecord>();
  for (const [runId, text] of Object.entries(await redis.hgetall(runsKey(prefix)))) {
    if (!isKeyPart(runId)) continue;
    try {
      runs.set(runId, RunRecord.parse(JSON.parse(text)));
    } catch {
      // Of another version, or not a run: not ours to touch.
    }
  }
  return runs;
}

/** The plan as published, checked field by field but not against its hash. Null when there is none. Throws UserError 113. */
export async function fetchPlan(redis: Redis, prefix: string, runId: string): Promise<RunPlan | null> {
  const packed = await redis.getBuffer(runKeys(prefix, runId).plan);
  if (packed === null) return null;
  try {
    return checkPlan(JSON.parse(gunzipSync(packed, { maxOutputLength: MAX_PLAN_BYTES }).toString('utf8')));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UserError(EXIT.inconclusive, `the plan of run ${runId} is refused: ${why}`, 'start the run again');
  }
}

/** Calls `visit` with the keys of a run, or of all runs, some at a time. */
export async function scanKeys(
  redis: Redis,
  prefix: string,
  runId: string | null,
  visit: (keys: string[]) => Promise<void> | void,
): Promise<void> {
  // [{] keeps the brace literal and takes in the workers' own tags too.
  const match = runId === null ? `[{]${prefix}:*` : `[{]${prefix}:${runId}[}:]*`;
  let cursor = '0';
  do {
    const [next, keys] = await redis.scan(cursor, 'MATCH', match, 'COUNT', 1000);
    cursor = next;
    if (keys.length > 0) await visit(keys);
  } while (cursor !== '0');
}

/** Removes every key of a run, or every key but one. */
export async function removeRun(redis: Redis, prefix: string, runId: string, except?: string): Promise<void> {
  await scanKeys(redis, prefix, runId, async (keys) => {
    for (const key of keys) if (key !== except) await redis.unlink(key);
  });
  // Last: the list may be damaged.
  await redis.hdel(runsKey(prefix), runId);
}

/** Removes a run whose workers may still be there: they find `exit` for another minute. */
export async function bidFarewell(redis: Redis, prefix: string, runId: string): Promise<void> {
  const keys = runKeys(prefix, runId);
  await removeRun(redis, prefix, runId);
  await tell(redis, keys, { t: 'exit' });
  await redis.expire(keys.control, 60);
}

/**
 * Removes what was written after the run was removed: the queues of a worker note their last events when they close. The
 * coordinator's farewell stays for the others; it goes away by itself.
 */
export async function removeRemains(redis: Redis, prefix: string, runId: string): Promise<void> {
  const { plan, control } = runKeys(prefix, runId);
  if ((await redis.exists(plan)) === 0) await removeRun(redis, prefix, runId, control);
}

/** All entries of a stream, in order; null for those that do not fit the schema. */
export async function readWhole<T>(redis: Redis, key: string, schema: z.ZodType<T>): Promise<[string, T | null][]> {
  const all: [string, T | null][] = [];
  for (let from = '-'; ;) {
    const page = await redis.xrange(key, from, '+', 'COUNT', 500);
    for (const [entry, fields] of page) all.push([entry, decodeEntry(fields[1], schema)]);
    const last = page.at(-1);
    if (last === undefined || page.length < 500) return all;
    from = `(${last[0]}`;
  }
}

function decodeEntry<T>(text: string | undefined, schema: z.ZodType<T>): T | null {
  if (text === undefined || text.length > MAX_MESSAGE_CHARS) return null;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Whether stream entry `a` comes before `b`. */
export function isBefore(a: string, b: string): boolean {
  const [aMs = 0, aSeq = 0] = a.split('-').map(Number);
  const [bMs = 0, bSeq = 0] = b.split('-').map(Number);
  return aMs < bMs || (aMs === bMs && aSeq < bSeq);
}
