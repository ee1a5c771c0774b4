/**
 * What the coordinator and the workers of a run say to each other through Redis: keys, messages, streams.
 *
 * Messages are untrusted input: each is checked and bounded on receipt; one that does not fit is refused and counted.
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import type { RunPlan } from '../engine/plan.ts';
import { checkPlan } from '../scenario/plan-check.ts';
import { runKeys, runsKey } from './keys.ts';
import { RunRecord, type WorkerMessage } from './messages.ts';
import { isKeyPart, KEYS_LIVE_MS } from './queue.ts';
import { tell } from './streams.ts';

/** Largest plan published and accepted, bytes of JSON: some 350 000 guests. */
const MAX_PLAN_BYTES = 1 << 28;

// Of two that publish the same run one is the first. What an earlier run of that id has left, its farewell above all,
// is nothing to the workers of the new one.
const PUBLISH = `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', unpack(KEYS))
redis.call('SET', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], '*', 'm', ARGV[2])
redis.call('XADD', KEYS[3], '*', 'm', ARGV[2])
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
return 1
`;

/** @throws UserError 104 for a plan that is too large or a name that is taken. */
export async function publishRun(
  redis: Redis,
  prefix: string,
  runId: string,
  record: RunRecord,
  plan: RunPlan,
): Promise<void> {
  const keys = runKeys(prefix, runId);
  const open: WorkerMessage = { t: 'open' };
  const text = JSON.stringify(plan);
  if (text.length > MAX_PLAN_BYTES) {
    throw new UserError(EXIT.invalid, `the plan is too large for Redis: ${text.length} bytes`, 'use fewer guests');
  }
  const { plan: planKey, events, intervals, ...rest } = keys;
  const all = [planKey, events, intervals, ...Object.values(rest)];
  const packed = gzipSync(text, { level: 1 });
  if ((await redis.eval(PUBLISH, all.length, ...all, packed, JSON.stringify(open), KEYS_LIVE_MS)) === 0) {
    const hint = `--resume ${runId} goes on with it when its coordinator died; pinstorm clean removes what is dead`;
    throw new UserError(EXIT.invalid, `there is a run ${runId} already`, hint);
  }
  await redis.hset(runsKey(prefix), runId, JSON.stringify(record));
  // A run whose plan has expired is over; BullMQ makes lists that do not expire, and it still has its line here.
  for (const other of (await listRuns(redis, prefix)).keys()) {
    if ((await redis.exists(runKeys(prefix, other).plan)) === 0) await removeRun(redis, prefix, other);
  }
}

/** The runs in this Redis, by id. */
export async function listRuns(redis: Redis, prefix: string): Promise<Map<string, RunRecord>> {
  const runs = new Map<string, RunRecord>();
  for (const [runId, text] of Object.entries(await redis.hgetall(runsKey(prefix)))) {
    if (!isKeyPart(runId)) continue;
    try {
      runs.set(runId, RunRecord.parse(JSON.parse(text)));
    } catch {
      // Of another version, or not a run: not ours to touch.
    }
  }
  return runs;
}

/**
 * The plan as published, checked field by field but not against its hash. Null when there is none. @throws UserError
 * 113.
 */
export async function fetchPlan(redis: Redis, prefix: string, runId: string): Promise<RunPlan | null> {
  const packed = await redis.getBuffer(runKeys(prefix, runId).plan);
  if (packed === null) return null;
  try {
    return checkPlan(JSON.parse(gunzipSync(packed, { maxOutputLength: MAX_PLAN_BYTES }).toString('utf8')));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UserError(EXIT.inconclusive, `the plan of run ${runId} is refused: ${why}`, 'start the run again');
  }
}

/** Calls `visit` with the keys of a run, or of all runs, some at a time. */
export async function scanKeys(
  redis: Redis,
  prefix: string,
  runId: string | null,
  visit: (keys: string[]) => Promise<void> | void,
): Promise<void> {
  // [{] keeps the brace literal and takes in the workers' own tags too.
  const match = runId === null ? `[{]${prefix}:*` : `[{]${prefix}:${runId}[}:]*`;
  let cursor = '0';
  do {
    const [next, keys] = await redis.scan(cursor, 'MATCH', match, 'COUNT', 1000);
    cursor = next;
    if (keys.length > 0) await visit(keys);
  } while (cursor !== '0');
}

/** Removes every key of a run, or every key but one. */
export async function removeRun(redis: Redis, prefix: string, runId: string, except?: string): Promise<void> {
  await scanKeys(redis, prefix, runId, async (keys) => {
    for (const key of keys) if (key !== except) await redis.unlink(key);
  });
  // Last: the list may be damaged.
  await redis.hdel(runsKey(prefix), runId);
}

/** Removes a run whose workers may still be there: they find `exit` for another minute. */
export async function bidFarewell(redis: Redis, prefix: string, runId: string): Promise<void> {
  const keys = runKeys(prefix, runId);
  await removeRun(redis, prefix, runId);
  await tell(redis, keys, { t: 'exit' });
  await redis.expire(keys.control, 60);
}

/**
 * Removes what was written after the run was removed: the queues of a worker note their last events when they close.
 * The coordinator's farewell stays for the others; it goes away by itself.
 */
export async function removeRemains(redis: Redis, prefix: string, runId: string): Promise<void> {
  const { plan, control } = runKeys(prefix, runId);
  if ((await redis.exists(plan)) === 0) await removeRun(redis, prefix, runId, control);
}
