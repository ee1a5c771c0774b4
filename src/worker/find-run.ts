/** The run a worker takes part in: found, waited for, and fetched. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import type { RunPlan } from '../engine/plan.ts';
import { planHash } from '../scenario/plan.ts';
import { runKeys, runsKey } from '../wire/keys.ts';
import type { RunRecord } from '../wire/messages.ts';
import { awaitFound, type RedisTarget } from '../wire/redis.ts';
import { fetchPlan, listRuns } from '../wire/runs.ts';

/** Between looks for a run that is expected. */
const PUBLISHED_MS = 50;

interface Wanted {
  readonly target: RedisTarget;
  readonly runId: string;
  /** The process that started this one will start the run: wait for that. */
  readonly expected?: boolean;
  /** Ends that wait. */
  readonly leave?: AbortSignal;
}

/** Waits until there is a run whose coordinator is alive, one that still gathers workers before others. */
export const awaitRun = (target: RedisTarget, signal: AbortSignal): Promise<string> =>
  awaitFound(target, (redis) => findRun(redis, target), signal);

async function findRun(redis: Redis, target: RedisTarget): Promise<string | null> {
  let underway: string | null = null;
  for (const runId of (await listRuns(redis, target.prefix)).keys()) {
    const keys = runKeys(target.prefix, runId);
    // What a crash left behind has no coordinator that says it is alive.
    if ((await redis.exists(keys.alive)) === 0) continue;
    if ((await redis.exists(keys.control)) === 0) return runId;
    underway ??= runId;
  }
  return underway;
}

/** Waits until a run that is being prepared is there; also until its coordinator has said that it is over. */
async function awaitPublished(redis: Redis, { runId, target, leave }: Wanted): Promise<void> {
  const { control } = runKeys(target.prefix, runId);
  while ((await redis.hexists(runsKey(target.prefix), runId)) === 0 && (await redis.exists(control)) === 0) {
    if (leave?.aborted === true) return;
    await pause(PUBLISHED_MS);
  }
}

/** The plan of the run and its record. @throws UserError 104 or 113 when the worker cannot take part in it. */
export async function loadPlan(redis: Redis, options: Wanted): Promise<[RunPlan, RunRecord]> {
  const { runId, target } = options;
  if (options.expected) await awaitPublished(redis, options);
  const record = (await listRuns(redis, target.prefix)).get(runId);
  const plan = record === undefined ? null : await fetchPlan(redis, target.prefix, runId);
  if (record === undefined || plan === null) {
    throw new UserError(
      EXIT.inconclusive,
      `there is no run ${runId} at ${target.label}`,
      'start the coordinator first',
    );
  }
  if (record.version !== VERSION) {
    throw new UserError(
      EXIT.invalid,
      `the coordinator of run ${runId} is pinstorm ${record.version}, this worker is ${VERSION}`,
      'use the same version on all machines',
    );
  }
  const { hash, ...rest } = plan;
  if (hash !== record.planHash || planHash(rest) !== hash) {
    throw new UserError(EXIT.inconclusive, `the plan of run ${runId} does not match its hash`, 'start the run again');
  }
  return [plan, record];
}
