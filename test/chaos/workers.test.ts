// needs: redis-server
/** Workers that are killed, stopped, asked to leave, or come late: real processes and a real Redis. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EXIT } from '../../src/base/errors.ts';
import type { RunResults } from '../../src/report/results.ts';
import { until } from '../coordinator/until.ts';
import { assertAccounts, assertWhole, Fleet } from './fleet.ts';

/** For losses that are told: a busy machine must not silence the others for as long. */
const PATIENT = ['--lease', '60s'];
/** SIGUSR2 ends one of the worker's pool threads. */
const KILLABLE = { NODE_OPTIONS: `--import=${fileURLToPath(new URL('./kill-thread.js', import.meta.url))}` };

function assertRerun(results: RunResults, guests: RegExp): void {
  assertWhole(results);
  assert.equal(results.coverage.workersLost, 1);
  assert.ok((results.coverage.guestsRerun ?? 0) > 0);
  const notes = results.accounting.notes.join('\n');
  assert.match(notes, guests);
  assert.match(notes, /^worker w1 was lost: .*; nothing it measured counts$/m);
}

describe('a worker', { concurrency: 1 }, () => {
  it('that is killed while guests boot has its guests run again elsewhere', async () => {
    await Fleet.with({}, async (fleet) => {
      await fleet.booting();
      fleet.workers[0]?.process.kill('SIGKILL');
      assertRerun(
        await fleet.ended(),
        /^6 guests planned = 6 completed \+ 0 stopped \+ 0 failed \+ 0 lost; [1-6] of them/m,
      );
    });
  });

  it('that is killed in steady state, with updates queued, has its guests run again elsewhere', async () => {
    await Fleet.with({ seconds: 300 }, async (fleet) => {
      await fleet.loaded();
      fleet.workers[0]?.process.kill('SIGKILL');
      await fleet.event('rerun');
      assertRerun(
        await fleet.stopped(),
        /^6 guests planned = 0 completed \+ 6 stopped \+ 0 failed \+ 0 lost; [1-6] of them/m,
      );
    });
  });

  it('that is stopped longer than its lock holds is fenced when it wakes up, and nothing it says counts', async () => {
    await Fleet.with({ seconds: 300 }, async (fleet) => {
      await fleet.loaded();
      const zombie = fleet.workers[0] as NonNullable<(typeof fleet.workers)[0]>;
      zombie.process.kill('SIGSTOP');
      await fleet.event('rerun');
      zombie.process.kill('SIGCONT');
      const { code, stderr } = await zombie.ended;
      assert.equal(code, EXIT.inconclusive, stderr);
      assert.match(stderr, /the coordinator declared it lost/);
      const results = await fleet.stopped({ workers: [EXIT.ok, EXIT.inconclusive] });
      assertWhole(results);
      assert.match(results.accounting.notes.join('\n'), /^\d+ messages refused from workers declared lost$/m);
    });
  });

  it('that is asked to end hands its guests over at once', async () => {
    await Fleet.with({ seconds: 300, coordinator: PATIENT }, async (fleet) => {
      await fleet.loaded();
      fleet.workers[0]?.process.kill('SIGTERM');
      await fleet.event('rerun');
      const results = await fleet.stopped({ workers: [EXIT.ok, EXIT.stopped] });
      assertWhole(results);
      assert.match(results.accounting.notes.join('\n'), /^worker w1 was lost: it was asked to end; /m);
    });
  });

  it('without guests may leave, or lose a pool thread, and what it measured counts', async () => {
    await Fleet.with(
      { guests: 2, seconds: 300, workers: 4, workerEnv: KILLABLE, coordinator: PATIENT },
      async (fleet) => {
        await fleet.event('start');
        await until('both guests run', async () => (await fleet.claims()).length === 2);
        const busy = await fleet.claims();
        const [left, hurt] = fleet.workers.filter((_, i) => !busy.includes(`1:w${i + 1}`));
        left?.process.kill('SIGTERM');
        hurt?.process.kill('SIGUSR2');
        assert.equal((await left?.ended)?.code, EXIT.stopped);
        const { code, stderr } = (await hurt?.ended) ?? {};
        assert.equal(code, EXIT.inconclusive, stderr);
        assert.match(
          stderr ?? '',
          /the worker left the run: a pool thread without guests ended: .*\n.*what it measured counts/,
        );
        const results = await fleet.stopped({ workers: [EXIT.ok, EXIT.stopped, EXIT.inconclusive] });
        assertWhole(results);
        assert.equal(results.coverage.workersLost, 0);
        assert.equal(results.coverage.guestsRerun, 0);
      },
    );
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
      const results = await fleet.stopped();
      assertWhole(results);
      assert.equal(results.coverage.guestsRerun, 3);
    });
  });

  it('whose guests are not to run again makes the run inconclusive, with its coverage', async () => {
    await Fleet.with({ seconds: 300, coordinator: ['--on-worker-loss', 'partial'] }, async (fleet) => {
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
    await Fleet.with({ seconds: 300, workerEnv: KILLABLE, coordinator: PATIENT }, async (fleet) => {
      await fleet.booting();
      fleet.workers[0]?.process.kill('SIGUSR2');
      await fleet.event('rerun');
      const results = await fleet.stopped({ workers: [EXIT.ok, EXIT.inconclusive] });
      assertWhole(results);
      assert.equal(results.coverage.workersLost, 1);
      assert.match((await fleet.workers[0]?.ended)?.stderr ?? '', /error: a thread ended unasked\n/);
    });
  });
});
