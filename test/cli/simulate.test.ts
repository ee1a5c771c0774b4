// slow: simulates every scenario several times
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { loadRun } from '../../src/report/load.ts';
import { Interval, RunEvent, RunRecord } from '../../src/report/run-dir.ts';
import { RunResults } from '../../src/report/results.ts';
import { pinstorm, type Ended } from './in-process.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinstorm-simulate-'));
after(() => rmSync(dir, { recursive: true }));
let runs = 0;

/** The files of a run directory that depend on the scenario, its options and the seed alone. */
const SAME = ['results.json', 'intervals.jsonl', 'latency.hlog', 'events.jsonl', 'guests.jsonl', 'plan.json'];

/** Runs `pinstorm simulate`; what it printed, its exit status, and its run directory. */
async function simulate(...args: string[]): Promise<Ended & { directory: string }> {
  const directory = join(dir, String((runs += 1)));
  const ended = await pinstorm(['simulate', ...args, '--out', directory]);
  return { ...ended, directory: join(directory, 'latest') };
}

describe('pinstorm simulate', () => {
  for (const file of readdirSync('scenarios').filter((name) => name.endsWith('.yaml'))) {
    it(`runs scenarios/${file}, and leaves the same results.json twice`, async () => {
      // Too short for the stages that some thresholds are of.
      const args = [`scenarios/${file}`, '--duration', '1s', '--set', 'host.count=2', '--set', 'thresholds={}'];
      const first = await simulate(...args);
      assert.equal(first.status, 0, first.err);
      const second = await simulate(...args, '--threads', '1', '--quiet');
      for (const name of SAME) {
        const bytes = readFileSync(join(first.directory, name), 'utf8');
        assert.equal(readFileSync(join(second.directory, name), 'utf8'), bytes, name);
      }
      const results = loadRun(first.directory);
      assert.equal(results.run.driver, 'virtual');
      assert.equal(results.accounting.balance, 'exact');
      const never = /^(\d+) of \d+ guests were due after the run's duration/.exec(
        results.accounting.notes[0] ?? '',
      )?.[1];
      assert.equal(results.coverage.guestsFinished + Number(never ?? 0), results.coverage.guestsPlanned);
    });
  }

  it('leaves the same from a process of its own', async () => {
    const args = ['scenarios/boot-storm.yaml', '--duration', '1s'];
    const here = await simulate(...args);
    const out = join(dir, 'process');
    const all = ['dist/src/cli/main.js', 'simulate', ...args, '--out', out];
    // As command lines of tests have it: no locale.
    const env = { PATH: process.env['PATH'] };
    const { status, stdout, stderr } = spawnSync(process.execPath, all, { encoding: 'utf8', env });
    assert.deepEqual([status, here.status], [0, 0], stderr);
    assert.equal(stdout.replaceAll(out, 'OUT'), here.out.replaceAll(dirname(here.directory), 'OUT'));
    for (const name of SAME) {
      const bytes = readFileSync(join(out, 'latest', name), 'utf8');
      assert.equal(readFileSync(join(here.directory, name), 'utf8'), bytes, name);
    }
  });

  it('leaves the run directory of a live run, its intervals in simulated time adding up to the results', async () => {
    const args = ['scenarios/boot-storm.yaml', '--variant', 'D', '--set', 'host.count=3', '--duration', '4s'];
    const { status, err, directory } = await simulate(...args, '--interval', '250ms');
    assert.equal(status, 0, err);
    const record = RunRecord.parse(JSON.parse(readFileSync(join(directory, 'run.json'), 'utf8')));
    assert.equal(record.clock, 'virtual');
    const results = loadRun(directory);
    const intervals = readFileSync(join(directory, 'intervals.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => Interval.parse(JSON.parse(line)));
    intervals.forEach(({ startSeconds, endSeconds, guests, gauges }, i) => {
      const last = i === intervals.length - 1;
      assert.equal(startSeconds, i === 0 ? 0 : intervals[i - 1]?.endSeconds);
      assert.equal(endSeconds, last ? results.durationNs / 1e9 : (i + 1) * 0.25);
      assert.equal(
        Object.values(guests).reduce((sum, n) => sum + n, 0),
        50,
      );
      assert.equal(gauges['locked_vm_drift_pages'], 0, `interval ${i}: the account is honest at every moment`);
    });
    for (const [name, n] of Object.entries(results.counters)) {
      const sum = intervals.reduce((total, { counters }) => total + (counters[name] ?? 0), 0);
      assert.equal(sum, n, name);
    }
    assert.ok(results.accounting.deferred.queued > 0);
    const [first, ...rest] = readFileSync(join(directory, 'events.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => RunEvent.parse(JSON.parse(line)));
    assert.equal(first?.kind, 'start');
    assert.equal(rest.at(-1)?.kind, 'end');
    // Rebuilt from the intervals alone, the figures are those of the results but for what cells round.
    rmSync(join(directory, 'results.json'));
    const rebuilt = loadRun(directory);
    assert.deepEqual(rebuilt.counters, results.counters);
    for (const { op, outcome, actual } of results.latency) {
      const again = rebuilt.latency.find((l) => l.op === op && l.outcome === outcome)?.actual;
      assert.equal(again?.count, actual?.count, op);
      const ratio = (again?.p99Ns ?? 0) / (actual?.p99Ns ?? 1);
      assert.ok(ratio >= 1 && ratio < 1.01, `${op}: ${ratio}`);
    }
  });

  it('has room for what iommufd notes of large guests, and the account is exact to the page', async () => {
    for (const variant of ['I', 'I-mm']) {
      const { status, directory, err } = await simulate('scenarios/boot-storm.yaml', '--variant', variant);
      assert.equal(status, 0, err);
      const { accounting } = loadRun(directory);
      assert.deepEqual([accounting.balance, accounting.driftPages], ['exact', 0], variant);
    }
  });

  it('prints one JSON document with --json', async () => {
    const { status, out } = await simulate('scenarios/huge-guest.yaml', '--json', '--seed', '9');
    assert.equal(status, 0);
    assert.equal(RunResults.parse(JSON.parse(out)).run.seed, 9);
  });

  it('shows the over-penalty of variant D where it is expected, and fails with 112 where it is not', async () => {
    const expected = await simulate('scenarios/accounting-stress.yaml', '--variant', 'D');
    assert.equal(expected.status, 0, expected.out);
    assert.match(expected.out, /over-penalty \.+ .*violated \d+ times \(expected\)/);
    const unexpected = await simulate('scenarios/accounting-stress.yaml', '--variant', 'D', '--set', 'expect=[]');
    assert.equal(unexpected.status, 112, unexpected.out);
  });

  it('exits 99 when a threshold is crossed', async () => {
    const thresholds = "thresholds={'op_duration{op:map}': 'max < 1us'}";
    const { status, out } = await simulate('scenarios/boot-storm.yaml', '--duration', '1s', '--set', thresholds);
    assert.equal(status, 99, out);
  });

  it('judges windows and stages, and says when', async () => {
    const keys = [
      "thresholds={'op_duration{op:map}': ['p(99) < 1us over 700ms', 'max < 10s during late or empty'], 'ops{op:map}': 'count == 0 during late'}",
      'stages=[{ name: early, duration: 3300ms }, { name: late }]',
    ];
    const args = ['scenarios/boot-storm.yaml', '--duration', '6s', ...keys.flatMap((key) => ['--set', key])];
    const { status, out, directory } = await simulate(...args);
    assert.equal(status, 99, out);
    assert.match(out, /p\(99\) < 1us over 700ms {3}observed \S+ at \S+ to \S+/);
    const { thresholds } = loadRun(directory);
    const own = thresholds.filter(({ metric }) => !metric.startsWith('op_errors'));
    assert.deepEqual(
      own.map(({ ok }) => ok),
      [false, true, true],
    );
    assert.ok(thresholds.length > own.length, 'each operation has a threshold of errors');
    const { startSeconds = 0, endSeconds = 0 } = thresholds[0]?.window ?? {};
    assert.ok(Math.abs(startSeconds / 0.7 - Math.round(startSeconds / 0.7)) < 1e-9, `${startSeconds}`);
    assert.equal((endSeconds - startSeconds).toFixed(6), '0.700000');
    const events = readFileSync(join(directory, 'events.jsonl'), 'utf8');
    assert.match(events, /"atSeconds":3\.3,"kind":"stage","stage":"late"/);
    // Rebuilt from the intervals, the same windows are judged (by percentiles: the log rounds maxima).
    rmSync(join(directory, 'results.json'));
    const rebuilt = loadRun(directory).thresholds;
    assert.deepEqual(
      rebuilt.map(({ ok, window }) => ({ ok, window })),
      thresholds.map(({ ok, window }) => ({ ok, window })),
    );
  });

  it('stops when a threshold says so, on every host at the same moment, and comes to rest', async () => {
    const key =
      "thresholds={'ops{op:mlock}': [{ threshold: 'count < 200', abortOnFail: true, delayAbortEval: 1500ms }]}";
    const args = ['scenarios/boot-storm.yaml', '--set', key, '--set', 'host.count=3', '--interval', '100ms'];
    const { status, out, directory } = await simulate(...args);
    assert.equal(status, 99, out);
    const { thresholds, accounting, durationNs, coverage, stoppedByUser } = loadRun(directory);
    const { ok, stoppedAtSeconds = 0, observed } = thresholds[0] ?? {};
    assert.deepEqual([ok, stoppedByUser, accounting.balance], [false, false, 'exact']);
    assert.ok(stoppedAtSeconds >= 1.5 && (observed ?? 0) >= 200, `${observed} at ${stoppedAtSeconds}`);
    // Guests end at their next operation, and have one every 50 ms on average.
    assert.ok(durationNs / 1e9 - stoppedAtSeconds < 0.6, `ended at ${durationNs}`);
    const { guestsFinished, guestsStopped = 0, guestsFailed } = coverage;
    assert.ok(guestsStopped > 0 && guestsFailed === 0, JSON.stringify(coverage));
    assert.equal(guestsFinished + guestsStopped, 50);
    assert.match(out, /stopped the run at/);
    const again = await simulate(...args, '--threads', '1');
    for (const name of ['results.json', 'intervals.jsonl']) {
      assert.equal(readFileSync(join(again.directory, name), 'utf8'), readFileSync(join(directory, name), 'utf8'));
    }
  });

  it('refuses a faulty option with 104', async () => {
    const { status, err } = await simulate('scenarios/boot-storm.yaml', '--set', 'host.cpus=none');
    assert.equal(status, 104);
    assert.match(err, /host\.cpus/);
    const short = await simulate('scenarios/boot-storm.yaml', '--interval', '3ns');
    assert.equal(short.status, 104);
    assert.match(short.err, /--interval: expected a duration of at least 1us, got "3ns"/);
  });
});
