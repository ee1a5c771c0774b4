import { gunzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { VERSION } from '../base/version.ts';
import type { HostResult } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import { MAX_SNAPSHOT_CHARS } from '../metrics/snapshot.ts';
import { checkPlan } from '../scenario/plan-check.ts';
import { planHash } from '../scenario/plan.ts';
import { type QueueName, runTag } from './queue.ts';

/** Hash of the experiments in a Redis: id to the version of pinstorm. */
export const experimentsKey = (prefix: string): string => `{${prefix}}:experiments`;

export function experimentKeys(prefix: string, id: string) {
  const key = (name: string): string => `${runTag(prefix, id)}:${name}`;
  return {
    /** Hash: number of the plan to the plan, JSON, gzip. */
    plans: key('plans'),
    /** Hash: `plan/host` to Outcome, JSON. */
    results: key('results'),
    /** Expires when whoever started it is gone. */
    alive: key('alive'),
  };
}
export const hostQueue = (prefix: string, id: string): QueueName => ({ prefix: runTag(prefix, id), name: 'hosts' });
const count = z.int().min(0);
const amount = z.number().min(0);
const line = z.string().max(4000);

/** A job: one emulated host of one plan. */
export const HostJob = z.strictObject({ v: z.literal(1), plan: count, host: count });
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
  violations: z
    .array(z.strictObject({ invariant: z.string().max(64), guest: z.int(), atNs: amount, detail: line }))
    .max(64),
  driftPages: z.number(),
  deferredBacklogMax: count,
  mappingsMax: count,
  marks: z.array(z.strictObject({ guest: z.int(), atNs: amount, label: line, value: line })).max(64),
  markCounts: z.array(z.strictObject({ text: line, guests: z.int(), times: z.int() })).max(64),
  guests: z.array(
    z.strictObject({
      guest: count,
      state: z.enum(['completed', 'stopped', 'failed']),
      restNs: amount,
      settledNs: amount,
      endNs: amount,
      operations: count,
      failedOperations: count,
      lockedVmAfterPages: z.string().regex(/^\d{1,20}$/),
      error: line.nullable(),
    }),
  ),
});
export const OutcomeSchema = z.union([z.strictObject({ result: Result }), z.strictObject({ error: line })]);
export type Outcome = { readonly result: HostResult } | { readonly error: string };
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
