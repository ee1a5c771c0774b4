/** The fold over the events of a live run: events in, figures and further events out. No process, no clock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { statsLayout } from '../../src/engine/stats-layout.ts';
import { LATENESS, Op, Outcome } from '../../src/metrics/ops.ts';
import { Snapshot } from '../../src/metrics/snapshot.ts';
import { StatsBlock } from '../../src/metrics/stats.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import type { RunEvent, RunInterval } from '../../src/run/run-event.ts';
import { RunWatch } from '../../src/run/run-watch.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { validateScenario } from '../../src/scenario/validate.ts';
import { CONTENTION } from './live-run.ts';

const MORE = `
duration: 10s
thresholds: { 'ops{op:map}': { threshold: 'count < 5 during late', abortOnFail: true } }
stages: [{ name: early, duration: 2s }, { name: late }]
`;
const planOf = (pace: number) =>
  planRun(validateScenario('s.yaml', CONTENTION(10).replace('pace: 1', `pace: ${pace}`) + MORE, REGISTRY), REGISTRY);
const plan = planOf(1);
const layout = statsLayout(plan);

/** A second in which `maps` maps ended, and actors resumed so late. */
function second(end: number, maps: number, more: Partial<RunInterval> = {}, lateNs = 1000): RunInterval {
  const block = new StatsBlock(layout, new SharedArrayBuffer(layout.bytes));
  for (let i = 0; i < maps; i++) block.recordOp(Op.map, Outcome.ok, 2000, 2000);
  block.record(LATENESS, lateNs, 1);
  return {
    t: 'interval',
    startSeconds: end - 1,
    endSeconds: end,
    delta: Snapshot.take(layout, [block]),
    gauges: { deferred_backlog: 0, locked_vm_drift_pages: 0 },
    guests: { pending: 0, running: 6, finished: 0, stopped: 0, failed: 0, lost: 0 },
    violations: {},
    othersShare: null,
    ...more,
  };
}

/** All events that follow from these, as `kind at: fields`. */
const followers = (watch: RunWatch, events: readonly RunEvent[]): string[] =>
  events.flatMap((event) =>
    watch.take(event).map(({ kind, atSeconds, fields }) => `${kind} at ${atSeconds}: ${JSON.stringify(fields)}`),
  );

test('violations, stages and a threshold follow from intervals, each once and in this order', () => {
  const violations = { wrap: 3, balance: 1 };
  assert.deepEqual(
    followers(new RunWatch(plan), [
      second(1, 9),
      second(2, 9, { violations: { wrap: 2 } }),
      second(3, 9, { violations }),
      second(4, 9, { violations }),
    ]),
    [
      'stage at 0: {"stage":"early"}',
      'violation at 2: {"invariant":"wrap","count":2,"expected":true,"history":null}',
      'stage at 2: {"stage":"late"}',
      'violation at 3: {"invariant":"balance","count":1,"expected":false,"history":null}',
      'threshold at 3: {"metric":"ops{op:map}","expression":"count < 5 during late"}',
    ],
  );
});

test('the figures are the sum of the intervals, and progress is that of the last one', () => {
  const watch = new RunWatch(plan);
  const gauges = { deferred_backlog: 7, locked_vm_drift_pages: 0 };
  followers(watch, [second(1, 4, { gauges }), second(2, 10)]);
  assert.equal(watch.total.count(LATENESS), 2);
  assert.equal(watch.backlogMax, 7);
  assert.equal(watch.endSeconds, 2);
  const { op, opsPerSecond, share, etaNs, states } = watch.progress ?? {};
  assert.deepEqual([op, opsPerSecond, share, etaNs], ['map', 10, 0.2, 8e9]);
  assert.deepEqual([states?.running, states?.dead], [6, 0]);
});

test('a run that goes on knows what was written: its sums, the stages begun, the threshold that was crossed', () => {
  const whole = new RunWatch(plan);
  const before = [second(1, 9), second(2, 9), second(3, 9)];
  followers(whole, before);
  const watch = new RunWatch(plan);
  for (const { endSeconds, delta, gauges } of before) watch.replay(endSeconds, delta, gauges);
  const written = { path: '', intervals: 3, endSeconds: 3, snapshot: whole.total, record: {} as never };
  const begun = { t: 'begun', record: {} as never, scenario: '', plan, written, startEpochSeconds: 0 } as const;
  assert.deepEqual(followers(watch, [begun]), []);
  assert.equal(watch.total.count(LATENESS), 3);
  assert.deepEqual(followers(watch, [second(4, 1)]), [
    'threshold at 4: {"metric":"ops{op:map}","expression":"count < 5 during late"}',
  ]);
});

test('actors that resume too late saturate the run, at a slow pace later; other processes are named', () => {
  const of = (pace: number, lateNs: number, othersShare: number | null = null) => {
    const watch = new RunWatch(planOf(pace));
    watch.take(second(1, 1, { othersShare }, lateNs));
    assert.equal(watch.progress?.saturated, watch.saturation);
    return watch.saturation;
  };
  assert.equal(of(1, 9e6), null);
  assert.match(of(1, 12e6)?.reason ?? '', /^actors resumed 12\.\d ms late \(p99; 10 ms are tolerated\)$/);
  assert.match(of(1, 12e6)?.advice ?? '', /^use --pace 0\.04, or use fewer guests or more machines$/);
  assert.equal(of(0.01, 45e6), null);
  assert.equal(of(0, 1e9), null);
  assert.doesNotMatch(of(1, 12e6, 0.19)?.reason ?? '', /other processes/);
  assert.match(of(1, 12e6, 0.5)?.reason ?? '', /; other processes used 50 % of the processors$/);
  assert.match(of(1, 12e6, 0.5)?.advice ?? '', /^end what else runs here, or /);
});

test('marks are counted by guest; those of a worker whose guests run again do not count', () => {
  const watch = new RunWatch(plan);
  const mark = (worker: string, guest: number): RunEvent => ({
    t: 'event',
    atSeconds: 1,
    kind: 'mark',
    fields: { worker, guest, label: 'map failed', value: 'ENOSPC' },
  });
  followers(watch, [mark('w1', 0), mark('w2', 1), mark('w2', 1)]);
  assert.deepEqual(watch.markNotes, ['map failed: ENOSPC (2 guests, 3 times)']);
  watch.take({ t: 'event', atSeconds: 2, kind: 'rerun', fields: { worker: 'w2', guests: 1 } });
  assert.deepEqual(watch.markNotes, ['map failed: ENOSPC']);
});
