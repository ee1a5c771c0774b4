/** Workers that are killed, stopped, asked to leave, or come late: real processes and a real Redis. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EXIT } from '../../src/base/errors.ts';
import { until } from '../coordinator/until.ts';
import { assertAccounts, assertWhole, Fleet } from './fleet.ts';

const KILL_THREAD = fileURLToPath(new URL('./kill-thread.js', import.meta.url));

describe('a worker', { concurrency: 1 }, () => {
  for (const [when, wait] of [
    ['while guests boot', (fleet: Fleet) => fleet.booting()],
    ['in steady state, with updates queued', (fleet: Fleet) => fleet.loaded()],
  ] as const) {
    it(`that is killed ${when} has its guests run again elsewhere`, async () => {
      await Fleet.with({}, async (fleet) => {
        await wait(fleet);
        fleet.workers[0]?.process.kill('SIGKILL');
        const results = await fleet.ended();
        assertWhole(results);
        assert.equal(results.coverage.workersLost, 1);
        assert.ok((results.coverage.guestsRerun ?? 0) > 0);
        const notes = results.accounting.notes.join('\n');
        assert.match(
          notes,
          /^6 guests planned = 6 completed \+ 0 stopped \+ 0 failed \+ 0 lost; [1-6] of them were run again/m,
        );
        assert.match(notes, /^worker w1 was lost: .*; nothing it measured counts$/m);
      });
    });
  }

  it('that is stopped longer than its lock holds is fenced when it wakes up, and nothing it says counts', async () => {
    await Fleet.with({ seconds: 6 }, async (fleet) => {
      await fleet.loaded();
      const zombie = fleet.workers[0] as NonNullable<(typeof fleet.workers)[0]>;
      zombie.process.kill('SIGSTOP');
      await fleet.event('rerun');
      zombie.process.kill('SIGCONT');
      const { code, stderr } = await zombie.ended;
      assert.equal(code, EXIT.inconclusive, stderr);
      assert.match(stderr, /the coordinator declared it lost/);
      assert.ok(!fleet.read('events.jsonl').includes('"kind":"end"'), 'the run still goes on');
      const results = await fleet.ended({ workers: [EXIT.ok, EXIT.inconclusive] });
      assertWhole(results);
      assert.match(results.accounting.notes.join('\n'), /^\d+ messages refused from workers declared lost$/m);
    });
  });

  it('that is asked to end hands its guests over at once', async () => {
    await Fleet.with({}, async (fleet) => {
      await fleet.loaded();
      fleet.workers[0]?.process.kill('SIGTERM');
      const results = await fleet.ended({ workers: [EXIT.ok, EXIT.stopped] });
      assertWhole(results);
      assert.match(results.accounting.notes.join('\n'), /^worker w1 was lost: it was asked to end; /m);
    });
  });

  it('without guests may leave, and what it measured counts', async () => {
    await Fleet.with({ guests: 2 }, async (fleet) => {
      await fleet.loaded();
      const busy = await fleet.claims();
      const idle = fleet.workers.findIndex((_, i) => !busy.includes(`1:w${i + 1}`));
      fleet.workers[idle]?.process.kill('SIGTERM');
      await fleet.event('worker_left');
      const results = await fleet.ended({ workers: [EXIT.ok, EXIT.stopped] });
      assertWhole(results);
      assert.equal(results.coverage.workersLost, 0);
      assert.equal(results.coverage.guestsRerun, 0);
    });
  });

  it('that comes late takes the guests of one that was lost when the others are full', async () => {
    await Fleet.with({ workers: 2, seconds: 300, worker: ['--capacity', '3'] }, async (fleet) => {
      await fleet.loaded();
      fleet.workers[0]?.process.kill('SIGKILL');
      await fleet.event('worker_lost');
      assert.ok(!fleet.read('events.jsonl').includes('"kind":"rerun"'));
      fleet.join();
      await until('the late worker has them', async () =>
        (await fleet.claims()).every((claim) => claim === '1:w2' || claim === '2:w3'),
      );
      fleet.coordinator.process.kill('SIGINT');
      const results = await fleet.ended();
      assertAccounts(results);
      assert.equal(results.stoppedByUser, true);
      assert.equal(results.coverage.guestsRerun, 3);
    });
  });

  it('whose guests are not to run again makes the run inconclusive, with its coverage', async () => {
    await Fleet.with({ coordinator: ['--on-worker-loss', 'partial'] }, async (fleet) => {
      await fleet.loaded();
      fleet.workers[0]?.process.kill('SIGKILL');
      const results = await fleet.ended();
      assertAccounts(results);
      assert.equal(results.verdict.exitCode, EXIT.inconclusive);
      assert.ok(results.coverage.guestsLost > 0);
      const notes = results.accounting.notes.join('\n');
      assert.match(notes, /^6 guests planned = \d completed \+ \d stopped \+ 0 failed \+ [1-6] lost$/m);
      assert.match(notes, /^\d guests were not run again: as --on-worker-loss asks$/m);
    });
  });

  it('of which a pool thread dies gives up, and its guests run again elsewhere', async () => {
    const workerEnv = { NODE_OPTIONS: `--import=${KILL_THREAD}` };
    await Fleet.with({ workerEnv }, async (fleet) => {
      await fleet.loaded();
      fleet.workers[0]?.process.kill('SIGUSR2');
      const results = await fleet.ended({ workers: [EXIT.ok, EXIT.inconclusive] });
      assertWhole(results);
      assert.equal(results.coverage.workersLost, 1);
      assert.match((await fleet.workers[0]?.ended)?.stderr ?? '', /the worker failed: /);
    });
  });
});
