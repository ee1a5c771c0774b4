import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Snapshot } from '../../src/metrics/snapshot.ts';
import { parseThreshold } from '../../src/metrics/threshold.ts';
import { buildResults } from '../../src/report/build.ts';
import { clip, duration, percent, PLAIN, quantity, styleFor, whole, wrap } from '../../src/report/format.ts';
import { RunResults } from '../../src/report/results.ts';
import { formatProgress, StatusLine, type Progress } from '../../src/report/status-line.ts';
import { renderSummary } from '../../src/report/summary.ts';
import { evaluate, stateOf } from '../../src/report/thresholds.ts';
import { decide, type VerdictInput } from '../../src/report/verdict.ts';
import { failing, layout, MODEL_COUNTERS, saturated } from './sample.ts';

const ESCAPES = new RegExp(String.fromCharCode(27) + String.raw`\[[0-9;]*m`, 'g');

/** Compares with a file kept beside the tests; UPDATE_GOLDEN=1 writes it. */
function golden(name: string, text: string): void {
  const path = join('test', 'report', 'golden', name);
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(path, text);
  assert.ok(existsSync(path), `${path} is missing`);
  assert.equal(text, readFileSync(path, 'utf8'));
}

test('numbers as people read them', () => {
  const durations: [number, string][] = [
    [0, '0ns'],
    [850, '850ns'],
    [999.4, '999ns'],
    [999.9, '1us'],
    [1234, '1.23us'],
    [99_960, '100us'],
    [999_900, '1ms'],
    [1.2e6, '1.2ms'],
    [45.6e9, '45.6s'],
    [3.6e12, '3600s'],
  ];
  for (const [ns, text] of durations) assert.equal(duration(ns), text, `${ns}`);
  assert.deepEqual([0, 9999, 12_345, 999_950, 1e6, 2.5, 0.25].map(quantity), [
    '0',
    '9999',
    '12.3k',
    '1M',
    '1M',
    '2.5',
    '0.25',
  ]);
  assert.deepEqual([999, 1000, 268_221_600].map(whole), ['999', '1 000', '268 221 600']);
  assert.equal(percent(0.12345), '12.3%');
  assert.deepEqual(wrap('a bb ccc dddddddd', 5), ['a bb', 'ccc', 'ddddd', 'ddd']);
  assert.equal(clip('red \u001b[31m\ntext', 10), 'red  [3...');
});

test('colours only on a terminal, NO_COLOR and dumb terminals honoured', () => {
  const utf8 = { LANG: 'en_US.UTF-8', TERM: 'xterm' };
  assert.deepEqual(styleFor({ isTTY: true }, utf8), { color: true, unicode: true });
  assert.deepEqual(styleFor({ isTTY: true }, { ...utf8, NO_COLOR: '1' }), { color: false, unicode: true });
  assert.deepEqual(styleFor({ isTTY: true }, { ...utf8, NO_COLOR: '' }), { color: true, unicode: true });
  assert.deepEqual(styleFor({ isTTY: true }, { ...utf8, TERM: 'dumb' }), { color: false, unicode: false });
  assert.deepEqual(styleFor({}, utf8), { color: false, unicode: true });
  assert.deepEqual(styleFor({ isTTY: true }, { LC_ALL: 'C', LANG: 'en_US.UTF-8' }), { color: true, unicode: false });
});

