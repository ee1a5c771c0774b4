/** Who runs which slice of the guests: two processes could disagree, so one script in Redis decides. */
import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { RunKeys } from './keys.ts';
import type { GuestJob } from './messages.ts';

// A slice is claimed once per incarnation, the first one freely. A later incarnation only after the coordinator ordered
// that rerun by a claim without a worker: one that a job alone brings up is forged.
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
  for (let n = 1; ; n += 1) {
    const name = n === 1 ? wanted : `${wanted.slice(0, 56)}-${n}`;
    if ((await redis.hsetnx(keys.workers, name, token)) === 1) return { name, token };
    // The answer to the first attempt may have been lost with a connection.
    if ((await redis.hget(keys.workers, name)) === token) return { name, token };
  }
}

/**
 * Claims a slice for a worker. `ok` allows to run it, and so does `mine` if the worker does not run it already: the
 * answer to a claim can be lost with a connection, and the claim is made again. The others say why not.
 */
export async function claimSlice(redis: Redis, keys: RunKeys, job: GuestJob, by: Identity): Promise<Claim> {
  const { claims, fenced, workers } = keys;
  const { slice, incarnation } = job;
  return (await redis.eval(CLAIM, 3, claims, fenced, workers, slice, incarnation, by.name, by.token)) as Claim;
}
