import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { loadRun } from '../../src/report/load.ts';
import { RunResults } from '../../src/report/results.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinstorm-simulate-'));
after(() => rmSync(dir, { recursive: true }));
let runs = 0;

/** Runs `pinstorm simulate`; what it printed, its exit status, and its run directory. */
function simulate(...args: string[]): { status: number | null; out: string; err: string; directory: string } {
  const directory = join(dir, String((runs += 1)));
  const all = ['dist/src/cli/main.js', 'simulate', ...args, '--out', directory];
  const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8' });
  return { status, out: stdout, err: stderr, directory: join(directory, 'latest') };
}

describe('pinstorm simulate', () => {
  for (const file of readdirSync('scenarios').filter((name) => name.endsWith('.yaml'))) {
    it(`runs scenarios/${file}, and leaves the same results.json twice`, () => {
      const first = simulate(`scenarios/${file}`, '--duration', '1s', '--set', 'host.count=2');
      assert.equal(first.status, 0, first.err);
      const second = simulate(
        `scenarios/${file}`,
        '--duration',
        '1s',
        '--set',
        'host.count=2',
        '--threads',
        '1',
        '--quiet',
      );
      const bytes = readFileSync(join(first.directory, 'results.json'), 'utf8');
      assert.equal(readFileSync(join(second.directory, 'results.json'), 'utf8'), bytes);
      const results = loadRun(first.directory);
      assert.equal(results.run.driver, 'virtual');
      assert.equal(results.accounting.balance, 'exact');
      assert.equal(results.coverage.guestsFinished, results.coverage.guestsPlanned);
    });
  }

  it('prints one JSON document with --json', () => {
    const { status, out } = simulate('scenarios/huge-guest.yaml', '--json', '--seed', '9');
    assert.equal(status, 0);
    assert.equal(RunResults.parse(JSON.parse(out)).run.seed, 9);
  });

  it('shows the over-penalty of variant D where it is expected, and fails with 112 where it is not', () => {
    const expected = simulate('scenarios/accounting-stress.yaml', '--variant', 'D');
    assert.equal(expected.status, 0, expected.out);
    assert.match(expected.out, /over-penalty \.+ .*violated \d+ times \(expected\)/);
    const unexpected = simulate('scenarios/accounting-stress.yaml', '--variant', 'D', '--set', 'expect=[]');
    assert.equal(unexpected.status, 112, unexpected.out);
  });

  it('exits 99 when a threshold is crossed', () => {
    const thresholds = "thresholds={'op_duration{op:map}': 'max < 1us'}";
    const { status, out } = simulate('scenarios/boot-storm.yaml', '--duration', '1s', '--set', thresholds);
    assert.equal(status, 99, out);
  });

  it('refuses a faulty option with 104', () => {
    const { status, err } = simulate('scenarios/boot-storm.yaml', '--set', 'host.cpus=none');
    assert.equal(status, 104);
    assert.match(err, /host\.cpus/);
  });
});