test('thresholds: percentiles, rates and the edges of the grammar', () => {
  const snapshot = failing().snapshot;
  const empty = new Snapshot(layout);
  const check = (metric: string, expression: string, of = snapshot, durationNs = 10e9) =>
    evaluate(parseThreshold(metric, expression, MODEL_COUNTERS), {
      snapshot: of,
      durationNs,
      gauges: { locked_vm_drift_pages: 3, deferred_backlog: 0 },
    });
  const near = (got: number | null, want: number) => {
    assert.ok(got !== null && got >= want && got <= want * 1.008, `${got} for ${want}`);
  };
  // 5000 latencies of 2000 + 37 i ns.
  near(check('op_duration{op:map}', 'p(50) < 1s').observed, 2000 + 37 * 2499);
  near(check('op_duration{op:map}', 'p(99.9) < 1s').observed, 2000 + 37 * 4994);
  assert.equal(check('op_duration{op:map}', 'p(100) < 1s').observed, 2000 + 37 * 4999);
  assert.equal(check('op_duration{op:map}', 'max < 1s').observed, 2000 + 37 * 4999);
  assert.equal(check('op_duration{op:map}', 'avg < 1s').observed, 2000 + (37 * 4999) / 2);
  near(2008, check('op_duration{op:map}', 'p(0) > 0').observed!);
  near(2008, check('op_duration{op:map}', 'min > 0').observed!);
  assert.deepEqual(check('op_duration{op:map}', 'max < 186963ns').ok, false);
  assert.deepEqual(check('op_duration{op:map}', 'max <= 186963ns').ok, true);
  assert.deepEqual(check('op_duration{op:map}', 'max === 186963ns').ok, true);
  assert.deepEqual(check('op_duration{op:map}', 'max != 186963ns').ok, false);
  assert.equal(check('trylock_failures', 'rate < 100').observed, 50);
  assert.equal(check('ops{op:map}', 'count > 5000').observed, 5002);
  assert.equal(check('op_errors{op:map}', 'rate < 1%').observed, 2 / 5002);
  assert.deepEqual(check('locked_vm_drift_pages', 'value == 0'), {
    metric: 'locked_vm_drift_pages',
    expression: 'value == 0',
    ok: false,
    observed: 3,
    unit: 'plain',
  });
  // Nothing measured, no time passed: never NaN. What was not measured does not pass for that.
  assert.equal(check('op_errors', 'rate == 0 or empty', empty).ok, true);
  assert.equal(check('op_errors{op:map,expected:enomem}', 'rate == 0').observed, 0);
  assert.deepEqual(
    [
      check('trylock_failures', 'rate < 1', snapshot, 0),
      check('op_errors', 'rate < 1%', empty),
      check('op_duration', 'p(99) < 1ns', empty),
    ].map((result) => [stateOf(result), result.observed]),
    [
      ['held', 0],
      ['not judged', null],
      ['not judged', null],
    ],
  );
});

test('the exit status: the most important reason decides, all are listed', () => {
  const good: VerdictInput = {
    complete: true,
    stoppedByUser: false,
    strict: false,
    coverage: { guestsPlanned: 10, guestsFinished: 10, guestsFailed: 0, guestsLost: 0, workersLost: 0, minShare: 0.9 },
    accounting: { violations: [], deferred: { queued: 5, applied: 4, lost: 0, discarded: 1 } },
    health: { saturated: false, saturation: null },
    thresholds: [{ metric: 'm', expression: 'max < 1ms', ok: true, observed: 1, unit: 'ns' }],
  };
  const violation = { invariant: 'balance', count: 1, expected: false, history: null };
  const deferred = good.accounting.deferred;
  const bad = {
    violated: { accounting: { violations: [violation], deferred } },
    lost: { coverage: { ...good.coverage, guestsLost: 2, workersLost: 1 } },
    saturated: { health: { saturated: true, saturation: { reason: 'late', advice: 'add workers' } } },
    crossed: { thresholds: [{ ...good.thresholds[0]!, ok: false, unit: 'share' as const }] },
    stopped: { stoppedByUser: true },
  };
  const of = (...parts: Partial<VerdictInput>[]) => decide(Object.assign({}, good, ...parts) as VerdictInput);
  assert.deepEqual(of(), { verdict: 'pass', exitCode: 0, reasons: [] });
  const ladder: [Partial<VerdictInput>, number, string][] = [
    [bad.violated, 112, 'fail'],
    [bad.lost, 113, 'inconclusive'],
    [bad.crossed, 99, 'fail'],
    [bad.stopped, 105, 'inconclusive'],
  ];
  ladder.forEach(([part, exitCode, verdict], i) => {
    assert.deepEqual([of(part).exitCode, of(part).verdict], [exitCode, verdict]);
    const withAllBelow = of(...ladder.slice(i).map(([p]) => p));
    assert.equal(withAllBelow.exitCode, exitCode);
    assert.equal(withAllBelow.reasons.length, ladder.length - i);
  });
  assert.equal(of({ accounting: { violations: [{ ...violation, expected: true }], deferred } }).exitCode, 0);
  assert.equal(of({ coverage: { ...good.coverage, guestsLost: 1 } }).exitCode, 0, '90 % are enough');
  assert.match(of(bad.lost).reasons[0]!, /2 of 10 guests were lost \(1 worker\): coverage 80 % < 90 %/);
  const queued = (n: number) => ({ accounting: { violations: [], deferred: { ...deferred, queued: n } } });
  assert.deepEqual(of(queued(7)).reasons, ['2 deferred updates were queued and never applied']);
  assert.equal(of(queued(7)).exitCode, 112);
  assert.equal(of(queued(4)).exitCode, 112, 'applied twice');
  assert.equal(
    of(queued(7), { complete: false }).exitCode,
    113,
    'what a cut-off run had not applied yet is not missing',
  );
  // Lateness spoils latencies, and nothing else.
  const latency = good.thresholds[0]!;
  const count = { ...latency, unit: 'plain' as const };
  const crossed = { thresholds: [{ ...latency, ok: false }] };
  assert.equal(of(bad.saturated).exitCode, 114, 'a latency was to be judged');
  assert.deepEqual(of(bad.saturated, crossed).reasons, ['the generator was saturated: late'], 'it proves nothing');
  assert.equal(of(bad.saturated, { thresholds: [count] }).exitCode, 0);
  assert.equal(of(bad.saturated, { thresholds: [] }).exitCode, 0);
  assert.equal(of(bad.saturated, { thresholds: [], strict: true }).exitCode, 114);
  assert.equal(of(bad.saturated, { thresholds: [{ ...count, ok: false }, latency] }).exitCode, 99);
  assert.equal(of(bad.saturated, bad.stopped).exitCode, 105);
  assert.match(of(bad.saturated, bad.stopped).reasons[0]!, /stopped by the user before its end, and saturated/);
  // What was never measured is no pass; a run that was stopped early says that it was stopped.
  const empty = { thresholds: [{ ...latency, ok: false, judged: false, observed: null }] };
  assert.deepEqual([of(empty).exitCode, of(empty).verdict], [113, 'inconclusive']);
  assert.match(of(empty).reasons[0]!, /^threshold not judged: m max < 1ms: nothing was measured$/);
  assert.equal(of(empty, bad.stopped).exitCode, 105);
  assert.equal(
    of({ thresholds: [...empty.thresholds, { ...count, ok: false }] }).exitCode,
    99,
    'a failure is a failure',
  );
  // A run that ended, one of whose workers never closed its account, did end.
  const perWorker = [{ name: 'w1', lost: 'nothing heard for 10 s' }] as unknown as NonNullable<
    VerdictInput['health']['perWorker']
  >;
  const unaccounted = of({ complete: false, health: { ...good.health, perWorker } });
  assert.deepEqual(unaccounted.reasons, ['worker w1 was lost before the final account']);
  const cut = of({
    complete: false,
    health: { ...good.health, perWorker },
    coverage: { ...good.coverage, guestsFinished: 3 },
  });
  assert.match(cut.reasons[0]!, /the run did not end/);
  const stoppedEarly = { ...good.coverage, guestsFinished: 3 };
  assert.equal(of(bad.stopped, { coverage: stoppedEarly }).exitCode, 105, 'unfinished is not lost');
});

