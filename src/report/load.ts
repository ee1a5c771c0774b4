/**
 * Reads a run directory back. A finished run has results.json; of one that did not end, the results so far are rebuilt
 * from what was appended while it went, leaving out a line that was cut off.
 */
import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { EXIT, UserError } from '../base/errors.ts';
import type { HdrScale } from '../metrics/hdr.ts';
import { addTo } from '../metrics/cells.ts';
import { seriesInfo, SERIES_BY_NAME, type SeriesId } from '../metrics/ops.ts';
import { Snapshot } from '../metrics/snapshot.ts';
import { OWN_COUNTERS, StatsLayout, UnknownCounterError } from '../metrics/stats.ts';
import { parseThreshold, ThresholdError } from '../metrics/threshold.ts';
import { buildResults } from './build.ts';
import { RESULTS_VERSION, RunResults, Violation } from './results.ts';
import { ThresholdJudge } from './threshold-judge.ts';
import type { ThresholdContext } from './thresholds.ts';
import { Interval, RUN_DIRECTORY_VERSION, RunEvent, RunRecord, type BegunRun } from './run-dir.ts';

/**
 * The results of the run in `directory`.
 * @throws UserError 104 when it is not a run directory, or one of a version this pinstorm does not know.
 */
export function loadRun(directory: string): RunResults {
  const stat = statSync(directory, { throwIfNoEntry: false });
  if (stat === undefined)
    throw invalid(`${directory} does not exist`, 'give the directory of a run, for example runs/latest');
  if (!stat.isDirectory()) throw invalid(`${directory} is not a directory`, 'give the directory of a run');
  const finished = read(directory, 'results.json');
  if (finished !== null) return parse(directory, 'results.json', finished, RunResults, RESULTS_VERSION);
  const record = read(directory, 'run.json');
  if (record === null) throw invalid(`${directory} is not a run directory: it has no run.json`, 'try runs/latest');
  try {
    return rebuild(directory, parse(directory, 'run.json', record, RunRecord, RUN_DIRECTORY_VERSION));
  } catch (error) {
    if (!(error instanceof ThresholdError || error instanceof UnknownCounterError)) throw error;
    throw invalid(`${join(directory, 'run.json')}: ${error.message}`, CHANGED_HINT);
  }
}

/** A run that has not ended, to go on with: its record and what was written so far. */
export interface WrittenRun extends BegunRun {
  readonly record: RunRecord;
  /** The sum of its intervals. */
  readonly snapshot: Snapshot;
}

/** The run of that id that has not ended. Null when `root` has none. */
export function findBegun(root: string, runId: string, onInterval: OnInterval): WrittenRun | null {
  const found = findRun(root, runId);
  if (found === null || existsSync(join(found.path, 'results.json'))) return null;
  const { path, record } = found;
  const { snapshot, intervals } = measured(path, record, onInterval);
  return { path, record, snapshot, intervals: intervals.length, endSeconds: intervals.at(-1)?.endSeconds ?? 0 };
}

/** A run whose results are written. Null when `root` has none of that id. */
export function findEnded(root: string, runId: string): { path: string; results: RunResults } | null {
  const path = findRun(root, runId)?.path;
  return path === undefined || !existsSync(join(path, 'results.json')) ? null : { path, results: loadRun(path) };
}

function findRun(root: string, runId: string): { path: string; record: RunRecord } | null {
  for (const name of existsSync(root) ? readdirSync(root) : []) {
    const path = join(root, name);
    if (!lstatSync(path).isDirectory()) continue;
    const text = read(path, 'run.json');
    if (text === null || !text.includes(runId)) continue;
    const record = parse(path, 'run.json', text, RunRecord, RUN_DIRECTORY_VERSION);
    if (record.run.id === runId) return { path, record };
  }
  return null;
}

const modelCountersOf = (record: RunRecord): string[] =>
  record.statistics.counters.filter((c) => !(OWN_COUNTERS as readonly string[]).includes(c));

type OnInterval = (endSeconds: number, delta: Snapshot, gauges: ThresholdContext['gauges']) => void;

