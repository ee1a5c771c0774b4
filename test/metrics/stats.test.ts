import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { build, decodeFromCompressedBase64, type JsHistogram } from 'hdr-histogram-js';
import * as fc from 'fast-check';
import { HdrScale, MAX_TRACKABLE_NS } from '../../src/metrics/hdr.ts';
import {
  actualSeries,
  intendedSeries,
  LATENESS,
  lockWaitSeries,
  Op,
  Outcome,
  outcomeOf,
  SERIES,
  SERIES_BY_NAME,
  SERIES_COUNT,
} from '../../src/metrics/ops.ts';
import { encodeCells } from '../../src/metrics/histogram.ts';
import { decodeSnapshot } from '../../src/metrics/read-snapshot.ts';
import { encodeSnapshot, liveView, Snapshot, total } from '../../src/metrics/snapshot.ts';
import { StatsBlock, StatsLayout } from '../../src/metrics/stats.ts';

const layout = new StatsLayout(['trylock_attempts', 'trylock_failures'], { exactEdgesNs: [1_500_000] });
const newBlock = (l = layout) => new StatsBlock(l, new SharedArrayBuffer(l.bytes));
const STATS_URL = new URL('../../src/metrics/stats.js', import.meta.url).href;
const MAP = actualSeries(Op.map, Outcome.ok);

function library(digits: number): JsHistogram {
  return build({
    bitBucketSize: 64,
    lowestDiscernibleValue: 1,
    highestTrackableValue: MAX_TRACKABLE_NS,
    numberOfSignificantValueDigits: digits as 2,
    useWebAssembly: false,
  }) as JsHistogram;
}

/** Latencies spread evenly over the magnitudes, with the values around powers of two where layouts go wrong. */
const latencyNs = fc.oneof(
  fc.double({ min: 0, max: Math.log2(MAX_TRACKABLE_NS), noNaN: true }).map((e) => Math.floor(2 ** e)),
  fc.tuple(fc.integer({ min: 0, max: 41 }), fc.integer({ min: -1, max: 1 })).map(([e, d]) => 2 ** e + d),
);

test('a latency is rounded down to whole ns, in its cell, its sum and its maximum', () => {
  fc.assert(
    fc.property(latencyNs, fc.double({ min: 0, max: 0.99, noNaN: true }), (ns, part) => {
      // A double has no room for a part of a nanosecond beyond 2^46.
      fc.pre(ns < 2 ** 40);
      const block = newBlock();
      block.record(MAP, ns + part, 3);
      const cells = new Float64Array(layout.scale.cells);
      block.addCells(MAP, cells);
      assert.deepEqual([block.readSumNs(MAP), block.readMaxNs(MAP)], [3 * ns, ns]);
      assert.equal(cells[layout.scale.indexOf(ns)], 3);
    }),
    { seed: 2, numRuns: 200 },
  );
});

test('the cell index equals the library for every magnitude', () => {
  for (const digits of [2, 3] as const) {
    const scale = new HdrScale(digits);
    const reference = library(digits);
    assert.equal(scale.cells, reference.countsArrayLength);
    fc.assert(
      fc.property(latencyNs, (ns) => {
        const cell = scale.indexOf(ns);
        assert.equal(cell, reference.countsArrayIndex(ns), `${ns}`);
        assert.equal(scale.lowest(cell), reference.lowestEquivalentValue(ns));
        assert.equal(scale.highest(cell), reference.highestEquivalentValue(ns));
      }),
      { seed: 1, numRuns: 20_000 },
    );
  }
});

test('percentiles agree with a sorted array within the stated precision', () => {
  fc.assert(
    fc.property(fc.array(latencyNs, { minLength: 1, maxLength: 300 }), (values) => {
      const block = newBlock();
      for (const ns of values) block.record(MAP, ns, 1);
      const snapshot = Snapshot.take(layout, [block]);
      const histogram = snapshot.histogram(MAP)!;
      const sorted = values.toSorted((a, b) => a - b);
      assert.equal(histogram.totalCount, values.length);
      for (const p of [50, 90, 99, 99.9, 100]) {
        const exact = sorted[Math.max(Math.ceil((p / 100) * sorted.length) - 1, 0)]!;
        const got = histogram.getValueAtPercentile(p);
        assert.ok(got >= exact && got - exact <= exact / 128, `p${p}: ${got} for ${exact}`);
      }
      assert.equal(snapshot.series(MAP)!.maxNs, sorted.at(-1));
      assert.equal(
        snapshot.series(MAP)!.sumNs,
        values.reduce((a, b) => a + b, 0),
      );
    }),
    { seed: 2, numRuns: 200 },
  );
});

