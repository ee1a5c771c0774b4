// needs: redis-server
/**
 * The number of workers changes who runs a guest, not what it does; and what the workers measured is neither lost nor
 * added.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import type { RunResults } from '../../src/report/results.ts';
import type { GuestRow } from '../../src/report/run-dir.ts';
import { inDirectory, LiveRun } from './live-run.ts';

/** Bounded by its operations, not by time: what it does is the same on any machine. */
const BOUNDED = `
name: bounded
seed: 11
variant: D
pace: 0
guests:
  - class: small
    count: 9
    memory: { size: { uniform: [2MiB, 16MiB] } }
    cap_ipc_lock: true
    containers: 2
    actors:
      - { name: one, task: thread, workload: map-unmap, options: { pages: 32 pages, container: 0 }, iterations: 100 }
      - { name: two, task: thread, workload: map-unmap, options: { pages: 32 pages, container: 1 }, iterations: 100 }
  - class: large
    count: 5
    memory: { size: 32MiB }
    cap_ipc_lock: true
    actors: [{ name: mapper, workload: map-unmap, options: { pages: 64 pages, slots: 4 }, iterations: 200 }]
expect: [wrap]
`;

it('1, 2 and 5 workers do the same operations, and their figures add up', async () => {
  await inDirectory(BOUNDED, async (directory) => {
    let first: unknown;
    for (const workers of ['1', '2', '5']) {
      const args = ['run', 'scenario.yaml', '--workers', workers, '--threads', '2', '--json', '--out', workers];
      const { code, stdout, stderr } = await new LiveRun(directory, args).ended;
      assert.equal(code, EXIT.ok, stderr);
      const results = JSON.parse(stdout) as RunResults;
      const rows = readFileSync(join(directory, workers, 'latest', 'guests.jsonl'), 'utf8')
        .trimEnd()
        .split('\n');
      const guests = rows.map((row) => JSON.parse(row) as GuestRow);
      assert.equal(new Set(guests.map(({ worker }) => worker)).size, Number(workers), 'every worker had guests');
      const did = guests
        .toSorted((a, b) => a.guest - b.guest)
        .map(({ guest, class: kind, operations, failedOperations, lockedVmAfterPages }) => [
          guest,
          kind,
          operations,
          failedOperations,
          lockedVmAfterPages,
        ]);
      const { pages_pinned: pinned, pages_unpinned: unpinned } = results.counters;
      const counts = results.latency.map(({ op, outcome, actual }) => [op, outcome, actual?.count]);
      first ??= { did, counts, pinned, unpinned };
      assert.deepEqual({ did, counts, pinned, unpinned }, first, `${workers} workers against 1`);
      // Two ways from a worker to here: outcomes guest by guest, statistics summed over everything it ran.
      const byGuest = guests.reduce((sum, { operations }) => sum + operations, 0);
      const merged = results.latency.reduce((sum, { actual }) => sum + (actual?.count ?? 0), 0);
      assert.equal(merged, byGuest, 'the merged figures are the sum of the guests');
      assert.equal(results.accounting.deferred.applied, results.accounting.deferred.queued);
      assert.equal(results.accounting.balance, 'exact');
    }
  });
});

/** The quota holds two of four guests; which two depends on who comes first. The others have a quota each. */
const ONE_USER = `
name: one-user
variant: I
guests:
  - class: vm
    count: 4
    uid: 107
    duration: 1s
    memory: { size: 1GiB, backing: hugetlb1g }
    memlock: 2560MiB
    actors: [{ name: boot, workload: boot, iterations: 1 }, { name: idle, workload: 'null', arrival: { kind: constant, rate: 10/s } }]
  - class: lone
    count: 5
    duration: 1s
    memory: { size: 1GiB, backing: hugetlb1g }
    memlock: 1536MiB
    actors: [{ name: boot, workload: boot, iterations: 1 }, { name: idle, workload: 'null', arrival: { kind: constant, rate: 10/s } }]
`;

it('the guests of one uid share one quota on 1, 2 and 3 workers as in simulated time', async () => {
  await inDirectory(ONE_USER, async (directory) => {
    const verdictOf = async (...args: string[]): Promise<unknown> => {
      const { code, stdout, stderr } = await new LiveRun(directory, [...args, '--json', '--out', args.join('')]).ended;
      assert.equal(code, EXIT.threshold, stderr);
      const { verdict, latency } = JSON.parse(stdout) as RunResults;
      const maps = latency.filter(({ op }) => op === 'map');
      return [verdict.verdict, verdict.reasons, maps.map(({ outcome, actual }) => [outcome, actual?.count])];
    };
    const simulated = await verdictOf('simulate', 'scenario.yaml');
    for (const workers of ['1', '2', '3']) {
      const live = await verdictOf('run', 'scenario.yaml', '--workers', workers, '--threads', '2');
      assert.deepEqual(live, simulated, `${workers} workers`);
      const out = join(directory, `runscenario.yaml--workers${workers}--threads2`);
      const rows = readFileSync(join(out, 'latest', 'guests.jsonl'), 'utf8')
        .trimEnd()
        .split('\n');
      const guests = rows.map((row) => JSON.parse(row) as GuestRow);
      const on = (kind: string): number =>
        new Set(guests.filter((guest) => guest.class === kind).map(({ worker }) => worker)).size;
      assert.equal(on('vm'), 1, 'the guests of one uid run on one worker');
      assert.ok(on('vm') <= on('lone') && on('lone') <= Number(workers));
    }
  });
});
