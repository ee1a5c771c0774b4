import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Op, Outcome } from '../../src/metrics/ops.ts';
import { Snapshot } from '../../src/metrics/snapshot.ts';
import { parseThreshold } from '../../src/metrics/threshold.ts';
import { stateOf } from '../../src/report/thresholds.ts';
import { ThresholdJudge, type JudgeOptions } from '../../src/report/threshold-judge.ts';
import type { ThresholdResult } from '../../src/report/results.ts';
import { layout, MODEL_COUNTERS, newBlock } from './sample.ts';

const GAUGES = { locked_vm_drift_pages: 0, deferred_backlog: 0 };
const STAGES = [
  { name: 'boot', startNs: 0, endNs: 2e9 },
  { name: 'steady', startNs: 2e9, endNs: null },
];

/** Maps of these latencies, ns, none of them refused but the zeros. */
function interval(...latenciesNs: number[]): Snapshot {
  const block = newBlock();
  for (const ns of latenciesNs) block.recordOp(Op.map, ns === 0 ? Outcome.enomem : Outcome.ok, ns, ns);
  return Snapshot.take(layout, [block]);
}

/**
 * Judges a run of one-second intervals. @returns the threshold's result, and the index of the interval that stopped it.
 */
function judge(
  expression: string,
  intervals: readonly Snapshot[],
  options: JudgeOptions & { metric?: string; lengthNs?: number; gauges?: readonly number[] } = {},
): { result: ThresholdResult; stopped: number } {
  const { metric = 'op_duration{op:map}', lengthNs = 1e9, gauges = [] } = options;
  const thresholds = [parseThreshold(metric, expression, MODEL_COUNTERS, ['boot', 'steady'])];
  const one = new ThresholdJudge(thresholds, { stages: STAGES, ...options });
  const sum = new Snapshot(layout);
  let stopped = -1;
  intervals.forEach((delta, i) => {
    sum.add(delta);
    const now = { ...GAUGES, deferred_backlog: gauges[i] ?? 0 };
    if (one.interval((i + 1) * lengthNs, delta, now) !== null && stopped < 0) stopped = i;
  });
  const [result] = one.results({ snapshot: sum, durationNs: intervals.length * lengthNs, gauges: GAUGES });
  assert.ok(result !== undefined);
  return { result, stopped };
}

const LOW = interval(1000, 1000, 1000);
const HIGH = interval(5_000_000);

test('the worst window counts, not the sum, and it says which', () => {
  const run = [LOW, LOW, HIGH, LOW, LOW, LOW];
  const whole = judge('avg < 1ms', run).result;
  assert.equal(whole.ok, true);
  assert.equal(whole.window, undefined);
  const { result } = judge('avg < 1ms over 2s', run);
  assert.deepEqual(
    [result.ok, result.observed, result.window],
    [false, (3000 + 5_000_000) / 4, { startSeconds: 2, endSeconds: 4 }],
  );
  const lower = judge('count > 5 over 2s', run, { metric: 'ops{op:map}' }).result;
  assert.deepEqual([lower.ok, lower.observed, lower.window?.startSeconds], [false, 4, 2]);
  assert.equal(judge('rate > 1.9 over 2s', run, { metric: 'ops{op:map}' }).result.observed, 2);
});

test('only whole windows are judged; of a run shorter than one, what there is', () => {
  const metric = 'ops{op:map}';
  const tail = judge('count > 5 over 2s', [LOW, LOW, LOW], { metric }).result;
  assert.deepEqual([tail.ok, tail.observed], [true, 6]);
  const short = judge('count > 5 over 10s', [LOW, LOW, LOW], { metric }).result;
  assert.deepEqual([short.ok, short.observed, short.window], [true, 9, { startSeconds: 0, endSeconds: 3 }]);
});

