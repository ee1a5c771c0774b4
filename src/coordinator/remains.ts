/** What runs left in Redis, and whether somebody still looks after it. */
import type { Redis } from 'ioredis';
import { runKeys } from '../wire/keys.ts';
import { isKeyPart } from '../wire/queue.ts';
import { openRedis, redisFailure, type RedisTarget, redisTimeMs } from '../wire/redis.ts';
import { bidFarewell, listRuns, removeRemains, scanKeys } from '../wire/runs.ts';
import { Lead } from './lead.ts';

export interface Remains {
  readonly runId: string;
  readonly keys: number;
  /** Memory of the keys, bytes. */
  readonly bytes: number;
  /** Seconds since its coordinator was last there; null when the workers do not wait for it any more. */
  readonly aliveSecondsAgo: number | null;
}

/** Every run of which there is a key, those with a coordinator too. */
export async function findRemains(redis: Redis, prefix: string): Promise<Remains[]> {
  const found = new Map<string, Set<string>>();
  const of = (runId: string): Set<string> => {
    const keys = found.get(runId) ?? new Set<string>();
    found.set(runId, keys);
    return keys;
  };
  for (const runId of (await listRuns(redis, prefix)).keys()) of(runId);
  await scanKeys(redis, prefix, null, (keys) => {
    for (const key of keys) {
      const runId = key.slice(prefix.length + 2).split(/[:}]/, 1)[0] ?? '';
      if (isKeyPart(runId)) of(runId).add(key);
    }
  });
  const nowMs = await redisTimeMs(redis);
  const remains: Remains[] = [];
  for (const [runId, keys] of [...found].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const { alive, control } = runKeys(prefix, runId);
    // The farewell of a run that has ended goes away by itself.
    if (keys.size === 1 && keys.has(control) && (await redis.pttl(control)) > 0) continue;
    let bytes = 0;
    for (const key of keys) bytes += (await redis.memory('USAGE', key)) ?? 0;
    const aliveAt = await redis.get(alive);
    const aliveSecondsAgo = aliveAt === null ? null : Math.max(0, (nowMs - Number(aliveAt)) / 1000);
    remains.push({ runId, keys: keys.size, bytes, aliveSecondsAgo });
  }
  return remains;
}

/**
 * Removes what a run whose results are on disk left in Redis, and sends its workers home.
 * @throws UserError 104 when its coordinator is alive, or Redis is out of reach.
 */
export async function removeEnded(target: RedisTarget, runId: string): Promise<void> {
  const { prefix } = target;
  const redis = openRedis(target, 'finite');
  try {
    const keys = runKeys(prefix, runId);
    const record = (await listRuns(redis, prefix)).get(runId);
    if (record === undefined || (await redis.exists(keys.plan)) === 0) {
      await removeRemains(redis, prefix, runId);
    } else {
      await new Lead(redis, keys, { target, runId, leaseMs: record.leaseMs }).takeOver();
      await bidFarewell(redis, prefix, runId);
    }
  } catch (error) {
    throw redisFailure(target, error) ?? error;
  } finally {
    redis.disconnect();
  }
}
