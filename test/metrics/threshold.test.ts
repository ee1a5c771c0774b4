import assert from 'node:assert/strict';
import { test } from 'node:test';
import { actualSeries, lockWaitSeries, Op, Outcome } from '../../src/metrics/ops.ts';
import {
  conditionOf,
  exactEdgesNs,
  expectedOutcomes,
  parseThreshold,
  ThresholdError,
} from '../../src/metrics/threshold.ts';

const parse = (metric: string, expression: string) =>
  parseThreshold(metric, expression, ['trylock_failures'], ['boot', 'steady']);

test('what a threshold cannot be measured without, and which errors it expects', () => {
  const rows: [string, string, ReturnType<typeof conditionOf>][] = [
    ['trylock_failure_ratio', 'rate < 0.5', 'trylock'],
    ['deferred_settle', 'max < 1s', 'deferred update'],
    [' deferred_lock_wait ', 'max < 1s', 'deferred update'],
    ['lock_wait{mode:kworker}', 'max < 1s', 'deferred update'],
    ['lock_hold{mode:kworker}', 'max < 1s', 'deferred update'],
    ['lateness', 'p(99) < 10ms', 'wall clock'],
    ['lock_wait', 'max < 1s', null],
    ['schedule_lag', 'max < 1s', null],
    ['op_duration{op:map}', 'max < 1s', null],
    ['trylock_failures', 'count == 0', null],
    ['deferred_backlog', 'value == 0', null],
    ['op_errors', 'rate == 0', null],
  ];
  for (const [metric, expression, want] of rows) assert.equal(conditionOf(parse(metric, expression)), want, metric);
  const expected = (metric: string) => expectedOutcomes(parse(metric, 'rate == 0'));
  assert.deepEqual(expected('op_errors{expected:enomem, op:map}'), ['enomem']);
  assert.deepEqual(expected('op_errors{op:map,expected:eexist+enomem}'), ['enomem', 'eexist']);
  assert.deepEqual(expected('op_errors{op:map}'), []);
  assert.deepEqual(expectedOutcomes(parse('op_duration{op:map}', 'max < 1s')), []);
});

test('the grammar', () => {
  const p99 = parse('op_duration{op:map, outcome:ok}', ' p(99)<2ms ');
  assert.deepEqual(p99, {
    metric: 'op_duration{op:map,outcome:ok}',
    expression: 'p(99) < 2ms',
    windowNs: null,
    stage: null,
    mayBeEmpty: false,
    measured: { kind: 'trend', series: [actualSeries(Op.map, Outcome.ok)] },
    aggregate: 'percentile',
    percentile: 99,
    comparison: '<',
    limit: 2e6,
  });
  const rows: [string, string, Partial<ReturnType<typeof parse>>][] = [
    ['lock_wait{mode:mmap_write}', 'max <= 1.5s', { aggregate: 'max', comparison: '<=', limit: 1.5e9 }],
    ['op_duration', 'med > 10us', { aggregate: 'percentile', percentile: 50, limit: 1e4 }],
    ['schedule_lag', 'avg === 0', { aggregate: 'avg', comparison: '===', limit: 0 }],
    ['lateness', 'p(0) >= 5ns', { percentile: 0 }],
    ['lateness', 'p(100) != 5ns', { percentile: 100, comparison: '!=' }],
    ['trylock_failures', 'rate < 1e3', { aggregate: 'rate', limit: 1000 }],
    ['values_clamped', 'count == 0', { aggregate: 'count', comparison: '==' }],
    ['op_errors{op:map}', 'rate < 1%', { aggregate: 'rate', limit: 0.01 }],
    ['trylock_failure_ratio', 'rate < 0.5', { limit: 0.5 }],
    ['op_duration', 'max < 1s over 2s during boot or  empty', { windowNs: 2e9, stage: 'boot', mayBeEmpty: true }],
    ['op_duration', 'max < 1s or empty', { expression: 'max < 1s or empty' }],
    ['locked_vm_drift_pages', 'value == 0', { aggregate: 'value' }],
  ];
  for (const [metric, expression, want] of rows) {
    const got = parse(metric, expression);
    for (const [key, value] of Object.entries(want))
      assert.equal(got[key as 'limit'], value, `${metric} ${expression}`);
  }
  assert.deepEqual(parse('lock_wait{mode:mmap_write}', 'max < 1s').measured, {
    kind: 'trend',
    series: [lockWaitSeries(1)],
  });
  assert.deepEqual(exactEdgesNs([p99, parse('trylock_failures', 'count < 7')]), [2e6]);
});

