/**
 * Everything a run directory holds, for the HTML report and the other formats; of a crashed run, what is left of it.
 */
import { z } from 'zod';
import { HdrScale } from '../metrics/hdr.ts';
import type { SeriesId } from '../metrics/ops.ts';
import type { ChartData, EventMark, PackedGuest } from './chart-data.ts';
import { lines, loadRun, logLines, parse, read, type LogLine } from './load.ts';
import type { RunResults } from './results.ts';
import { GuestRow, Interval, RUN_DIRECTORY_VERSION, RunEvent, RunRecord } from './run-dir.ts';
import { Timeline } from './timeline.ts';

export interface RunContents {
  readonly results: RunResults;
  readonly record: RunRecord | null;
  readonly charts: ChartData;
  readonly scale: HdrScale;
  /** All samples of each series of latency.hlog. */
  readonly whole: ReadonlyMap<SeriesId, Float64Array>;
  readonly intervals: readonly Interval[];
  readonly events: readonly RunEvent[];
  /** The scenario as the run recorded it, YAML. */
  readonly scenario: string | null;
  /** What the directory should hold and does not, in sentences. */
  readonly missing: readonly string[];
}

/** The part of plan.json that a report needs. */
const PlannedGuests = z.object({
  pace: z.number(),
  guests: z.array(z.object({ index: z.number(), class: z.string(), startNs: z.number() })),
});

/** @throws UserError 104 when `directory` is not a run directory, or one of a version this pinstorm does not know. */
export function readContents(directory: string): RunContents {
  const results = loadRun(directory);
  const missing: string[] = [];
  if (!results.complete)
    missing.push('The run did not end: everything here is rebuilt from what it had written until then.');
  const recordText = read(directory, 'run.json');
  const record =
    recordText === null ? null : parse(directory, 'run.json', recordText, RunRecord, RUN_DIRECTORY_VERSION);
  for (const [name, what] of [
    ['run.json', 'the command line and the machine are unknown'],
    ['intervals.jsonl', 'there are no figures over time'],
    ['latency.hlog', 'there are no latencies over time, no spectra and no heatmaps'],
    ['events.jsonl', 'there is no list of events'],
    ['guests.jsonl', 'there are no figures per guest'],
    ['plan.json', 'guests that never ended cannot be named'],
    ['scenario.yaml', 'the scenario is unknown'],
  ] as const) {
    if (read(directory, name) === null) missing.push(`${name} is missing: ${what}.`);
  }
  const cut = (name: string) => (n: number) =>
    missing.push(`${name}: ${n === 1 ? 'a line was' : `${n} lines were`} cut off or damaged and left out.`);
  const intervals = lines(directory, 'intervals.jsonl', Interval, cut('intervals.jsonl'));
  const events = lines(directory, 'events.jsonl', RunEvent, cut('events.jsonl'));
  const rows = lines(directory, 'guests.jsonl', GuestRow, cut('guests.jsonl'));
  const scale = new HdrScale(record?.statistics.digits ?? 2);
  const timeline = new Timeline(scale);
  const log = read(directory, 'latency.hlog') ?? '';
  const decoded = fill(timeline, intervals, logLines(log, scale));
  const promised = (log.match(/^Tag=/gm) ?? []).length;
  if (decoded < promised) cut('latency.hlog')(promised - decoded);
  const slots = timeline.slots();
  return {
    results,
    record,
    charts: {
      clock: results.run.driver,
      durationSeconds: Math.max(results.durationNs / 1e9, slots.at(-1)?.end ?? 0),
      merged: timeline.merged,
      slots,
      spectra: timeline.spectra(),
      events: eventMarks(events),
      guests: packedGuests(rows, plannedGuests(directory, missing), results),
    },
    scale,
    whole: timeline.whole,
    intervals,
    events,
    scenario: read(directory, 'scenario.yaml'),
    missing,
  };
}

/**
 * Gives every interval its histograms: each line of the one file says how many of the other are its. @returns how many
 * came.
 */