test('results hold what was recorded, survive JSON, and say why', () => {
  const results = buildResults(failing());
  assert.deepEqual(RunResults.parse(JSON.parse(JSON.stringify(results))), results);
  const map = results.latency.find((l) => l.op === 'map' && l.outcome === 'ok')!;
  assert.equal(map.actual!.count, 5000);
  assert.equal(map.actual!.maxNs, 186_963);
  assert.ok(map.intended!.p50Ns > map.actual!.p50Ns);
  assert.equal(results.verdict.exitCode, 112);
  assert.match(results.accounting.explanation, /^2 times an operation was refused because the memory really pinned/);
  const calm = buildResults(saturated());
  assert.deepEqual([calm.verdict.exitCode, calm.thresholds], [0, []], 'no latency was to be judged');
  assert.equal(buildResults({ ...saturated(), run: { ...saturated().run, strict: true } }).verdict.exitCode, 114);
  assert.match(calm.accounting.explanation, /nothing was deferred; locked_vm equals/);
});

test('the summary: golden, at most 80 columns, colours change nothing else', () => {
  for (const [name, outcome] of [
    ['failing', failing()],
    ['saturated', saturated()],
    ['cut-off', { ...failing(), complete: false }],
  ] as const) {
    const results = buildResults(outcome);
    const plain = renderSummary(results, PLAIN);
    for (const line of plain.split('\n')) assert.ok(line.length <= 80, `${line.length}: ${line}`);
    golden(`${name}.txt`, plain);
    const colored = renderSummary(results, { color: true, unicode: true });
    assert.notEqual(colored, colored.replaceAll(ESCAPES, ''));
    assert.equal(colored.replaceAll(ESCAPES, ''), renderSummary(results, { color: false, unicode: true }));
    for (const line of colored.replaceAll(ESCAPES, '').split('\n')) assert.ok(line.length <= 80, line);
    assert.doesNotMatch(plain, /[^\n -~]/);
  }
});

