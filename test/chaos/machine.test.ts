// needs: faketime ip redis-server
/** What the machine can do to a run: a full disk, a clock that is wrong or jumps, a network that is cut. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import { until } from '../coordinator/until.ts';
import { assertAccounts, assertWhole, Fleet } from './fleet.ts';
import { Network, noNetworks } from './network.ts';

const run = (command: string, ...args: string[]): boolean => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

/** The library behind the command faketime; each architecture has a directory of its own. */
function fakeTime(): string {
  for (const directory of ['/usr/lib', ...readdirSync('/usr/lib').map((name) => `/usr/lib/${name}`)]) {
    const library = join(directory, 'faketime', 'libfaketimeMT.so.1');
    if (existsSync(library)) return library;
  }
  throw new Error('libfaketimeMT.so.1 is not installed: apt-get install faketime');
}

describe('the machine', { concurrency: 1 }, () => {
  it('whose disk is full ends the run, inconclusive, and what was written can be read', async (context) => {
    const seconds = 300;
    await Fleet.with({ workers: 1, seconds, coordinator: ['--out', 'small'] }, async (fleet) => {
      const small = join(fleet.directory, 'small');
      mkdirSync(small);
      // The coordinator makes its directory only when the workers are there.
      if (!run('mount', '-t', 'tmpfs', '-o', 'size=96k', 'none', small)) {
        fleet.coordinator.process.kill('SIGINT');
        context.skip('no file system of our own here: mount is for root');
        return;
      }
      try {
        const { code, stderr } = await fleet.coordinator.ended;
        assert.equal(code, EXIT.inconclusive, stderr);
        assert.match(stderr, /cannot write .*small.*: no space is left/);
        await fleet.gone();
        await fleet.nothingLeft();
        const report = await fleet.pinstorm('report', join(small, 'latest'));
        assert.match(report.stdout, /the run did not end: these are its results so far/);
      } finally {
        run('umount', '-l', small);
      }
    });
  });

  it('of a worker may have a wrong clock, and one that jumps: no figure depends on it', async () => {
    await Fleet.with({ workers: 1, seconds: 4 }, async (fleet) => {
      // Faked clocks, as other processes see them: an hour ahead, then a day back when the file says so.
      const file = join(fleet.directory, 'clock');
      writeFileSync(file, '+3600\n');
      const env = {
        LD_PRELOAD: fakeTime(),
        FAKETIME_TIMESTAMP_FILE: file,
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        FAKETIME_CACHE_DURATION: '1',
      };
      fleet.coordinator.process.kill('SIGKILL');
      for (const worker of fleet.workers.splice(0)) worker.process.kill('SIGKILL');
      await fleet.redis.admin.flushall();
      fleet.coordinator = fleet.coordinate(['--min-workers', '2']);
      fleet.join();
      fleet.join([], env);
      await fleet.loaded();
      writeFileSync(file, '-86400\n');
      utimesSync(file, new Date(), new Date());
      const results = await fleet.ended();
      assertWhole(results);
      const clocks = results.health.clocks;
      assert.ok(clocks !== undefined && Math.abs(clocks.skewMs - 3_600_000) < 60_000, JSON.stringify(clocks));
      assert.ok(Math.abs(clocks.jumpMs - 90_000_000) < 60_000, JSON.stringify(clocks));
      assert.match(
        results.accounting.notes.join('\n'),
        /^a worker's clock jumped by \d+ ms; no figure depends on it$/m,
      );
      // Guests of both workers started together, though one machine's time of day was an hour ahead.
      assert.ok(results.durationNs < 60e9);
    });
  });

  for (const [how, forGood] of [
    ['for five seconds loses nobody', false],
    ['for good loses its worker, whose guests run again elsewhere', true],
  ] as const) {
    it(`whose network is cut ${how}`, async (context) => {
      const why = noNetworks();
      if (why !== null) {
        context.skip(`no network namespaces here: ${why}`);
        return;
      }
      const network = new Network();
      context.after(() => network.remove());
      const redisArgs = ['--port', '6379', '--bind', network.hostAddress, '--protected-mode', 'no'];
      // The far worker is the third.
      const coordinator = ['--min-workers', '3', '--lease', forGood ? '10s' : '20s'];
      await Fleet.with({ workers: 2, seconds: forGood ? 5 : 8, redisArgs, coordinator }, async (fleet) => {
        const far = fleet.join([], { PINSTORM_REDIS: `redis://${network.hostAddress}` }, network.wrap);
        await fleet.loaded();
        await until('the far worker has guests', async () => (await fleet.claims()).includes('1:w3'));
        network.cut();
        if (forGood) {
          await fleet.event('rerun');
        } else {
          const healAt = performance.now() + 5000;
          await until('five seconds have passed', () => performance.now() >= healAt);
          network.heal();
        }
        const results = await fleet.results();
        assertAccounts(results);
        assertWhole(results);
        assert.equal(results.coverage.workersLost, forGood ? 1 : 0);
        // Cut off from everybody it gives up by itself.
        const { code, stderr } = await far.ended;
        assert.equal(code, forGood ? EXIT.inconclusive : EXIT.ok, stderr);
        await fleet.nothingLeft();
      });
    });
  }
});
