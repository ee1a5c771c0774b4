// needs: bash
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { HistogramLogReader, listTags } from 'hdr-histogram-js';
import { UserError } from '../../src/base/errors.ts';
import { toHistogram } from '../../src/metrics/histogram.ts';
import { actualSeries, Op, Outcome } from '../../src/metrics/ops.ts';
import { Snapshot } from '../../src/metrics/snapshot.ts';
import { buildResults } from '../../src/report/build.ts';
import { PLAIN } from '../../src/report/format.ts';
import { findBegun, loadRun } from '../../src/report/load.ts';
import { machineFacts, RunDirectory } from '../../src/report/run-dir.ts';
import { renderSummary } from '../../src/report/summary.ts';
import { failing, layout, load, newBlock, RECORD } from './sample.ts';

const root = mkdtempSync(join(tmpdir(), 'pinstorm-run-dir-'));
after(() => rmSync(root, { recursive: true }));

/** A run of three intervals; the statistics of the whole beside it. */
function record(under: string): { directory: RunDirectory; whole: Snapshot } {
  const directory = new RunDirectory(under, RECORD, 'name: accounting-stress\n', { hash: 'ab12' });
  const block = newBlock();
  let last = new Snapshot(layout);
  directory.event(0, 'start');
  for (let second = 1; second <= 3; second++) {
    load(block, 200 * second);
    const now = Snapshot.take(layout, [block]);
    directory.interval(
      second,
      now.since(last),
      { deferred_backlog: 4 - second },
      { running: 50 - second, finished: second },
    );
    last = now;
  }
  directory.event(2.5, 'violation', { invariant: 'balance', count: 1, expected: false, history: 'step 1\nstep 2' });
  return { directory, whole: last };
}

const userError =
  (message: RegExp, exitCode = 104) =>
  (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, message);
    assert.equal(error.exitCode, exitCode);
    assert.ok(error.hint);
    return true;
  };

test('a run directory holds every file, and latest points at it', () => {
  const under = join(root, 'all');
  const { directory, whole } = record(under);
  const results = buildResults({ ...failing(), snapshot: whole });
  directory.finish(results, renderSummary(results, PLAIN));
  assert.equal(directory.path, join(under, '20260102T030405Z-accounting-stress'));
  assert.equal(readlinkSync(join(under, 'latest')), '20260102T030405Z-accounting-stress');
  assert.deepEqual(readdirSync(directory.path).toSorted(), [
    'events.jsonl',
    'guests.jsonl',
    'intervals.jsonl',
    'latency.hlog',
    'plan.json',
    'results.json',
    'run.json',
    'scenario.yaml',
    'summary.txt',
    'verdict.json',
  ]);
  assert.deepEqual(loadRun(directory.path), results);
  assert.deepEqual(loadRun(join(under, 'latest')), results);
  assert.equal(
    renderSummary(loadRun(directory.path), PLAIN),
    readFileSync(join(directory.path, 'summary.txt'), 'utf8'),
  );
  const again = new RunDirectory(under, RECORD, '', {});
  assert.equal(again.path, `${directory.path}-2`);
  assert.equal(readlinkSync(join(under, 'latest')), '20260102T030405Z-accounting-stress-2');
});

test('a run that goes on knows exactly what was measured before, sums too', () => {
  const under = join(root, 'begun');
  const { whole } = record(under);
  const told: Snapshot[] = [];
  const begun = findBegun(under, RECORD.run.id, (_, delta) => told.push(delta));
  assert.ok(begun !== null);
  assert.equal(told.length, 3);
  assert.deepEqual(begun.snapshot.counters, whole.counters);
  assert.deepEqual(new Set(begun.snapshot.data.keys()), new Set(whole.data.keys()));
  for (const [id, { cells, sumNs, maxNs }] of whole.data) {
    const { buckets: _, ...known } = begun.snapshot.data.get(id) ?? { buckets: null };
    assert.deepEqual(known, { cells, sumNs, maxNs });
  }
  const nothing = whole.since(begun.snapshot);
  assert.equal(
    [...nothing.data.values()].reduce((sum, { sumNs }) => sum + sumNs, 0),
    0,
  );
});