/** The sum of what the intervals of a run added; each is told in its turn. */
function measured(
  directory: string,
  record: RunRecord,
  onInterval: OnInterval,
): { snapshot: Snapshot; intervals: Interval[] } {
  const layout = new StatsLayout(modelCountersOf(record), { digits: record.statistics.digits });
  const snapshot = new Snapshot(layout);
  const intervals = lines(directory, 'intervals.jsonl', Interval);
  const latencies = latenciesByStart(layout, read(directory, 'latency.hlog') ?? '');
  for (const { startSeconds, endSeconds, counters, gauges, sums = {} } of intervals) {
    const delta = latencies.get(startSeconds.toFixed(3)) ?? new Snapshot(layout);
    latencies.delete(startSeconds.toFixed(3));
    for (const [id, one] of delta.data) [one.sumNs, one.maxNs] = sums[seriesInfo(id).name] ?? [one.sumNs, one.maxNs];
    for (const [name, by] of Object.entries(counters)) {
      const index = layout.counterNames.indexOf(name);
      if (index >= 0) delta.counters[index] = by;
    }
    snapshot.add(delta);
    onInterval(endSeconds, delta, {
      locked_vm_drift_pages: gauges['locked_vm_drift_pages'] ?? 0,
      deferred_backlog: gauges['deferred_backlog'] ?? 0,
    });
  }
  // The log may be ahead of the intervals by one.
  for (const rest of latencies.values()) snapshot.add(rest);
  return { snapshot, intervals };
}

function rebuild(directory: string, record: RunRecord): RunResults {
  const thresholds = record.thresholds.map((t) => parseThreshold(t.metric, t.expression, modelCountersOf(record)));
  const { driver, pace } = record.run;
  const scale = driver === 'virtual' || pace === 0 ? 1 : 1 / pace;
  const judge = new ThresholdJudge(thresholds, { stages: record.stages, scale });
  const { snapshot, intervals } = measured(directory, record, (endSeconds, delta, gauges) => {
    judge.interval(endSeconds * 1e9, delta, gauges);
  });
  const events = lines(directory, 'events.jsonl', RunEvent);
  const last = intervals.at(-1);
  const of = (kind: string) => events.filter((e) => e.kind === kind);
  const backlogs = intervals.flatMap((i) => i.gauges['deferred_backlog'] ?? []);
  const violations = violationsSoFar(of('violation'), last, record.expect);
  return buildResults({
    run: record.run,
    complete: false,
    stoppedByUser: of('stop').length > 0,
    durationNs: (last?.endSeconds ?? 0) * 1e9,
    coverage: {
      guestsPlanned: record.guestsPlanned,
      guestsFinished: last?.guests['finished'] ?? 0,
      guestsStopped: last?.guests['stopped'] ?? 0,
      guestsFailed: last?.guests['failed'] ?? 0,
      guestsLost: last?.guests['lost'] ?? 0,
      workersLost: of('worker_lost').length,
      minShare: record.minShare,
    },
    snapshot,
    thresholds,
    judge,
    accounting: {
      balance: 'unchecked',
      driftPages: last?.gauges['locked_vm_drift_pages'] ?? 0,
      violations,
      notes: [],
      explanation: null,
    },
    deferredBacklogMax: backlogs.length === 0 ? null : Math.max(...backlogs),
    health: { ...record.health, saturated: false, saturation: null, eventLoopDelayP99Ns: null },
  });
}

/** Before the name of an invariant: the gauge of an interval that counts its violations so far. */
export const VIOLATIONS_GAUGE = 'violations.';

/** What the last interval counted, with what the events say besides; an event alone counts too. */
function violationsSoFar(
  events: readonly RunEvent[],
  last: Interval | undefined,
  expect: readonly string[],
): Violation[] {
  const found = new Map<string, Violation>();
  for (const event of events) {
    const { data } = Violation.safeParse(event);
    if (data !== undefined) found.set(data.invariant, data);
  }
  for (const [name, count] of Object.entries(last?.gauges ?? {})) {
    if (!name.startsWith(VIOLATIONS_GAUGE)) continue;
    const invariant = name.slice(VIOLATIONS_GAUGE.length);
    const known = found.get(invariant);
    const history = known?.history ?? null;
    found.set(invariant, {
      invariant,
      count: Math.max(count, known?.count ?? 0),
      expected: expect.includes(invariant),
      history,
    });
  }
  return [...found.values()];
}