function fill(timeline: Timeline, intervals: readonly Interval[], log: Iterator<LogLine>): number {
  let decoded = 0;
  let next: LogLine | undefined;
  const advance = (): void => {
    const step = log.next();
    next = step.done === true ? undefined : step.value;
  };
  /** The lines from here on, while they are wanted. */
  const take = (wanted: (line: LogLine, taken: number) => boolean): (readonly [SeriesId, Float64Array])[] => {
    const out: (readonly [SeriesId, Float64Array])[] = [];
    while (next !== undefined && wanted(next, out.length)) {
      out.push([next.series, next.cells]);
      advance();
    }
    decoded += out.length;
    return out;
  };
  advance();
  for (const interval of intervals)
    timeline.add(
      interval,
      take((_, taken) => taken < (interval.histograms ?? 0)),
    );
  // A crash can come between the histograms of an interval and its line.
  for (let rest = next; rest !== undefined; rest = next) {
    const { startSeconds, endSeconds } = rest;
    const series = take((line) => line.startSeconds === startSeconds);
    timeline.add({ startSeconds, endSeconds, counters: {}, gauges: {}, guests: {} }, series);
  }
  return decoded;
}

/** Events shown as marks on the charts, at most. */
const EVENTS_MAX = 500;

/** What happened, in words. What guests noted (marks) is not among them: there can be thousands. */
export function eventMarks(events: readonly RunEvent[]): EventMark[] {
  const shown = events.filter(({ kind }) => kind !== 'mark').slice(0, EVENTS_MAX);
  return shown.map(({ atSeconds, kind, ...fields }) => ({ at: atSeconds, kind, text: describe(fields) }));
}

function describe(fields: Readonly<Record<string, unknown>>): string {
  return Object.entries(fields)
    .filter(([name, value]) => name !== 'history' && value !== null && !(Array.isArray(value) && value.length === 0))
    .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ')
    .slice(0, 500);
}

function plannedGuests(directory: string, missing: string[]): z.infer<typeof PlannedGuests> | null {
  const text = read(directory, 'plan.json');
  if (text === null) return null;
  try {
    return PlannedGuests.parse(JSON.parse(text));
  } catch {
    missing.push('plan.json is damaged: guests that never ended cannot be named.');
    return null;
  }
}

/** Every planned guest with how it ended; of one that ran again after a loss, the last time. */
function packedGuests(
  rows: readonly GuestRow[],
  plan: z.infer<typeof PlannedGuests> | null,
  { complete, run }: RunResults,
): PackedGuest[] {
  const byGuest = new Map<number, GuestRow>();
  for (const row of rows) {
    if ((byGuest.get(row.guest)?.incarnation ?? -1) < row.incarnation) byGuest.set(row.guest, row);
  }
  const out = [...byGuest.values()].map((row) => packGuest(row));
  if (rows.length === 0 || plan === null) return out;
  // Simulated time has the plan's own.
  const pace = run.driver === 'virtual' ? 1 : plan.pace;
  for (const { index, class: name, startNs } of plan.guests) {
    if (byGuest.has(index)) continue;
    const start = pace === 0 ? 0 : startNs / pace / 1e9;
    out.push([index, name, complete ? 'no outcome' : 'not ended', '', start, null, null, null, 0, 0, '', null]);
  }
  return out.toSorted((a, b) => a[0] - b[0]);
}

export function packGuest(row: GuestRow): PackedGuest {
  const moments = [row.restSeconds, row.settledSeconds, row.endSeconds].map((s) => (s === null ? null : rounded(s)));
  const [rest = null, settled = null, end = null] = moments;
  const { guest, class: name, state, worker, startSeconds, operations, failedOperations, lockedVmAfterPages } = row;
  const start = rounded(startSeconds);
  return [
    guest,
    name,
    state,
    worker,
    start,
    rest,
    settled,
    end,
    operations,
    failedOperations,
    lockedVmAfterPages,
    row.error,
  ];
}

const rounded = (seconds: number): number => Number(seconds.toPrecision(9));
