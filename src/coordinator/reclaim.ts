import type { Redis } from 'ioredis';
import type { RunKeys } from '../wire/keys.ts';
import { onlyLeader } from './lead.ts';

// Fences the worker and takes its slices away, in one step: from here on it can claim nothing, and what it claimed is
// of an old incarnation. Slices nobody has claimed get a new incarnation too: the worker may have died with their jobs
// in hand. The answer is kept: it may be lost on its way, or with the coordinator that asked, and then it is asked for
// again.
export const RECLAIM = `${onlyLeader(4, 3)}
local known = redis.call('HGET', KEYS[3], ARGV[1])
if known then return cjson.decode(known) end
redis.call('HSET', KEYS[2], ARGV[1], '1')
local out = {}
for slice = 0, tonumber(ARGV[2]) - 1 do
  local held = redis.call('HGET', KEYS[1], slice)
  local incarnation, worker = '1', ''
  if held then incarnation, worker = string.match(held, '^(%d+):(.*)$') end
  if worker == '' or worker == ARGV[1] then
    local fresh = tonumber(incarnation) + 1
    redis.call('HSET', KEYS[1], slice, string.format('%d:', fresh))
    table.insert(out, slice)
    table.insert(out, fresh)
    table.insert(out, worker == '' and 0 or 1)
  end
end
redis.call('HSET', KEYS[3], ARGV[1], #out > 0 and cjson.encode(out) or '[]')
return out
`;

export interface Reclaimed {
  /** Slice and new incarnation of what the worker held. */
  readonly held: [number, number][];
  /** And of what nobody held. */
  readonly free: [number, number][];
}

/**
 * Fences a worker and takes away the slices it holds, of `slices` in all. @param leader the token of the coordinator.
 */
export async function reclaim(
  redis: Redis,
  keys: RunKeys,
  worker: string,
  slices: number,
  leader: string,
): Promise<Reclaimed> {
  const { claims, fenced, reclaimed, leader: key } = keys;
  const flat = (await redis.eval(RECLAIM, 4, claims, fenced, reclaimed, key, worker, slices, leader)) as number[];
  const found: Reclaimed = { held: [], free: [] };
  for (let i = 0; i < flat.length; i += 3) {
    found[flat[i + 2] === 1 ? 'held' : 'free'].push([flat[i] as number, flat[i + 1] as number]);
  }
  return found;
}

export interface Holding {
  readonly slice: number;
  readonly incarnation: number;
  /** Null: it waits for a worker. */
  readonly worker: string | null;
}

/** Who holds each of `slices` slices. */
export async function holdings(redis: Redis, keys: RunKeys, slices: number): Promise<Holding[]> {
  const claims = await redis.hgetall(keys.claims);
  return Array.from({ length: slices }, (_, slice) => {
    const [, incarnation, worker] = /^(\d+):(.*)$/.exec(claims[slice] ?? '1:') ?? [];
    return { slice, incarnation: Number(incarnation), worker: worker === '' ? null : (worker ?? null) };
  });
}