test('a window in which nothing was measured says nothing', () => {
  const { result } = judge('max < 1ms over 1s', [LOW, interval(), LOW]);
  assert.deepEqual([result.ok, (result.observed ?? 0) < 1010], [true, true]);
  const none = judge('max < 1ms over 1s', [interval(), interval()]).result;
  assert.deepEqual([stateOf(none), none.observed], ['not judged', null]);
  const allowed = judge('max < 1ms over 1s or empty', [interval(), interval()]).result;
  assert.deepEqual([stateOf(allowed), allowed.observed], ['held', null]);
});

test('a stage sees what happens in it', () => {
  const run = [HIGH, HIGH, LOW, LOW, LOW];
  assert.equal(judge('max < 1ms during boot', run).result.ok, false);
  assert.equal(judge('max < 1ms during steady', run).result.ok, true);
  assert.equal(judge('max < 1ms over 2s during steady', run).result.ok, true);
  const ops = judge('count == 9 during steady', run, { metric: 'ops{op:map}' }).result;
  assert.deepEqual([ops.ok, ops.observed], [true, 9]);
  // It never came.
  const never = judge('count < 9 during steady', [HIGH], { metric: 'ops{op:map}' }).result;
  assert.deepEqual([stateOf(never), never.observed], ['not judged', null]);
});

test('a gauge over windows is that of the end of each', () => {
  const run = [LOW, LOW, LOW, LOW];
  const { result } = judge('value < 5 over 2s', run, { metric: 'deferred_backlog', gauges: [99, 1, 0, 7] });
  assert.deepEqual([result.ok, result.observed, result.window?.startSeconds], [false, 7, 2]);
});

test('abortOnFail stops the run at once, not before its delay, and what stopped it stays the result', () => {
  const run = [LOW, HIGH, LOW, LOW, LOW, LOW, LOW, LOW];
  const aborts = [{ abortOnFail: true, delayAbortEvalNs: 0 }];
  const now = judge('avg < 1ms', run, { aborts });
  assert.deepEqual([now.stopped, now.result.ok, now.result.stoppedAtSeconds], [1, false, 2]);
  assert.equal(now.result.observed, (3000 + 5_000_000) / 4, 'as it was then, though the average of the run is fine');
  // As in k6 the judgement is put off, not the figures: by then the average is fine.
  const delayed = judge('avg < 1ms', run, { aborts: [{ abortOnFail: true, delayAbortEvalNs: 5e9 }] });
  assert.deepEqual([delayed.stopped, delayed.result.ok], [-1, true]);
  const still = judge('max < 1ms', run, { aborts: [{ abortOnFail: true, delayAbortEvalNs: 5e9 }] });
  assert.deepEqual([still.stopped, still.result.stoppedAtSeconds], [4, 5]);
  assert.equal(judge('max < 1ms', run).stopped, -1, 'not asked to');
  // Windows and stages stop it too: a window when it is full, a stage as it goes.
  assert.equal(judge('max < 1ms over 4s', run, { aborts }).stopped, 3);
  assert.equal(judge('max < 1ms during boot', run, { aborts }).stopped, 1);
  assert.equal(judge('max < 1ms during steady', run, { aborts }).stopped, -1);
});

test('at another pace windows, stages and delays are as much longer or shorter', () => {
  // Pace 0.1: ten seconds of the clock are one of the scenario.
  const run = Array.from({ length: 40 }, (_, i) => (i < 20 ? HIGH : LOW));
  assert.equal(judge('max < 1ms during steady', run, { scale: 10 }).result.ok, true);
  const { window } = judge('max < 1ms over 1s', run, { scale: 10 }).result;
  assert.deepEqual(window, { startSeconds: 0, endSeconds: 10 });
  const aborts = [{ abortOnFail: true, delayAbortEvalNs: 1e9 }];
  assert.equal(judge('max < 1ms', run, { scale: 10, aborts }).stopped, 9);
});

test('intervals of a live run are never exact: a window has as many as fit best', () => {
  const run = Array.from({ length: 9 }, () => LOW);
  for (const lengthNs of [0.998e9, 1.003e9]) {
    const { result } = judge('count == 9 over 3s', run, { metric: 'ops{op:map}', lengthNs });
    assert.deepEqual([result.ok, result.observed], [true, 9], `intervals of ${lengthNs} ns`);
  }
});
