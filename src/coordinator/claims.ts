/** Who runs which slice of the guests: two processes could disagree, so one script in Redis decides. */
import type { Redis } from 'ioredis';
import type { GuestJob, RunKeys } from './protocol.ts';

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

/** Field and value of a worker's claim on a slice. */
export const claimOf = ({ slice, incarnation }: GuestJob, worker: string): [field: string, value: string] => [
  `${slice}`,
  `${incarnation}:${worker}`,
];

/** Claims a slice for a worker. Only `ok` allows to run it; the others say why not. */
export async function claimSlice(redis: Redis, keys: RunKeys, job: GuestJob, worker: string): Promise<Claim> {
  return (await redis.eval(CLAIM, 2, keys.claims, keys.fenced, job.slice, job.incarnation, worker)) as Claim;
}

// Fences the worker and takes its slices away, in one step: from here on it can claim nothing, and what it claimed is of an
// old incarnation. Slices nobody has claimed get a new incarnation too: the worker may have died with their jobs in hand.
const RECLAIM = `
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
return out
`;

export interface Reclaimed {
  /** Slice and new incarnation of what the worker held. */
  readonly held: [number, number][];
  /** And of what nobody held. */
  readonly free: [number, number][];
}

/** Fences a worker and takes away the slices it holds, of `slices` in all. */
export async function reclaim(redis: Redis, keys: RunKeys, worker: string, slices: number): Promise<Reclaimed> {
  const flat = (await redis.eval(RECLAIM, 2, keys.claims, keys.fenced, worker, slices)) as number[];
  const found: Reclaimed = { held: [], free: [] };
  for (let i = 0; i < flat.length; i += 3) {
    found[flat[i + 2] === 1 ? 'held' : 'free'].push([flat[i] as number, flat[i + 1] as number]);
  }
  return found;
}

/** The slices that wait for a worker, with their incarnation. */
export async function unclaimed(redis: Redis, keys: RunKeys, slices: number): Promise<[number, number][]> {
  const claims = await redis.hgetall(keys.claims);
  const waiting: [number, number][] = [];
  for (let slice = 0; slice < slices; slice++) {
    const [, incarnation, worker] = /^(\d+):(.*)$/.exec(claims[slice] ?? '1:') ?? [];
    if (worker === '') waiting.push([slice, Number(incarnation)]);
  }
  return waiting;
}
