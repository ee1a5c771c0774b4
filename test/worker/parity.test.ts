// slow: compares a simulation with a live run
/** One scenario live and simulated: the same operations, the same end state, the same invariants. docs/parity.md. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { loadRun } from '../../src/report/load.ts';
import type { RunResults } from '../../src/report/results.ts';
import { GuestRow } from '../../src/report/run-dir.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinstorm-parity-'));
after(() => rmSync(dir, { recursive: true }));

interface Run {
  readonly results: RunResults;
  readonly guests: readonly GuestRow[];
}

function run(command: 'run' | 'simulate', variant: string): Run {
  const out = join(dir, `${command}-${variant}`);
  const args = [
    'dist/src/cli/main.js',
    command,
    'scenarios/parity.yaml',
    '--variant',
    variant,
    '--out',
    out,
    '--quiet',
  ];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  // On a busy machine the live run is late and says so (114): its times are its own then, but not what it did.
  assert.ok(
    status === 0 || (command === 'run' && status === 114),
    `${command} --variant ${variant}: ${status} ${stderr}`,
  );
  const guests = readFileSync(join(out, 'latest', 'guests.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => GuestRow.parse(JSON.parse(line)));
  return { results: loadRun(join(out, 'latest')), guests };
}

/** How often each operation ended how, as `map ok 340`. */
const operations = ({ results }: Run): string[] =>
  results.latency.map(({ op, outcome, actual }) => `${op} ${outcome} ${actual?.count}`);

/** How each guest ended. */
const endStates = ({ guests }: Run): string[] =>
  guests
    .toSorted((a, b) => a.guest - b.guest)
    .map(
      (g) =>
        `${g.guest} ${g.class} ${g.state} ${g.operations} ${g.failedOperations} ${g.lockedVmAfterPages} ${g.error}`,
    );

for (const variant of ['E', 'H']) {
  it(`variant ${variant}: a live run and a simulation do the same and come to the same end`, () => {
    const live = run('run', variant);
    const simulated = run('simulate', variant);
    assert.deepEqual(operations(live), operations(simulated));
    assert.deepEqual(endStates(live), endStates(simulated));
    assert.ok(simulated.guests.length === 4 && simulated.guests.every((g) => BigInt(g.lockedVmAfterPages) > 0n));
    for (const name of ['pages_pinned', 'pages_unpinned', 'limit_refusals', 'deferred_queued'] as const) {
      assert.equal(live.results.counters[name], simulated.results.counters[name], name);
    }
    for (const { results } of [live, simulated]) {
      assert.deepEqual(results.accounting.violations, []);
      assert.deepEqual([results.accounting.balance, results.accounting.driftPages], ['exact', 0]);
    }
    // What differs is time. Where guests meet at a lock, lateness adds to it or keeps them apart; what meets nobody
    // takes the sum of the modelled costs in both.
    const [there, here] = [live, simulated].map(
      ({ results }) => results.latency.find(({ op }) => op === 'exit')?.actual,
    );
    assert.equal(there?.p50Ns, here?.p50Ns);
  });
}