test('an operation has two rows only where its two starts differ, and no label is cut', () => {
  const results = buildResults(failing());
  const [map] = results.latency;
  assert.ok(map?.intended);
  const { intended } = map;
  const labels = (changed: Partial<typeof map>): string[] => {
    const text = renderSummary({ ...results, latency: [{ ...map, ...changed }] }, PLAIN);
    return [...text.matchAll(/^ {4}( *[a-z][a-z_, -]*?) \.+ +\d+ +\d/gm)].map(([, label]) => label ?? '').slice(0, 2);
  };
  assert.equal(labels({ actual: { ...intended } })[0], 'map');
  assert.deepEqual(labels({}), ['map, intended start', 'map, actual start']);
  assert.deepEqual(labels({ outcome: 'enomem' }), ['map enomem', '  from its actual start']);
  assert.deepEqual(labels({ op: 'vaddr_update', outcome: 'other_error' }), [
    'vaddr_update other_error',
    '  from its actual start',
  ]);
});

test('long and hostile names stay within the columns and send nothing to the terminal', () => {
  const outcome = failing();
  const evil = `x\u001b]0;title\u0007${'y'.repeat(200)}`;
  const results = buildResults({
    ...outcome,
    run: { ...outcome.run, name: evil },
    accounting: {
      ...outcome.accounting,
      notes: [evil],
      explanation: evil,
      violations: [{ invariant: evil, count: 1, expected: false, history: `${evil}\n`.repeat(30) }],
    },
    health: { ...outcome.health, profile: { name: evil, calibrated: true } },
  });
  const text = renderSummary(results, PLAIN);
  // eslint-disable-next-line no-control-regex
  assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f]/);
  for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
  assert.match(text, /18 more lines in results.json/);
});

const progress: Progress = {
  states: { mapping: 120, unmapping: 30, waiting: 7, deferring: 3, dead: 1, idle: 0 },
  share: 0.129,
  op: 'map',
  opsPerSecond: 12_345,
  p99Ns: 1.2e6,
  deferredBacklog: 3,
  lagNs: 1e5,
  etaNs: 11.2e9,
};

test('the status line', () => {
  const text = '[M(120)U(30)W(7)D(3)X(1)] 12% map 12.3k/s p99 1.2ms defer 3 lag 100us eta 12s';
  assert.equal(formatProgress(progress), text);
  assert.equal(
    formatProgress({ ...progress, states: {}, share: null, p99Ns: null, lagNs: null, etaNs: null }),
    '[] map 12.3k/s defer 3',
  );
  const written = (options: { isTTY?: boolean; columns?: number; quiet?: boolean; term?: string }) => {
    let out = '';
    const stream = { raw: (t: string) => (out += t), isTTY: options.isTTY ?? false, columns: options.columns ?? 80 };
    const line = new StatusLine(stream, { quiet: options.quiet ?? false, term: options.term });
    for (const ms of [0, 1000, 4999, 5000, 6000]) line.update(progress, ms);
    line.message('worker 2 lost');
    line.clear();
    return out;
  };
  assert.equal(written({}), `${text}\n${text}\nworker 2 lost\n`);
  assert.equal(written({ isTTY: true, term: 'dumb' }), `${text}\n${text}\nworker 2 lost\n`);
  assert.equal(written({ isTTY: true, quiet: true }), 'worker 2 lost\n');
  const tty = `\r${text}\u001b[K`;
  const cleared = '\r\u001b[K';
  assert.equal(written({ isTTY: true }), `${tty.repeat(5)}${cleared}worker 2 lost\n${tty}${cleared}`);
  assert.ok(written({ isTTY: true, columns: 40 }).includes(`\r${text.slice(0, 39)}\u001b[K`));
});

test('the histogram of the summary counts every sample once, in ranges of 1, 2 and 5', () => {
  const { latency } = buildResults(failing());
  const map = latency.find(({ op, outcome }) => op === 'map' && outcome === 'ok');
  assert.ok(map?.ranges && map.intended);
  assert.equal(
    map.ranges.reduce((n, { count }) => n + count, 0),
    map.intended.count,
  );
  for (const { belowNs, count } of map.ranges) {
    assert.match(String(belowNs), /^[125]0*$/);
    assert.ok(count > 0);
  }
  // 5000 latencies of 2400 + 38 i ns from the intended start; a bound within a cell of 64 ns cannot split it.
  const exact = Math.ceil((10_000 - 2400) / 38) - Math.ceil((5000 - 2400) / 38);
  const counted = map.ranges.find(({ belowNs }) => belowNs === 10_000)?.count ?? 0;
  assert.ok(Math.abs(counted - exact) <= 2, `${counted}, exactly ${exact}`);
});