test('buckets are exact at every edge, also at a threshold, and add up to the cells', () => {
  fc.assert(
    fc.property(fc.array(latencyNs, { maxLength: 200 }), (values) => {
      const block = newBlock();
      const all = [...values, ...layout.edgesNs].flatMap((ns) => [ns, ns + 1]);
      for (const ns of all) block.record(MAP, ns, 1);
      const { buckets, cells } = Snapshot.take(layout, [block]).series(MAP)!;
      let cumulative = 0;
      layout.edgesNs.forEach((edge, i) => {
        cumulative += buckets[i]!;
        assert.equal(cumulative, all.filter((ns) => ns <= edge).length, `edge ${edge}`);
      });
      assert.equal(total(buckets), all.length);
      assert.equal(total(cells), all.length);
    }),
    { seed: 3, numRuns: 100 },
  );
  assert.ok(layout.edgesNs.includes(1_500_000));
});

test('counts beyond 32 bits neither wrap nor lose one', () => {
  const block = newBlock();
  block.record(MAP, 7, 2 ** 40);
  block.record(MAP, 1000, 1);
  const histogram = Snapshot.take(layout, [block]).histogram(MAP)!;
  assert.equal(histogram.totalCount, 2 ** 40 + 1);
  assert.equal(histogram.getValueAtPercentile(50), 7);
});

test('impossible latencies are clamped and counted', () => {
  const block = newBlock();
  for (const ns of [-5, Number.NaN, MAX_TRACKABLE_NS + 1, Number.POSITIVE_INFINITY]) block.record(LATENESS, ns, 1);
  const snapshot = Snapshot.take(layout, [block]);
  assert.equal(snapshot.counter('values_clamped'), 4);
  assert.equal(snapshot.count(LATENESS), 4);
  assert.equal(snapshot.series(LATENESS)!.maxNs, MAX_TRACKABLE_NS);
});

test('series have unique names and places, and outcomes follow errnos', () => {
  assert.equal(SERIES.length, SERIES_COUNT);
  assert.equal(SERIES_BY_NAME.size, SERIES_COUNT);
  assert.equal(SERIES[MAP]!.name, 'actual.map.ok');
  assert.equal(SERIES[intendedSeries(Op.null, Outcome.interrupted)]!.name, 'intended.null.interrupted');
  assert.equal(SERIES[lockWaitSeries(1)]!.name, 'lock_wait.mmap_write');
  assert.equal(SERIES[LATENESS]!.name, 'lateness');
  assert.deepEqual([0, 5, -12, -4, -1].map(outcomeOf), [
    Outcome.ok,
    Outcome.ok,
    Outcome.enomem,
    Outcome.interrupted,
    Outcome.other_error,
  ]);
});

test('threads record while others read: every count arrives, every reading grows', async () => {
  const buffer = new SharedArrayBuffer(layout.bytes * 2);
  const blocks = [0, 1].map((i) => new StatsBlock(layout, buffer, i * layout.bytes));
  const source = `
    import { workerData } from 'node:worker_threads';
    const { StatsBlock, StatsLayout } = await import(workerData.stats);
    const layout = new StatsLayout(['trylock_attempts', 'trylock_failures'], { exactEdgesNs: [1_500_000] });
    const block = new StatsBlock(layout, workerData.buffer, workerData.i * layout.bytes);
    for (let n = 0; n < 300_000; n++) { block.record(${MAP}, (n * 2_654_435_761) % 5_000_000, 1); block.count(0, 1); }`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
  const workers = [0, 1].map((i) => new Worker(url, { workerData: { buffer, i, stats: STATS_URL } }));
  const exits = Promise.all(workers.map((w) => once(w, 'exit')));
  const done = exits.then(() => true);
  const turn = () => new Promise<false>((resolve) => setImmediate(resolve, false));
  let last = Snapshot.take(layout, blocks);
  let readings = 0;
  do {
    const now = Snapshot.take(layout, blocks);
    const delta = now.since(last);
    assert.ok(delta.counter('trylock_attempts') >= 0);
    for (const one of delta.data.values())
      assert.ok(one.cells.every((n) => n >= 0) && one.buckets.every((n) => n >= 0));
    last = now;
    readings++;
  } while (!(await Promise.race([done, turn()])));
  assert.deepEqual((await exits).flat(), [0, 0]);
  const end = Snapshot.take(layout, blocks);
  assert.equal(end.count(MAP), 600_000);
  assert.equal(end.counter('trylock_attempts'), 600_000);
  assert.ok(readings > 1);
});

test('a block reserves room for every series but only touched pages cost memory', () => {
  const source = `
    const { StatsBlock, StatsLayout } = await import(${JSON.stringify(STATS_URL)});
    const layout = new StatsLayout([]);
    const before = process.memoryUsage().rss;
    const blocks = Array.from({ length: 8 }, () => new StatsBlock(layout, new SharedArrayBuffer(layout.bytes)));
    for (const block of blocks)
      for (let op = 0; op < 12; op++) for (let ns = 500; ns < 2e7; ns *= 1.01) block.recordOp(op, 0, ns, ns);
    console.log(JSON.stringify({ reserved: layout.bytes * 8, grown: process.memoryUsage().rss - before }));`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
  const { reserved, grown } = JSON.parse(child.stdout) as { reserved: number; grown: number };
  assert.ok(reserved > 64 * 2 ** 20, `${reserved}`);
  assert.ok(grown < 20 * 2 ** 20, `${grown}`);
});

