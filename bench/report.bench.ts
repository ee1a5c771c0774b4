/**
 * The report of a long run: a run directory of one hour (3600 intervals, 14 series, 10 000 guests) written by the real
 * writer, the time to make its report, the size of the file, and how long Chromium takes until every chart is drawn.
 *
 *     npm run build && node dist/bench/report.bench.js [intervals] [guests]
 */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stream } from '../src/base/prng.ts';
import {
  actualSeries,
  DEFERRED_SETTLE,
  intendedSeries,
  LATENESS,
  lockHoldSeries,
  lockWaitSeries,
  Op,
  Outcome,
  SCHEDULE_LAG,
} from '../src/metrics/ops.ts';
import { Snapshot } from '../src/metrics/snapshot.ts';
import { writeReport } from '../src/study/report-output.ts';
import { buildResults } from '../src/report/build.ts';
import { RunDirectory } from '../src/report/run-dir.ts';
import { failing, layout, RECORD } from '../test/report/sample.ts';
import { withBrowser } from '../test/ui/browser.ts';

const SEED = 20170322;
const intervals = Number(process.argv[2] ?? 3600);
const guests = Number(process.argv[3] ?? 10_000);
const root = mkdtempSync(join(tmpdir(), 'pinstorm-report-bench-'));

const SERIES_MEDIANS_NS: readonly (readonly [number, number])[] = [
  ...[Op.map, Op.unmap, Op.fault].flatMap((op): [number, number][] => [
    [intendedSeries(op, Outcome.ok), 90_000],
    [actualSeries(op, Outcome.ok), 40_000],
  ]),
  ...[0, 1, 2].flatMap((mode): [number, number][] => [
    [lockWaitSeries(mode), 12_000],
    [lockHoldSeries(mode), 3_000],
  ]),
  [SCHEDULE_LAG, 50_000],
  [DEFERRED_SETTLE, 1_500_000],
  [LATENESS, 4_000],
];

function writeRun(): string {
  const random = stream(SEED, 'report-bench');
  const plan = {
    pace: 1,
    guests: Array.from({ length: guests }, (_, index) => ({ index, class: 'small', startNs: index * 1e5 })),
  };
  const record = { ...RECORD, guestsPlanned: guests, run: { ...RECORD.run, name: 'one-hour' } };
  const directory = new RunDirectory(root, record, 'name: one-hour\n', plan);
  for (let second = 0; second < intervals; second += 1) {
    const delta = new Snapshot(layout);
    const slower = 1 + Math.sin(second / 300) / 2;
    for (const [id, medianNs] of SERIES_MEDIANS_NS) {
      const cells = new Float64Array(layout.scale.cells);
      // About log-normal, with a long tail.
      for (let i = 0; i < 400; i += 1) {
        const spread = (random.float() + random.float() + random.float() - 1.5) * 2.2;
        cells[layout.scale.indexOf(Math.floor(medianNs * slower * 10 ** (spread * (i % 50 === 0 ? 2 : 1))))]! += 1;
      }
      delta.data.set(id, { cells, buckets: new Float64Array(layout.buckets), sumNs: 0, maxNs: 0 });
    }
    delta.counters[layout.counter('trylock_attempts')] = 1000;
    delta.counters[layout.counter('trylock_failures')] = Math.floor(random.float() * 80);
    delta.counters[layout.counter('deferred_queued')] = Math.floor(random.float() * 80);
    const states = { pending: 0, running: guests, finished: 0 };
    directory.interval(second + 1, delta, { deferred_backlog: Math.floor(random.float() * 30) }, states);
  }
  for (let guest = 0; guest < guests; guest += 1) {
    directory.guest({
      guest,
      class: 'small',
      incarnation: 1,
      worker: `w${guest % 4}`,
      state: 'completed',
      startSeconds: guest / 1e4,
      restSeconds: intervals - 2,
      settledSeconds: intervals - 1,
      endSeconds: intervals,
      operations: Math.floor(random.float() * 10_000),
      failedOperations: 0,
      lockedVmAfterPages: '0',
      error: null,
    });
  }
  directory.finish(buildResults(failing()), '');
  return directory.path;
}

try {
  const path = writeRun();
  const bytes = (name: string): string => `${(statSync(join(path, name)).size / 2 ** 20).toFixed(2)} MiB`;
  console.log(`run directory: ${intervals} intervals, ${guests} guests, latency.hlog ${bytes('latency.hlog')}`);
  const start = performance.now();
  const before = process.cpuUsage();
  writeReport(path, 'html', undefined);
  const { user, system } = process.cpuUsage(before);
  const cpuMs = ((user + system) / 1000).toFixed(0);
  console.log(
    `made in ${(performance.now() - start).toFixed(0)} ms (${cpuMs} ms of CPU), report.html ${bytes('report.html')}`,
  );
  await withBrowser(async (browser) => {
    for (const round of [1, 2, 3]) {
      const page = await browser.newPage();
      const opened = performance.now();
      await page.goto(`file://${join(path, 'report.html')}`);
      await page.waitForSelector('html[data-drawn]');
      const inPage = await page.evaluate(() => performance.now());
      console.log(
        `Chromium, round ${round}: drawn ${(performance.now() - opened).toFixed(0)} ms after goto (${inPage.toFixed(0)} ms by its own clock)`,
      );
      await page.close();
    }
  });
} finally {
  rmSync(root, { recursive: true });
}
