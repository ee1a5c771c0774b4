/**
 * What the coordinator and the workers of a run say to each other through Redis: keys, messages, streams.
 *
 * Messages are untrusted input: each is checked and bounded on receipt; one that does not fit is refused and counted.
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { EXIT, UserError } from '../base/errors.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import { MAX_SNAPSHOT_CHARS } from '../metrics/snapshot.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { checkPlan } from '../scenario/plan-check.ts';
import { isKeyPart, runPrefix } from './queue.ts';

/** Hash of the runs in this Redis: run id to RunRecord. Workers started by hand look here. */
export const RUNS_KEY = '{pinstorm}:runs';

export interface RunKeys {
  /** The plan, JSON, gzip. */
  readonly plan: string;
  /** Stream: what the coordinator tells the workers. */
  readonly control: string;
  /** Stream: registrations, outcomes, finals; never trimmed. */
  readonly events: string;
  /** Stream: one message per worker and second; entries older than a minute are trimmed. */
  readonly intervals: string;
  /** Hash: slice to `incarnation:worker`. */
  readonly claims: string;
  /** Hash: workers declared lost. They may not claim, and end when they see it. */
  readonly fenced: string;
  /** Expires when the coordinator is gone. */
  readonly alive: string;
}

export function runKeys(runId: string): RunKeys {
  const key = (name: string): string => `${runPrefix(runId)}:${name}`;
  return {
    plan: key('plan'),
    control: key('control'),
    events: key('events'),
    intervals: key('intervals'),
    claims: key('claims'),
    fenced: key('fenced'),
    alive: key('alive'),
  };
}

const id = z.string().refine(isKeyPart, 'not an identifier');
const count = z.int().min(0);
/** Text that may reach a terminal: control characters and those that turn the direction of writing become spaces. */
const shown = (most: number) =>
  z
    .string()
    .max(most)
    // oxlint-disable-next-line no-control-regex
    .transform((text) => text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, ' '));
const line = shown(2000);

export const RunRecord = z.strictObject({ version: z.string().max(64), planHash: z.string().length(64) });
export type RunRecord = z.infer<typeof RunRecord>;

/** A job of the guest queue: guests `from` (inclusive) to `to` (exclusive) of the plan, all of one slice. */
export const GuestJob = z.strictObject({ v: z.literal(1), slice: count, from: count, to: count, incarnation: count });
export type GuestJob = z.infer<typeof GuestJob>;

/** Guest jobs of a run at most; a job is a slice of consecutive guests. */
const SLICES_MAX = 512;

/** Guests of a slice, the last one may have fewer. @param guests of the whole plan. */
export const sliceGuests = (guests: number): number => Math.max(1, Math.ceil(guests / SLICES_MAX));

/** Whether a job stays within its slice and the plan: then one claim of the slice covers it. */
export function jobFits({ slice, from, to }: GuestJob, guests: number): boolean {
  const size = sliceGuests(guests);
  return slice * size <= from && from < to && to <= Math.min(guests, (slice + 1) * size);
}

/** Guests a worker can be told to run at a time. */
const concurrency = z.int().min(0).max(1_000_000);
/** The latest instant that counts as a time: the end of the year 9999, epoch milliseconds. */
const LAST_MS = 253_402_300_799_999;

export const ControlMessage = z.discriminatedUnion('t', [
  z.strictObject({
    t: z.literal('start'),
    /** Epoch milliseconds on the Redis clock. */
    startAtMs: z.number().positive().max(LAST_MS),
    /** Jobs at a time, by worker. A worker that is not named joined late and takes `late`. */
    jobs: z.record(id, concurrency),
    late: concurrency,
  }),
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
});
const byInvariant = z.partialRecord(z.enum(INVARIANTS), count);
const byState = z.partialRecord(z.enum(['pending', 'running', 'finished', 'failed']), z.int());

const positive = z.number().min(0);

export const WorkerMessage = z.discriminatedUnion('t', [
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
    guest: count,
    incarnation: count,
    label: line,
    value: line,
  }),
  z.strictObject({
    t: z.literal('interval'),
    worker: id,
    seq: count,
    states: byState,
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
  }),
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
  }),
  z.strictObject({ t: z.literal('trouble'), worker: id, error: line }),
]);
export type WorkerMessage = z.infer<typeof WorkerMessage>;
export type Interval = Extract<WorkerMessage, { t: 'interval' }>;
export type Final = Extract<WorkerMessage, { t: 'final' }>;
export type Registration = Extract<WorkerMessage, { t: 'register' }>;

