/** Who runs which slice of the guests: two processes could disagree, so one script in Redis decides. */
import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { onlyLeader } from './lead.ts';
import type { GuestJob, RunKeys } from './protocol.ts';

// A slice is claimed once per incarnation, the first one freely. A later incarnation only after the coordinator ordered that
// rerun by a claim without a worker: one that a job alone brings up is forged.
const CLAIM = `
if redis.call('HEXISTS', KEYS[2], ARGV[3]) == 1 then return 'fenced' end
if redis.call('HGET', KEYS[3], ARGV[3]) ~= ARGV[4] then return 'fenced' end
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

/** A worker of a run: its name there, and what shows that it is this process and not another one of that name. */
export interface Identity {
  readonly name: string;
  readonly token: string;
}

/** Gives this process a name in the run: `wanted`, or that with a number where somebody has borne it already. */
export async function takeName(redis: Redis, keys: RunKeys, wanted: string): Promise<Identity> {
  const token = randomUUID();
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted.slice(0, 56)}-${n}`;
    if ((await redis.hsetnx(keys.workers, name, token)) === 1) return { name, token };
    // The answer to the first attempt may have been lost with a connection.
    if ((await redis.hget(keys.workers, name)) === token) return { name, token };
  }
}

/**
 * Claims a slice for a worker. `ok` allows to run it, and so does `mine` if the worker does not run it already: the answer to a
 * claim can be lost with a connection, and the claim is made again. The others say why not.
 */
export async function claimSlice(redis: Redis, keys: RunKeys, job: GuestJob, by: Identity): Promise<Claim> {
  const { claims, fenced, workers } = keys;
  const { slice, incarnation } = job;
  return (await redis.eval(CLAIM, 3, claims, fenced, workers, slice, incarnation, by.name, by.token)) as Claim;
}

// Fences the worker and takes its slices away, in one step: from here on it can claim nothing, and what it claimed is of an
// old incarnation. Slices nobody has claimed get a new incarnation too: the worker may have died with their jobs in hand.
// The answer is kept: it may be lost on its way, or with the coordinator that asked, and then it is asked for again.
const RECLAIM = `${onlyLeader(4, 3)}
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

/** Fences a worker and takes away the slices it holds, of `slices` in all. @param leader the token of the coordinator. */
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
