/**
 * Experiments on many machines: each emulated host of each repetition of each cell is a BullMQ job that any worker may take. What a
 * host gives back depends on its plan alone, so it does not matter who ran it, in which order, or whether twice.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { EXIT, UserError } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import { MAX_SNAPSHOT_CHARS } from '../metrics/snapshot.ts';
import { planHash } from '../scenario/plan.ts';
import { checkPlan } from '../scenario/plan-check.ts';
import { hostTasks, type HostResult } from '../worker/virtual-run.ts';
import { scanKeys } from './protocol.ts';
import { openProducer, runTag, type QueueName } from './queue.ts';
import { openRedis, redisFailure, type RedisTarget } from './redis.ts';

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
const OutcomeSchema = z.union([z.strictObject({ result: Result }), z.strictObject({ error: line })]);
export type Outcome = { readonly result: HostResult } | { readonly error: string };

const ALIVE_MS = 30_000;
const POLL_MS = 100;
const MAX_PLAN_BYTES = 1 << 28;
/** Without a result for this long somebody should look whether there are workers at all. */
const PATIENCE_MS = 5000;

export interface RemoteOptions {
  readonly onProgress?: ((done: number) => void) | undefined;
  /** Looked at a few times a second: what is complete by then is given back. */
  readonly stopped: () => boolean;
  readonly onMessage: (text: string) => void;
}

/** Has workers simulate every host of every plan. Per plan its hosts in order; null: not complete. Throws UserError 113. */
export async function simulateRemotely(
  target: RedisTarget,
  plans: readonly RunPlan[],
  { onProgress, stopped, onMessage }: RemoteOptions,
): Promise<(HostResult[] | null)[]> {
  const { prefix } = target;
  const id = `x-${Date.now().toString(36)}-${randomBytes(3).toString('hex')}`;
  const keys = experimentKeys(prefix, id);
  const redis = openRedis(target, 'finite');
  const queue = openProducer(target, hostQueue(prefix, id));
  const hosts = plans.map((plan) => hostTasks(plan).length);
  const of = hosts.reduce((sum, n) => sum + n, 0);
  try {
    for (const [n, plan] of plans.entries())
      await redis.hset(keys.plans, String(n), gzipSync(JSON.stringify(plan), { level: 1 }));
    await redis.set(keys.alive, '1', 'PX', ALIVE_MS);
    await redis.hset(experimentsKey(prefix), id, VERSION);
    await queue.addAll(
      hosts.flatMap((n, plan) =>
        Array.from({ length: n }, (_, host) => ({ id: `host-${plan}-${host}`, data: { v: 1, plan, host } })),
      ),
    );
    let waitedSince = performance.now();
    for (let done = -1; done < of && !stopped();) {
      const now = await redis.hlen(keys.results);
      if (now !== done) {
        done = now;
        waitedSince = performance.now();
        onProgress?.(done);
      } else if (done === 0 && performance.now() - waitedSince > PATIENCE_MS) {
        onMessage(`pinstorm: no result yet; workers take part with: pinstorm worker --redis ${target.label}`);
        waitedSince = Infinity;
      }
      await redis.set(keys.alive, '1', 'PX', ALIVE_MS);
      if (done < of) await pause(POLL_MS);
    }
    const all = await redis.hgetall(keys.results);
    return hosts.map((n, plan) => resultsOf(all, plan, n));
  } catch (error) {
    throw redisFailure(target, error) ?? error;
  } finally {
    await queue.close();
    await redis.hdel(experimentsKey(prefix), id).catch(() => {});
    await scanKeys(redis, prefix, id, async (found) => {
      for (const key of found) await redis.unlink(key);
    }).catch(() => {});
    redis.disconnect();
  }
}

function resultsOf(all: Readonly<Record<string, string>>, plan: number, hosts: number): HostResult[] | null {
  const results: HostResult[] = [];
  for (let host = 0; host < hosts; host += 1) {
    const text = all[`${plan}/${host}`];
    if (text === undefined) return null;
    const outcome: Outcome = OutcomeSchema.parse(JSON.parse(text));
    if ('error' in outcome)
      throw new UserError(EXIT.inconclusive, `a worker could not simulate a host: ${outcome.error}`);
    results.push(outcome.result);
  }
  return results;
}

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