test("the histogram log is read back by the library's reader", () => {
  const { directory, whole } = record(join(root, 'hlog'));
  const text = readFileSync(join(directory.path, 'latency.hlog'), 'utf8');
  assert.match(
    text,
    /^#\[pinstorm 0\.1\.0, latencies in ns\]\n#\[Histogram log format version 1\.3\]\n#\[StartTime: 1767323045\.678 /,
  );
  assert.ok(!text.includes('\n\n'));
  assert.ok(listTags(text).includes('actual.map.ok') && listTags(text).includes('lock_wait.mmap_write'));
  const reader = new HistogramLogReader(text, 64);
  const total = toHistogram(layout.scale, new Float64Array(0));
  const starts = new Set<number>();
  for (let h = reader.nextIntervalHistogram(); h !== null; h = reader.nextIntervalHistogram()) {
    if (h.tag !== 'actual.map.ok') continue;
    starts.add(Math.round(h.startTimeStampMsec - 1_767_323_045_678));
    assert.equal(Math.round(h.endTimeStampMsec - h.startTimeStampMsec), 1000);
    total.add(h as typeof total);
  }
  assert.deepEqual([...starts], [0, 1000, 2000]);
  const expected = whole.histogram(actualSeries(Op.map, Outcome.ok))!;
  assert.equal(total.totalCount, 1200);
  for (const p of [50, 99, 99.9, 100]) assert.equal(total.getValueAtPercentile(p), expected.getValueAtPercentile(p));
});

test('a run that never ended is rebuilt; a line cut off anywhere is left out', () => {
  const { directory, whole } = record(join(root, 'cut'));
  const full = loadRun(directory.path);
  const reference = buildResults({ ...failing(), snapshot: whole });
  assert.equal(full.complete, false);
  assert.equal(full.durationNs, 3e9);
  assert.deepEqual(full.counters, reference.counters);
  assert.equal(full.deferredBacklogMax, 3);
  assert.equal(full.coverage.guestsFinished, 3);
  assert.deepEqual(
    full.accounting.violations.map((v) => [v.invariant, v.history]),
    [['balance', 'step 1\nstep 2']],
  );
  assert.equal(full.verdict.exitCode, 112);
  const p = (r: typeof full) =>
    r.latency.map((l) => [l.op, l.outcome, l.actual?.count, l.actual?.p99Ns, l.intended?.p50Ns]);
  assert.deepEqual(
    p(full).map((row) => row.slice(0, 3)),
    p(reference).map((row) => row.slice(0, 3)),
  );
  full.latency.forEach((l, i) => {
    const ref = reference.latency[i]!;
    if (l.actual === null || ref.actual === null) return;
    assert.ok(Math.abs(l.actual.p50Ns - ref.actual.p50Ns) <= ref.actual.p50Ns / 100);
    assert.ok(Math.abs(l.actual.meanNs - ref.actual.meanNs) <= ref.actual.meanNs / 100);
  });
  for (const name of ['latency.hlog', 'intervals.jsonl', 'events.jsonl']) {
    const path = join(directory.path, name);
    const original = readFileSync(path);
    for (let cut = 1; cut < Math.min(original.length, 700); cut += 13) {
      truncateSync(path, original.length - cut);
      const results = loadRun(directory.path);
      assert.ok((results.latency[0]?.actual?.count ?? 0) <= full.latency[0]!.actual!.count);
      assert.ok(renderSummary(results, PLAIN).includes('The run did not end'));
      writeFileSync(path, original);
    }
  }
  appendFileSync(join(directory.path, 'events.jsonl'), '{"atSeconds":3,"kind":"stop"}\n{"atSec');
  assert.equal(loadRun(directory.path).stoppedByUser, true);
});

