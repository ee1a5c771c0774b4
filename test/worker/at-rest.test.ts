// needs: redis-server
/**
 * The real emulator with nobody who empties its ring: a guest with updates there is not judged, and the wait is
 * measured.
 */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DeferredUpdate } from '../../src/engine/wall/wall-control.ts';
import { WallEmulator } from '../../src/emulator/wall-emulator.ts';
import { monotonicMs } from '../../src/engine/wall/clock.ts';
import { DEFERRED_SETTLE } from '../../src/metrics/ops.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { validateScenario } from '../../src/scenario/validate.ts';
import { until } from '../coordinator/until.ts';
import { CONTENTION } from './live-run.ts';

it('guests wait for their updates in the ring, and deferred_settle is measured from queueing', async () => {
  const plan = planRun(validateScenario('contention.yaml', CONTENTION(60), REGISTRY), REGISTRY);
  const emulator = await WallEmulator.create({ plan, threads: 2 });
  try {
    const counter = (name: string): number => emulator.snapshot().counter(name);
    const startMs = monotonicMs();
    const endedEarly = new Set<number>();
    let drained = false;
    const ended = Promise.all(
      plan.guests.map(async (guest) => {
        const outcome = await emulator.startGuest(guest, 1, startMs);
        if (!drained) endedEarly.add(guest.index);
        return outcome;
      }),
    );
    // On a busy machine the threads rarely meet; without a meeting the test would show nothing.
    await until('trylocks have failed', () => counter('deferred_queued') >= 10);
    emulator.stopGuests();
    const idleNs = counter('thread_idle_ns');
    await until('the threads have nothing to do any more', () => counter('thread_idle_ns') > idleNs + 400e6);

    const updates: DeferredUpdate[] = [];
    drained = true;
    const drainNs = Number(process.hrtime.bigint());
    // One at a time. Taken from the ring it is in a job; when it is applied, its guest may have more in the ring.
    for (let from = 0; emulator.drainDeferred(1, updates) > 0; from++) {
      await nextTurn();
      await nextTurn();
      assert.notEqual(await emulator.applyDeferred(updates[from] as DeferredUpdate), false);
      await nextTurn();
      await nextTurn();
    }
    for (const { guest } of updates) assert.ok(!endedEarly.has(guest), `guest ${guest} ended before its update`);
    await ended;
    // Updates may pass each other: a dip below zero is expected, anything else is not.
    assert.deepEqual(new Set([...emulator.violationCounts.keys(), 'wrap']), new Set(['wrap']));

    const settle = emulator.snapshot().series(DEFERRED_SETTLE);
    const waitedNs = updates.reduce((sum, { queuedAtNs }) => sum + drainNs - queuedAtNs, 0);
    assert.ok((settle?.sumNs ?? 0) >= waitedNs, `${settle?.sumNs} ns measured, ${waitedNs} ns waited at least`);
  } finally {
    await emulator.close();
  }
});

it('at pace 0 the threads of one guest race for its lock, and its account is exact', async () => {
  const text = `
name: race
variant: D
pace: 0
expect: [wrap, over-penalty]
guests:
  - class: raced
    count: 1
    containers: 2
    cap_ipc_lock: true
    memory: { size: 16MiB, backing: anon4k }
    actors:
      - { name: one, workload: map-unmap, options: { pages: 512 pages, container: 0 }, iterations: 200 }
      - { name: two, workload: map-unmap, options: { pages: 512 pages, container: 1 }, iterations: 200 }
`;
  const plan = planRun(validateScenario('race.yaml', text, REGISTRY), REGISTRY);
  const emulator = await WallEmulator.create({ plan, threads: 2 });
  try {
    const updates: DeferredUpdate[] = [];
    emulator.onDeferred(() => {
      while (emulator.drainDeferred(1000, updates) > 0)
        for (const update of updates.splice(0)) void emulator.applyDeferred(update);
    });
    const [guest] = plan.guests;
    assert.ok(guest !== undefined);
    const outcome = await emulator.startGuest(guest, 1, monotonicMs());
    assert.deepEqual([outcome.state, outcome.operations, outcome.lockedVmAfterPages], ['completed', 800, '0']);
    const { violations } = await emulator.quiesce();
    const unexpected = violations.filter(({ invariant }) => invariant !== 'wrap' && invariant !== 'over-penalty');
    assert.deepEqual(unexpected, []);
  } finally {
    await emulator.close();
  }
});