/**
 * The histograms of the intervals, by the start as the log has it. The log has no sums: unless the line of the interval
 * has them, they are taken from the middles of the cells.
 */
function latenciesByStart(layout: StatsLayout, log: string): Map<string, Snapshot> {
  const intervals = new Map<string, Snapshot>();
  const { scale } = layout;
  for (const { start, series, cells } of logLines(log, scale)) {
    const interval = intervals.get(start) ?? new Snapshot(layout);
    intervals.set(start, interval);
    const buckets = new Float64Array(layout.buckets);
    let sumNs = 0;
    cells.forEach((n, cell) => {
      if (n === 0) return;
      addTo(buckets, layout.firstEdge[cell] as number, n);
      sumNs += (n * (scale.lowest(cell) + scale.highest(cell))) / 2;
    });
    const maxNs = cells.length === 0 ? 0 : scale.highest(cells.length - 1);
    const one = new Snapshot(layout);
    one.data.set(series, { cells, buckets, sumNs, maxNs });
    interval.add(one);
  }
  return intervals;
}

export interface LogLine {
  /** As the log has it. */
  readonly start: string;
  readonly startSeconds: number;
  readonly endSeconds: number;
  readonly series: SeriesId;
  readonly cells: Float64Array;
}

/**
 * The histograms of latency.hlog in their order. What does not decode is left out: the last line of a run that was cut
 * off.
 */
export function* logLines(log: string, scale: HdrScale): Generator<LogLine> {
  for (const line of log.split('\n')) {
    const match = /^Tag=([a-z_.]+),([\d.]+),([\d.]+),[\d.]+,([A-Za-z0-9+/=]+)$/.exec(line);
    const series = SERIES_BY_NAME.get(match?.[1] ?? '');
    if (match === null || series === undefined) continue;
    const startSeconds = Number(match[2]);
    try {
      const cells = scale.decode(match[4] as string);
      yield { start: match[2] as string, startSeconds, endSeconds: startSeconds + Number(match[3]), series, cells };
    } catch {
      continue;
    }
  }
}

/** The text of a file of the run directory; null when there is none. @throws UserError 104 when it cannot be read. */
export function read(directory: string, name: string): string | null {
  try {
    return readFileSync(join(directory, name), 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    throw invalid(`cannot read ${join(directory, name)} (${code ?? String(error)})`, 'check its permissions');
  }
}

/** Checks a JSON file. @throws UserError 104 saying what is wrong with it. */
export function parse<S extends z.ZodType>(
  directory: string,
  name: string,
  text: string,
  schema: S,
  version: number,
): z.infer<S> {
  const path = join(directory, name);
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    throw invalid(`${path} is not JSON`, 'it was changed or cut off after the run');
  }
  const found = (data as { schemaVersion?: unknown } | null)?.schemaVersion;
  if (found !== version) {
    throw invalid(
      `${path} has format ${JSON.stringify(found)}, this pinstorm reads ${version}`,
      'use the pinstorm that wrote it',
    );
  }
  const checked = schema.safeParse(data);
  if (checked.success) return checked.data;
  const [issue] = checked.error.issues;
  throw invalid(`${path}: ${issue?.path.join('.') || 'the file'}: not what a run writes there`, CHANGED_HINT);
}

/**
 * The complete lines of a JSON Lines file; the rest of one that was cut off is left out.
 * @param onRefused told how many lines were not what they should be.
 */
export function lines<S extends z.ZodType>(
  directory: string,
  name: string,
  schema: S,
  onRefused: (count: number) => void = () => {},
): z.infer<S>[] {
  let refused = 0;
  const rows = (read(directory, name) ?? '').split('\n').flatMap((line) => {
    if (line === '') return [];
    try {
      const checked = schema.safeParse(JSON.parse(line));
      if (checked.success) return [checked.data];
    } catch {
      // Counted below.
    }
    refused += 1;
    return [];
  });
  if (refused > 0) onRefused(refused);
  return rows;
}

const CHANGED_HINT = 'it was changed after the run';
const invalid = (message: string, hint: string): UserError => new UserError(EXIT.invalid, message, hint);
