import { gunzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { VERSION } from '../base/version.ts';
import type { HostResult, VirtualGuest, VirtualMark, VirtualViolation } from '../emulator/host-result.ts';
import { GUEST_ENDS } from '../engine/guest-life.ts';
import type { MarkCount } from '../engine/mark-tally.ts';
import type { RunPlan } from '../engine/plan.ts';
import { MAX_SNAPSHOT_CHARS } from '../metrics/read-snapshot.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { checkPlan } from '../scenario/plan-check.ts';
import { planHash } from '../scenario/plan.ts';
import type { Fields } from './fields.ts';
import { type QueueName, runTag } from './queue.ts';

/** Hash of the experiments in a Redis: id to the version of pinstorm. */
export const experimentsKey = (prefix: string): string => `{${prefix}}:experiments`;

export function experimentKeys(prefix: string, id: string) {
  const key = (name: string): string => `${runTag(prefix, id)}:${name}`;
  return {
    /** Hash: number of the plan to the plan, JSON, gzip. */
    plans: key('plans'),
    /** Hash: `plan/host` to HostOutcome, JSON. */
    results: key('results'),
    /** Expires when the process that started it is gone. */
    alive: key('alive'),
  };
}
export const hostQueue = (prefix: string, id: string): QueueName => ({ prefix: runTag(prefix, id), name: 'hosts' });
const count = z.int().min(0);
const amount = z.number().min(0);
const line = z.string().max(4000);

/** A job: one emulated host of one plan. */
export const HostJob = z.strictObject({ v: z.literal(1), plan: count, host: count });

/** A mark or a violation of a host. */
const ofGuest = { guest: z.int(), atNs: amount };
const Violation = z.strictObject({
  invariant: z.enum(INVARIANTS),
  ...ofGuest,
  detail: line,
} satisfies Fields<VirtualViolation>);
const Mark = z.strictObject({ ...ofGuest, label: line, value: line } satisfies Fields<VirtualMark>);
const Guest = z.strictObject({
  guest: count,
  state: z.enum(GUEST_ENDS),
  restNs: amount,
  settledNs: amount,
  endNs: amount,
  operations: count,
  failedOperations: count,
  lockedVmAfterPages: z.string().regex(/^\d{1,20}$/),
  error: line.nullable(),
} satisfies Fields<VirtualGuest>);

/** The result of a host that ran to its end. */
const Result = z.strictObject({
  snapshot: z.string().max(MAX_SNAPSHOT_CHARS),
  intervals: z.array(z.never()).max(0),
  endNs: amount,
  events: count,
  stoppedAtNs: z.null(),
  guestsFinished: count,
  guestsFailed: count,
  error: line.nullable(),
  checked: count,
  violationCounts: z.record(z.string().max(64), count),
  violations: z.array(Violation).max(64),
  driftPages: z.number(),
  deferredBacklogMax: count,
  mappingsMax: count,
  marks: z.array(Mark).max(64),
  markCounts: z
    .array(z.strictObject({ text: line, guests: z.int(), times: z.int() } satisfies Fields<MarkCount>))
    .max(64),
  guests: z.array(Guest),
} satisfies Fields<HostResult>);
export const HostOutcome: z.ZodType<{ readonly result: HostResult } | { readonly error: string }> = z.union([
  z.strictObject({ result: Result }),
  z.strictObject({ error: line }),
]);
export type HostOutcome = z.infer<typeof HostOutcome>;

export const MAX_PLAN_BYTES = 1 << 28;

/** The first experiment whose owner is alive and of this version. */
export async function findExperiment(redis: Redis, prefix: string): Promise<string | null> {
  for (const [id, version] of Object.entries(await redis.hgetall(experimentsKey(prefix)))) {
    if (version === VERSION && (await redis.exists(experimentKeys(prefix, id).alive)) === 1) return id;
  }
  return null;
}

/** A plan of an experiment, checked. @throws {Error} saying what is wrong with it. */
export async function fetchExperimentPlan(redis: Redis, prefix: string, id: string, plan: number): Promise<RunPlan> {
  const packed = await redis.hgetBuffer(experimentKeys(prefix, id).plans, String(plan));
  if (packed === null) throw new Error(`there is no plan ${plan}`);
  const checked = checkPlan(JSON.parse(gunzipSync(packed, { maxOutputLength: MAX_PLAN_BYTES }).toString('utf8')));
  const { hash, ...rest } = checked;
  if (planHash(rest) !== hash) throw new Error(`plan ${plan} does not match its hash`);
  return checked;
}
