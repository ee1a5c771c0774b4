/** What runs left in Redis, and whether somebody still looks after it. */
import type { Redis } from 'ioredis';
import { listRuns, runKeys, scanKeys } from './protocol.ts';
import { isKeyPart } from './queue.ts';
import { redisTimeMs } from './redis.ts';

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
