// needs: redis-server
/**
 * The real emulator, a real Redis, real jobs: an update delivered twice is applied once, and if it were not, it would
 * show.
 */
import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';
import { type PrivateRedis, startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import type { DeferredPort } from '../../src/emulator/emulator.ts';
import { WallEmulator } from '../../src/emulator/wall-emulator.ts';
import { monotonicMs } from '../../src/engine/wall/clock.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { validateScenario } from '../../src/scenario/validate.ts';
import { DeferredPipeline } from '../../src/worker/deferred.ts';
import { until } from '../coordinator/until.ts';
import { CONTENTION } from './live-run.ts';

let redis: PrivateRedis;
before(async () => (redis = await startPrivateRedis()));
after(() => redis.close());

/** Runs the contended guests with updates going through BullMQ; `deliver` decides how often each is applied. */
async function run(name: string, deliver: (emulator: WallEmulator) => DeferredPort['applyDeferred']) {
  const plan = planRun(validateScenario('contention.yaml', CONTENTION(60), REGISTRY), REGISTRY);
  const emulator = await WallEmulator.create({ plan, threads: 2 });
  const port: DeferredPort = {
    drainDeferred: (max, out) => emulator.drainDeferred(max, out),
    onDeferred: (callback) => emulator.onDeferred(callback),
    applyDeferred: deliver(emulator),
    discardDeferred: (update) => emulator.discardDeferred(update),
  };
  const pipeline = new DeferredPipeline(redis.target, { prefix: `{${name}}`, name: 'deferred' }, port, plan.deferred);
  try {
    const startAtMs = monotonicMs() + 100;
    const ended = Promise.all(plan.guests.map((guest) => emulator.startGuest(guest, 1, startAtMs)));
    // On a busy machine the threads rarely meet; without a meeting the test would show nothing.
    await until('trylocks have failed', () => pipeline.counts().queued >= 10);
    emulator.stopGuests();
    // An error while applying leaves an update unsettled, and its guest waiting for it.
    let rested = false;
    void ended.finally(() => (rested = true));
    await until('the guests have ended', () => rested || pipeline.failure !== undefined);
    assert.equal(pipeline.failure, undefined);
    assert.ok((await ended).every(({ state }) => state === 'stopped'));
    await pipeline.drain(10_000);
    await emulator.quiesce();
    return { counts: pipeline.counts(), violations: Object.fromEntries(emulator.violationCounts) };
  } finally {
    await pipeline.close();
    await emulator.close();
  }
}

it('delivered twice, applied once: the account is exact', async () => {
  const { counts, violations } = await run('twice', (emulator) => (update) => {
    const first = emulator.applyDeferred(update);
    assert.equal(emulator.applyDeferred(update), false);
    return first;
  });
  assert.equal(counts.applied, counts.queued);
  assert.equal(violations['balance'], undefined);
  assert.equal(violations['double-update'], undefined);
});

it('a planted bug, each update applied twice without looking at its id, is found by the oracle', async () => {
  const { violations } = await run('planted', (emulator) => async (update) => {
    await emulator.applyUnchecked(update);
    return emulator.applyDeferred(update);
  });
  assert.ok((violations['double-update'] ?? 0) > 0, JSON.stringify(violations));
});
