/**
 * Experiments on many machines: each emulated host of each repetition of each cell is a BullMQ job that any worker may
 * take. What a host gives back depends on its plan alone, so it does not matter who ran it, in which order, or whether
 * twice.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { EXIT, UserError } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import { type HostResult, hostTasks } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import { experimentKeys, experimentsKey, HostOutcome, hostQueue } from '../wire/experiments.ts';
import { KEYS_LIVE_MS, openProducer } from '../wire/queue.ts';
import { openRedis, redisFailure, type RedisTarget } from '../wire/redis.ts';
import { scanKeys } from '../wire/runs.ts';

const ALIVE_MS = 30_000;
const POLL_MS = 100;
const RENEW_MS = 1000;

/** Without a result for this long somebody should look whether there are workers at all. */
const PATIENCE_MS = 5000;

export interface RemoteOptions {
  readonly onProgress?: ((done: number) => void) | undefined;
  /** Looked at a few times a second: what is complete by then is given back. */
  readonly stopped: () => boolean;
  readonly onMessage: (text: string) => void;
}

/**
 * Has workers simulate every host of every plan. Per plan its hosts in order; null: not complete.
 * @throws UserError 113.
 */
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
    // An experiment whose keys have expired still has its line in the list.
    for (const other of Object.keys(await redis.hgetall(experimentsKey(prefix)))) {
      if ((await redis.exists(experimentKeys(prefix, other).plans)) === 0)
        await redis.hdel(experimentsKey(prefix), other);
    }
    await queue.addAll(
      hosts.flatMap((n, plan) =>
        Array.from({ length: n }, (_, host) => ({ id: `host-${plan}-${host}`, data: { v: 1, plan, host } })),
      ),
    );
    let waitedSince = performance.now();
    let renewAt = 0;
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
      if (performance.now() >= renewAt) {
        renewAt = performance.now() + RENEW_MS;
        await Promise.all([keys.plans, keys.results].map((key) => redis.pexpire(key, KEYS_LIVE_MS)));
        await queue.renew();
      }
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
    const outcome = HostOutcome.parse(JSON.parse(text));
    if ('error' in outcome)
      throw new UserError(
        EXIT.inconclusive,
        `a worker could not simulate a host: ${outcome.error}`,
        'leave --redis out to simulate it here',
      );
    results.push(outcome.result);
  }
  return results;
}