test('windows and stages, in either order', () => {
  const rows: [string, string, number | null, string | null][] = [
    ['p(99) < 2ms over 30s', 'p(99) < 2ms over 30s', 30e9, null],
    ['max<2ms  during  boot', 'max < 2ms during boot', null, 'boot'],
    ['max < 2ms over 500ms during boot', 'max < 2ms over 500ms during boot', 5e8, 'boot'],
    ['max < 2ms during boot over 1m ', 'max < 2ms over 1m during boot', 60e9, 'boot'],
  ];
  for (const [written, expression, windowNs, stage] of rows) {
    const got = parseThreshold('op_duration', written, [], ['boot', 'steady']);
    assert.deepEqual([got.expression, got.windowNs, got.stage], [expression, windowNs, stage], written);
    assert.equal(parseThreshold('op_duration', got.expression, []).expression, expression, 'reads what it writes');
  }
  assert.equal(parse('trylock_failures', 'count < 7 over 1s').limit, 7);
});

test('without tags the harness own null operation and refused operations are left out of latency', () => {
  const { measured } = parse('op_duration', 'max < 1s');
  assert.ok(measured.kind === 'trend');
  assert.ok(measured.series.includes(actualSeries(Op.unmap, Outcome.ok)));
  assert.ok(!measured.series.includes(actualSeries(Op.null, Outcome.ok)));
  assert.ok(!measured.series.includes(actualSeries(Op.map, Outcome.enomem)));
});

test('each mistake is named with its place and its fix', () => {
  const rows: [string, string, 'metric' | 'expression', number, RegExp, RegExp][] = [
    ['op_duration', 'p(101) < 2ms', 'expression', 2, /'101' is not between 0 and 100/, /p\(99\.9\)/],
    ['op_duration', 'p(-1) < 2ms', 'expression', 2, /'-1' is not between/, /./],
    ['op_duration', 'p() < 2ms', 'expression', 2, /'' is not between/, /./],
    ['op_duration', 'p(x) < 2ms', 'expression', 2, /'x' is not between/, /./],
    ['op_duration', 'p99 < 2ms', 'expression', 0, /is not a threshold/, /p\(99\) < 2ms/],
    ['op_duration', 'rate < 2', 'expression', 0, /'rate' does not fit the metric op_duration/, /avg, min, max, med/],
    ['op_duration', 'med(3) < 2ms', 'expression', 0, /'med\(N\)' does not fit/, /./],
    ['op_duration', 'max < 2', 'expression', 6, /'2' has no unit/, /2ns, 2us, 2ms or 2s/],
    ['op_duration', 'max < 2h', 'expression', 6, /unknown unit 'h'/, /ns, us, ms/],
    ['op_duration', 'max < -2ms', 'expression', 6, /negative/, /./],
    ['op_duration', 'max ~ 2ms', 'expression', 0, /is not a threshold/, /./],
    ['op_duration', 'max < fast', 'expression', 6, /'fast' is not a number/, /./],
    ['trylock_failures', 'p(99) < 2', 'expression', 0, /does not fit/, /count, rate/],
    ['trylock_failures', 'count < 2ms', 'expression', 8, /unexpected 'ms'/, /count < 100/],
    ['op_durations', 'max < 1s', 'metric', 0, /unknown metric 'op_durations'/, /did you mean 'op_duration'/],
    ['op_duration{op:mapp}', 'max < 1s', 'metric', 15, /unknown op 'mapp'/, /map, unmap/],
    ['op_duration{mode:container}', 'max < 1s', 'metric', 12, /has no tag 'mode'/, /remove/],
    ['op_duration{op}', 'max < 1s', 'metric', 12, /'op' is not a tag/, /\{tag:value\}/],
    ['op_duration', 'max < 2ms over', 'expression', 10, /'over ': /, /over 30s/],
    ['op_duration', 'max < 2ms over soon', 'expression', 10, /'over soon': /, /over 30s/],
    ['op_duration', 'max < 2ms over 30', 'expression', 10, /'over 30': /, /over 30s/],
    ['op_duration', 'max < 2ms over 5us', 'expression', 10, /a window of 5us is too short/, /1ms/],
    ['op_duration', 'max < 2ms over 5s over 6s', 'expression', 10, /'over' is given twice/, /keep one/],
    ['op_duration', 'max < 2ms during', 'expression', 10, /needs the name of a stage/, /during boot/],
    ['op_duration', 'max < 2ms during  boto', 'expression', 10, /unknown stage 'boto'/, /use boot, steady/],
    ['op duration', 'max < 1s', 'metric', 0, /is not a metric/, /./],
  ];
  for (const [metric, expression, part, offset, message, hint] of rows) {
    assert.throws(
      () => parse(metric, expression),
      (error: unknown) => {
        assert.ok(error instanceof ThresholdError, String(error));
        assert.deepEqual([error.part, error.offset], [part, offset], `${metric} ${expression}`);
        assert.match(error.message, message);
        assert.match(error.hint, hint);
        return true;
      },
    );
  }
});
