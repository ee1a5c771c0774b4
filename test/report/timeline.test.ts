import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stream, type Prng } from '../../src/base/prng.ts';
import { HdrScale } from '../../src/metrics/hdr.ts';
import { toHistogram } from '../../src/metrics/histogram.ts';
import { actualSeries, Op, Outcome } from '../../src/metrics/ops.ts';
import { rowOf, rowStartNs } from '../../src/report/chart-data.ts';
import { spectrumOf, Timeline } from '../../src/report/timeline.ts';

const scale = new HdrScale(2);
const MAP = actualSeries(Op.map, Outcome.ok);
const SEED = 7;

/** Cells of `n` latencies spread over the decades. */
function cells(random: Prng, n: number): Float64Array {
  const out = new Float64Array(scale.cells);
  for (let i = 0; i < n; i += 1) out[scale.indexOf(Math.floor(10 ** (1 + random.float() * 7)))]! += 1;
  return out;
}

for (const intervals of [1, 2, 480, 481, 961, 3600]) {
  test(`${intervals} intervals: histograms are added, nothing is lost, quantiles are those of all samples (seed ${SEED})`, () => {
    const timeline = new Timeline(scale);
    const random = stream(SEED, `timeline-${intervals}`);
    const each = Array.from({ length: intervals }, (_, i) => cells(random, i % 17));
    each.forEach((own, i) => {
      const gauges = { deferred_backlog: i };
      const interval = { startSeconds: i, endSeconds: i + 1, counters: { ops: 2 }, gauges, guests: { running: i } };
      timeline.add(interval, [[MAP, own]]);
    });
    const slots = timeline.slots();
    assert.ok(slots.length <= 480 && slots.length > Math.min(intervals, 480) / 2 - 1);
    assert.equal(slots[0]?.start, 0);
    assert.equal(slots.at(-1)?.end, intervals);
    slots.forEach((slot, i) => {
      if (i > 0) assert.equal(slot.start, slots[i - 1]?.end);
      const own = each.slice(slot.start, slot.end);
      assert.ok(own.length <= timeline.merged);
      assert.equal(slot.counters['ops'], 2 * own.length);
      assert.equal(slot.gauges['deferred_backlog'], slot.end - 1, 'a gauge keeps its largest value');
      assert.equal(slot.guests['running'], slot.end - 1, 'guests are those at the end');
      const sum = new Float64Array(scale.cells);
      for (const one of own) one.forEach((n, cell) => (sum[cell]! += n));
      const histogram = toHistogram(scale, sum);
      const series = slot.series['actual.map.ok'];
      if (histogram.totalCount === 0) {
        assert.equal(series, undefined);
        return;
      }
      assert.ok(series);
      const [count, p50, p99, p999, max, first, ...rows] = series;
      assert.equal(count, histogram.totalCount);
      assert.deepEqual(
        [p50, p99, p999, max],
        [50, 99, 99.9, 100].map((p) => histogram.getValueAtPercentile(p)),
      );
      assert.equal(
        rows.reduce((a, b) => a + b, 0),
        count,
      );
      assert.ok(rowStartNs(first) <= max && rows.at(-1)! > 0 && rows[0]! > 0);
      assert.equal(rowOf(scale.lowest(scale.indexOf(max))), first + rows.length - 1);
    });
  });
}

test(`the spectrum's points lie on the histogram's own curve and end at its maximum (seed ${SEED})`, () => {
  const own = cells(stream(SEED, 'spectrum'), 20_000);
  const histogram = toHistogram(scale, own);
  const spectrum = spectrumOf(scale, own)!;
  assert.equal(spectrum.count, 20_000);
  assert.ok(spectrum.points.length > 50 && spectrum.points.length < 300, `${spectrum.points.length} points`);
  assert.deepEqual(spectrum.points[0], [0, histogram.getValueAtPercentile(0)]);
  for (const [share, ns] of spectrum.points.slice(1, -1)) {
    // The curve has a step at each point: just below it is the cell itself.
    assert.equal(histogram.getValueAtPercentile(share * 100 - 1e-7), ns, `at ${share}`);
  }
  assert.deepEqual(spectrum.points.at(-1), [1, histogram.getValueAtPercentile(100)]);
  assert.equal(spectrumOf(scale, new Float64Array(scale.cells)), null);
});