export async function post(redis: Redis, key: string, message: ControlMessage | WorkerMessage): Promise<void> {
  await redis.xadd(key, '*', 'm', JSON.stringify(message));
}

const INTERVALS_KEPT_MS = 60_000;

/** Posts an interval and trims old ones. @param redisNowMs this moment on the Redis clock. */
export async function postInterval(redis: Redis, keys: RunKeys, message: Interval, redisNowMs: number): Promise<void> {
  const oldest = Math.floor(redisNowMs - INTERVALS_KEPT_MS);
  await redis.xadd(keys.intervals, 'MINID', '~', oldest, '*', 'm', JSON.stringify(message));
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

  /** The next messages, or none after `blockMs`. Rejects when Redis is away for long. */
  async read(blockMs: number): Promise<T[]> {
    const reply = await this.#redis.xread('COUNT', 500, 'BLOCK', blockMs, 'STREAMS', ...this.#keys, ...this.#ids);
    const messages: T[] = [];
    for (const [key, entries] of reply ?? []) {
      for (const [entryId, fields] of entries) {
        this.#ids[this.#keys.indexOf(key)] = entryId;
        const message = this.#decode(fields?.[1] ?? '');
        if (message === undefined) this.refused++;
        else messages.push(message);
      }
    }
    return messages;
  }

  #decode(text: string): T | undefined {
    if (text.length > MAX_MESSAGE_CHARS) return undefined;
    try {
      return this.#schema.parse(JSON.parse(text));
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.#redis.disconnect();
  }
}

/** Largest plan published and accepted, bytes of JSON: some 350 000 guests. */
const MAX_PLAN_BYTES = 1 << 28;

/** @throws UserError 104 for a plan that is too large. */
export async function publishRun(redis: Redis, runId: string, version: string, plan: RunPlan): Promise<void> {
  const record: RunRecord = { version, planHash: plan.hash };
  const text = JSON.stringify(plan);
  if (text.length > MAX_PLAN_BYTES) {
    throw new UserError(EXIT.invalid, `the plan is too large for Redis: ${text.length} bytes`, 'use fewer guests');
  }
  await redis.set(runKeys(runId).plan, gzipSync(text, { level: 1 }));
  await redis.hset(RUNS_KEY, runId, JSON.stringify(record));
}

/** The runs in this Redis, by id. */
export async function listRuns(redis: Redis): Promise<Map<string, RunRecord>> {
  const runs = new Map<string, RunRecord>();
  for (const [runId, text] of Object.entries(await redis.hgetall(RUNS_KEY))) {
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
export async function fetchPlan(redis: Redis, runId: string): Promise<RunPlan | null> {
  const packed = await redis.getBuffer(runKeys(runId).plan);
  if (packed === null) return null;
  try {
    return checkPlan(JSON.parse(gunzipSync(packed, { maxOutputLength: MAX_PLAN_BYTES }).toString('utf8')));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UserError(EXIT.inconclusive, `the plan of run ${runId} is refused: ${why}`, 'start the run again');
  }
}

/** Removes every key of a run. */
export async function removeRun(redis: Redis, runId: string): Promise<void> {
  let cursor = '0';
  do {
    // [{] keeps the brace literal and takes in the workers' prefixes too.
    const [next, keys] = await redis.scan(cursor, 'MATCH', `[{]pinstorm:${runId}[}:]*`, 'COUNT', 1000);
    cursor = next;
    if (keys.length > 0) await redis.unlink(...keys);
  } while (cursor !== '0');
  await redis.hdel(RUNS_KEY, runId);
}

// A slice is claimed once per incarnation, the first one freely. A later incarnation only after the coordinator ordered that
// rerun by a claim without a worker: one that a job alone brings up is forged.
const CLAIM = `
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then return 'fenced' end
local held = redis.call('HGET', KEYS[1], ARGV[1])
local incarnation, worker = string.match(held or '1:', '^(%d+):(.*)$')
if tonumber(incarnation) > tonumber(ARGV[2]) then return 'stale' end
if tonumber(incarnation) < tonumber(ARGV[2]) then return 'forged' end
if worker ~= '' then return worker == ARGV[3] and 'mine' or 'taken' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. ARGV[3])
return 'ok'
`;

export type Claim = 'ok' | 'mine' | 'taken' | 'stale' | 'forged' | 'fenced';

/** Claims a slice for a worker. Only `ok` allows to run it; the others say why not. */
export async function claimSlice(redis: Redis, keys: RunKeys, job: GuestJob, worker: string): Promise<Claim> {
  return (await redis.eval(CLAIM, 2, keys.claims, keys.fenced, job.slice, job.incarnation, worker)) as Claim;
}
