// needs: redis-server
/**
 * Every guest that has not ended is in somebody's hands: the coordinator's part of it, on a real Redis and a real
 * queue.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import type { Redis } from 'ioredis';
import { Handout } from '../../src/coordinator/handout.ts';
import { Lead } from '../../src/coordinator/lead.ts';
import { type PrivateRedis, startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { RunState } from '../../src/coordinator/run-state.ts';
import { Slices } from '../../src/coordinator/slices.ts';
import type { RunPlan } from '../../src/engine/plan.ts';
import { StatsLayout } from '../../src/metrics/stats.ts';
import { claimSlice, takeName } from '../../src/wire/claims.ts';
import { runKeys } from '../../src/wire/keys.ts';
import type { ControlMessage, Decision, Final, Interval } from '../../src/wire/messages.ts';
import { planSlices } from '../../src/wire/plan-slices.ts';
import { guestQueue, type JobProducer, openProducer } from '../../src/wire/queue.ts';
import { openRedis } from '../../src/wire/redis.ts';

let server: PrivateRedis;
let redis: Redis;
let queue: JobProducer;
let run = 0;

before(async () => {
  server = await startPrivateRedis();
  redis = openRedis(server.target, 'finite');
});
after(async () => {
  redis.disconnect();
  await server.close();
});

/** A coordinator's handing out, with what it decided and told. */
function handing(guests: number, options: { onWorkerLoss?: 'rerun' | 'partial'; rejoinMs?: number } = {}) {
  const keys = runKeys('pinstorm', `run-${run}`);
  const plan = {
    guests: Array.from({ length: guests }, (_, index) => ({ index, startNs: 0 })),
    pace: 1,
    variant: 'D',
  } as unknown as RunPlan;
  const state = new RunState(plan, new StatsLayout([]));
  const lead = new Lead(redis, keys, { target: server.target, runId: `run-${run}`, leaseMs: 1000 });
  const slices = new Slices(redis, keys, () => queue, planSlices(plan), lead);
  const decided: Decision[] = [];
  const told: ControlMessage[] = [];
  const lost: string[] = [];
  const handout = new Handout(
    slices,
    {
      state,
      async decide(decision, effect) {
        decided.push(decision);
        if (decision.d === 'rerun') {
          slices.rerun([...decision.held, ...decision.free], decision.epochMs);
          state.supersede(decision.worker, slices.guestsOf(decision.held.map(([slice]) => slice)));
        }
        if (decision.d === 'accounted') state.workers.get(decision.worker)!.accounted = true;
        await effect?.();
      },
      tell: (message) => Promise.resolve(void told.push(message)),
      lose: (worker) => Promise.resolve(void lost.push(worker)),
      soonMs: () => Promise.resolve(1000),
    },
    { onWorkerLoss: 'rerun', rejoinMs: 0, ...options },
  );
  /** A worker comes, and takes slices. */
  const join = async (worker: string, capacity: number, ...taken: number[]): Promise<void> => {
    const rest = { host: 'h', pid: 1, version: 'v', planHash: '', threads: 1, clockOffsetMs: 0, roundTripMs: 0 };
    state.register({ t: 'register', worker, capacity, ...rest }, 0);
    const identity = await takeName(redis, keys, worker);
    for (const slice of taken) {
      const job = { v: 1 as const, slice, incarnation: 1 };
      assert.equal(await claimSlice(redis, keys, job, identity), 'ok');
    }
  };
  return { handout, slices, state, decided, told, lost, join };
}