test('violations counted until a crash are in the report, expected or not', () => {
  const expecting = { ...RECORD, expect: ['wrap'] };
  const directory = new RunDirectory(join(root, 'violated'), expecting, '', {});
  const none = new Snapshot(layout);
  const first = { invariant: 'balance', count: 1, expected: false, history: null };
  directory.event(0.5, 'violation', first);
  directory.interval(1, none, { 'violations.balance': 1 }, {});
  directory.interval(2, none, { 'violations.balance': 7, 'violations.wrap': 3 }, {});
  const { accounting, verdict } = loadRun(directory.path);
  assert.deepEqual(accounting.violations, [
    { ...first, count: 7 },
    { invariant: 'wrap', count: 3, expected: true, history: null },
  ]);
  assert.equal(verdict.exitCode, 112);
  assert.deepEqual(verdict.reasons[0], 'invariant balance violated 7 times');
});

test('what is not a run directory is refused with a clear message', () => {
  const path = join(root, 'bad');
  mkdirSync(path);
  writeFileSync(join(root, 'file'), '');
  assert.throws(() => loadRun(join(root, 'nope')), userError(/nope does not exist/));
  assert.throws(() => loadRun(join(root, 'file')), userError(/file is not a directory/));
  assert.throws(() => loadRun(path), userError(/is not a run directory: it has no run\.json/));
  const cases: [string, RegExp][] = [
    ['{"schemaVersion":1', /run\.json is not JSON/],
    ['null', /run\.json has format undefined, this pinstorm reads 1/],
    ['{"schemaVersion":99}', /has format 99, this pinstorm reads 1/],
    ['{"schemaVersion":1}', /run\.json: run: /],
  ];
  for (const [text, message] of cases) {
    writeFileSync(join(path, 'run.json'), text);
    assert.throws(() => loadRun(path), userError(message));
  }
  writeFileSync(join(path, 'results.json'), '{"schemaVersion":2}');
  assert.throws(() => loadRun(path), userError(/results\.json has format 2/));
});

test('a place that cannot be written is a clear error, and latest is never somebody else’s file', () => {
  writeFileSync(join(root, 'in-the-way'), '');
  assert.throws(
    () => new RunDirectory(join(root, 'in-the-way'), RECORD, '', {}),
    userError(/cannot write .*in-the-way: /),
  );
  const under = join(root, 'own-latest');
  mkdirSync(join(under, 'latest'), { recursive: true });
  writeFileSync(join(under, 'latest', 'mine'), '');
  const directory = new RunDirectory(under, RECORD, '', {});
  assert.deepEqual(readdirSync(join(under, 'latest')), ['mine']);
  assert.match(directory.note ?? '', /own-latest\/latest is no symbolic link, so it stays as it is/);
  assert.equal(new RunDirectory(join(root, 'no-latest'), RECORD, '', {}).note, null);
  directory.finish(buildResults(failing()), '');
  assert.throws(() => directory.event(1, 'late'), userError(/cannot write .*: it is closed/, 113));
});

test('a disk that fills up during the run is reported and what was written stays readable', () => {
  const under = join(root, 'full');
  const lib = (path: string) => new URL(path, import.meta.url).href;
  const source = `
    const { RunDirectory } = await import(${JSON.stringify(lib('../../src/report/run-dir.js'))});
    const { RECORD } = await import(${JSON.stringify(lib('./sample.js'))});
    const directory = new RunDirectory(${JSON.stringify(under)}, RECORD, '', {});
    try {
      for (let i = 0; i < 100000; i++) directory.event(i, 'stage');
    } catch (error) {
      console.log(error.exitCode + ' ' + error.message + ' | ' + error.hint);
    }`;
  const node = `"$NODE" --input-type=module -e "$SOURCE"`;
  const child = spawnSync('bash', ['-c', `ulimit -f 8; ${node}`], {
    encoding: 'utf8',
    env: { ...process.env, NODE: process.execPath, SOURCE: source },
  });
  assert.match(
    child.stdout,
    /^113 cannot write .*full.*: the file size limit is reached \| raise the limit/,
    child.stderr,
  );
  assert.equal(loadRun(join(under, 'latest')).complete, false);
});

test('the machine is described', () => {
  const facts = machineFacts();
  assert.ok(facts.cores >= 1 && facts.memoryBytes > 2 ** 20 && facts.system.length > 3);
});