test('intervals encoded, sent and merged equal the whole', () => {
  fc.assert(
    fc.property(fc.array(fc.array(latencyNs, { maxLength: 40 }), { maxLength: 6 }), (intervals) => {
      const block = newBlock();
      const merged = new Snapshot(layout);
      let last = new Snapshot(layout);
      for (const values of intervals) {
        for (const ns of values) {
          block.recordOp(Op.unmap, Outcome.einval, ns, Math.min(ns * 2, MAX_TRACKABLE_NS));
          block.count(1, 3);
        }
        const now = Snapshot.take(layout, [block]);
        merged.add(decodeSnapshot(layout, encodeSnapshot(now.since(last))));
        last = now;
      }
      const whole = Snapshot.take(layout, [block]);
      assert.deepEqual(merged.counters, whole.counters);
      assert.deepEqual([...merged.data.keys()], [...whole.data.keys()]);
      for (const [id, one] of whole.data) {
        const got = merged.data.get(id)!;
        assert.deepEqual([got.cells, got.buckets, got.sumNs], [one.cells, one.buckets, one.sumNs]);
        assert.equal(got.maxNs, one.maxNs);
      }
    }),
    { seed: 4, numRuns: 100 },
  );
});

test('the library reads our histograms, and we read the library', () => {
  const block = newBlock();
  for (let ns = 1; ns < 1e12; ns = Math.ceil(ns * 1.3)) block.record(MAP, ns, 5);
  const one = Snapshot.take(layout, [block]).series(MAP)!;
  const back = decodeFromCompressedBase64(encodeCells(layout.scale, one.cells), 64);
  assert.equal(back.totalCount, total(one.cells));
  const reference = library(2);
  for (let ns = 1; ns < 1e12; ns = Math.ceil(ns * 1.3)) for (let i = 0; i < 5; i++) reference.recordValue(ns);
  assert.deepEqual(layout.scale.decode(encodeCells(layout.scale, one.cells)), one.cells);
  assert.equal(back.getValueAtPercentile(99), reference.getValueAtPercentile(99));
});

test('decoding refuses what was not encoded here', () => {
  const block = newBlock();
  block.record(MAP, 1234, 1);
  const good = encodeSnapshot(Snapshot.take(layout, [block]));
  const edit = (change: (s: { layout: string; series: Record<string, unknown[]>; counters: object }) => void) => {
    const s = JSON.parse(good) as Parameters<typeof change>[0];
    change(s);
    return JSON.stringify(s);
  };
  const cases: [string, RegExp][] = [
    ['{', /not JSON/],
    ['[]', /malformed/],
    ['x'.repeat(5 << 20), /too long/],
    [edit((s) => (s.layout = 'other')), /different layout/],
    [edit((s) => (s.counters = { nope: 1 })), /unknown counter: nope/],
    [edit((s) => (s.counters = { 'a\u202eb': 1 })), /unknown counter: a b$/],
    [edit((s) => (s.counters = { trylock_attempts: -1 })), /malformed/],
    [edit((s) => (s.series['nope'] = s.series['actual.map.ok']!)), /unknown series: nope/],
    [edit((s) => (s.series['a\u001bb'] = s.series['actual.map.ok']!)), /unknown series: a b$/],
    [edit((s) => (s.series['actual.map.ok']![0] = 'AAAA')), /not a compressed HdrHistogram/],
    [edit((s) => (s.series['actual.map.ok']![3] = [1])), /has? 1 buckets|have 1 buckets/],
    [edit((s) => (s.series['actual.map.ok']![0] = encodeCells(new HdrScale(3), Float64Array.of(0, 1)))), /3 digits/],
  ];
  for (const [text, message] of cases) assert.throws(() => decodeSnapshot(layout, text), message);
  // Every cut and every flipped byte either still decodes or fails with a plain error, quickly and within bounds.
  const packed = Buffer.from(encodeCells(layout.scale, Snapshot.take(layout, [block]).series(MAP)!.cells), 'base64');
  for (let i = 0; i < packed.length; i++) {
    const flipped = Buffer.from(packed);
    flipped[i]! ^= 0xff;
    for (const bad of [packed.subarray(0, i), flipped]) {
      try {
        assert.ok(layout.scale.decode(bad.toString('base64')).length <= layout.scale.cells);
      } catch (error) {
        assert.match((error as Error).message, /histogram|Histogram/);
      }
    }
  }
});

test('the live view equals a snapshot', () => {
  const blocks = [newBlock(), newBlock()];
  blocks.forEach((b, i) => b.record(MAP, 1000 * (i + 1), 3));
  const view = liveView(layout, blocks);
  const snapshot = Snapshot.take(layout, blocks);
  assert.deepEqual(view.series(MAP)!.buckets, snapshot.series(MAP)!.buckets);
  assert.equal(view.series(MAP)!.sumNs, 9000);
  assert.equal(view.series(LATENESS), null);
  assert.throws(() => view.counter('nope'), /no counter named nope/);
});
