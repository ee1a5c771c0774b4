/**
 * What measuring costs: one record on the hot path, one scrape, one interval sent and merged.
 * Prints JSON and writes it to bench/results/metrics.json.   node dist/bench/metrics.bench.js
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { createRegistry } from '../src/metrics/exposition.ts';
import { actualSeries, Op, Outcome } from '../src/metrics/ops.ts';
import { decodeSnapshot } from '../src/metrics/read-snapshot.ts';
import { encodeSnapshot, liveView, Snapshot } from '../src/metrics/snapshot.ts';
import { StatsBlock, StatsLayout } from '../src/metrics/stats.ts';

const ROUNDS = 7;
const layout = new StatsLayout(['trylock_attempts'], { exactEdgesNs: [2e6] });
const blocks = [0, 1].map(() => new StatsBlock(layout, new SharedArrayBuffer(layout.bytes)));
/** Latencies spread over 1 us .. 16 ms, drawn before the clock starts. */
const latenciesNs = Float64Array.from({ length: 1 << 14 }, (_, i) => 2 ** (10 + ((i * 0.618_034) % 1) * 14));

/** Median and minimum over rounds of ns per repetition. */
function measure(repetitions: number, work: (i: number) => void): { medianNs: number; minNs: number } {
  const perRound: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < repetitions; i++) work(i);
    if (round > 0) perRound.push(Number(process.hrtime.bigint() - start) / repetitions);
  }
  perRound.sort((a, b) => a - b);
  return { medianNs: perRound[ROUNDS >> 1]!, minNs: perRound[0]! };
}

const block = blocks[0]!;
const mask = latenciesNs.length - 1;
const MAP = actualSeries(Op.map, Outcome.ok);
let sink = 0;
const results: Record<string, unknown> = {
  emptyLoop: measure(5_000_000, (i) => (sink += latenciesNs[i & mask]!)),
  record: measure(5_000_000, (i) => block.record(MAP, latenciesNs[i & mask]!, 1)),
  recordOp: measure(5_000_000, (i) =>
    block.recordOp(Op.unmap, Outcome.ok, latenciesNs[i & mask]!, latenciesNs[i & mask]!),
  ),
  count: measure(5_000_000, () => block.count(0, 1)),
};

for (const b of blocks) {
  for (let op = 0; op < 15; op++) for (const ns of latenciesNs) b.recordOp(op, Outcome.ok, ns, ns);
}
const whole = Snapshot.take(layout, blocks);
const text = encodeSnapshot(whole);
const series = whole.data.size;
results['series'] = series;
results['blockMiB'] = layout.bytes / 2 ** 20;
results['snapshotTake'] = measure(20, () => Snapshot.take(layout, blocks));
results['snapshotEncode'] = measure(5, () => encodeSnapshot(whole));
results['snapshotDecodeAndAdd'] = measure(5, () => whole.add(decodeSnapshot(layout, text)));
results['snapshotChars'] = text.length;

const registry = createRegistry({
  run: {
    runId: 'bench',
    scenario: 'bench',
    variant: 'E',
    pace: 1,
    profile: { name: 'default', calibrated: false },
    version: '0',
    expect: [],
  },
  role: 'worker',
  stats: liveView(layout, blocks),
  gauges: () => ({
    deferredBacklog: 0,
    deferredOldestAgeSeconds: 0,
    lockedVmDriftPages: 0,
    invariantViolations: {},
    guests: {},
    threads: 2,
    saturated: false,
  }),
});
const scrapes: number[] = [];
let chars = 0;
for (let i = 0; i < 30; i++) {
  const start = process.hrtime.bigint();
  chars = (await registry.metrics()).length;
  scrapes.push(Number(process.hrtime.bigint() - start));
}
scrapes.sort((a, b) => a - b);
results['scrape'] = { medianNs: scrapes[15], minNs: scrapes[0], chars };
results['machine'] = { cores: cpus().length, model: cpus()[0]?.model, node: process.version };

if (sink === 0) throw new Error('nothing was measured');
mkdirSync('bench/results', { recursive: true });
writeFileSync('bench/results/metrics.json', `${JSON.stringify(results, null, 2)}\n`);
console.log(JSON.stringify(results, null, 2));