describe('handing out', { concurrency: 1 }, () => {
  beforeEach(() => {
    run += 1;
    queue = openProducer(server.target, guestQueue('pinstorm', `run-${run}`));
  });
  afterEach(() => queue.close());

  it('puts a slice into the queue again when its job came to nothing', async () => {
    const { handout, join } = handing(3);
    await handout.addWaiting();
    await join('w1', 3, 0);
    await queue.removeWaiting();
    await handout.upkeep(0);
    assert.equal((await queue.counts()).waiting, 0, 'it may have been taken a moment ago');
    await handout.upkeep(500);
    assert.equal((await queue.counts()).waiting, 0, 'once a second');
    await handout.upkeep(1000);
    assert.equal((await queue.counts()).waiting, 2, 'what nobody holds');
    await handout.upkeep(2000);
    assert.equal((await queue.counts()).waiting, 2, 'and each once');
  });

  it('takes a worker whose account is closed while it holds open guests for lost, and no other', async () => {
    const { handout, state, lost, join } = handing(3);
    await join('w1', 3, 0);
    await join('w2', 3, 1);
    await join('w3', 3, 2);
    for (const name of ['w1', 'w2']) state.workers.get(name)!.final = {} as Final;
    const ended = { incarnation: 1, operations: 1, failedOperations: 0, lockedVmAfterPages: '0' };
    state.outcome('w1', { guest: 0, state: 'completed', ...ended });
    await handout.upkeep(0);
    assert.deepEqual(lost, ['w2']);
  });

  it('has the guests of a lost worker run again, and asks twice without harm', async () => {
    const { handout, slices, state, decided, told, join } = handing(4);
    await join('w1', 4, 0, 1);
    await join('w2', 4, 2, 3);
    state.workers.get('w1')!.lost = 'silent';
    assert.equal(await handout.rescue(0), undefined);
    const [rerun] = decided;
    assert.ok(rerun?.d === 'rerun');
    assert.deepEqual(rerun.held, [
      [0, 2],
      [1, 2],
    ]);
    assert.deepEqual(await slices.reclaim('w1'), { held: rerun.held, free: rerun.free }, 'the answer is kept');
    assert.equal((await queue.counts()).waiting, 2);
    await handout.share();
    assert.deepEqual(told, [{ t: 'share', jobs: { w2: 4 } }]);
  });

  it('gives up where the room that is left is in pieces smaller than a slice', async () => {
    const { handout, state, join } = handing(2000);
    await join('w1', 2000, 0);
    await join('w2', 3);
    await join('w3', 3);
    state.workers.get('w1')!.lost = 'silent';
    assert.match((await handout.rescue(0)) ?? '', /^2000 guests were not run again: room for 0 is left$/);
  });

  it('counts a lost worker whose guests have ended and whose figures are whole, whatever is open elsewhere', async () => {
    const { handout, state, decided, join } = handing(3);
    await join('w1', 3, 0);
    await join('w2', 3, 1);
    await join('idle', 3);
    await join('w3', 3, 2);
    const ended = { incarnation: 1, operations: 1, failedOperations: 0, lockedVmAfterPages: '0' };
    const told = { ended: 1, states: { running: 0 }, backlog: 0 } as unknown as Interval;
    state.outcome('w1', { guest: 0, state: 'completed', ...ended });
    for (const name of ['w1', 'idle']) state.workers.get(name)!.lost = 'silent';
    state.workers.get('w1')!.interval = told;
    assert.equal(await handout.rescue(0), undefined);
    assert.deepEqual(decided, [
      { d: 'accounted', worker: 'w1', last: told },
      { d: 'accounted', worker: 'idle', last: null },
    ]);
    // Its figures are older than the end of its guest, and another one of its guests is open.
    state.outcome('w2', { guest: 1, state: 'completed', ...ended });
    for (const name of ['w2', 'w3']) state.workers.get(name)!.lost = 'silent';
    await handout.account('stays');
    assert.equal(decided.length, 2);
    state.workers.get('w2')!.interval = told;
    await handout.account('stays');
    assert.deepEqual(decided.slice(2), [{ d: 'accounted', worker: 'w2', last: told }]);
    assert.deepEqual(
      state.missing.map(({ registration }) => registration.worker),
      ['w3'],
    );
  });

  it('does not end a partial run for a worker that never had a guest', async () => {
    const { handout, state, join } = handing(2, { onWorkerLoss: 'partial' });
    await join('w1', 2, 0, 1);
    await join('idle', 2);
    state.workers.get('idle')!.lost = 'silent';
    assert.equal(await handout.rescue(0), undefined);
    state.workers.get('w1')!.lost = 'silent';
    assert.match((await handout.rescue(0)) ?? '', /as --on-worker-loss asks/);
  });
});
