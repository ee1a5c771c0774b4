/**
 * The run directory: everything a run leaves behind, written while it goes, so that a crash loses at most the last
 * interval. docs/run-directory.md describes each file. Files are created once and only appended to.
 */
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';
import { basename, join } from 'node:path';
import { HistogramLogWriter } from 'hdr-histogram-js';
import { z } from 'zod';
import { EXIT, UserError, type ExitCode } from '../base/errors.ts';
import { writeFailure } from '../base/write-failure.ts';
import { toHistogram } from '../metrics/histogram.ts';
import { seriesInfo } from '../metrics/ops.ts';
import { isNotZero, type Snapshot } from '../metrics/snapshot.ts';
import { makeDirectory } from './place.ts';
import { Coverage, Health, RunIdentity, type RunResults } from './results.ts';

export const RUN_DIRECTORY_VERSION = 1;

/** run.json: what is known when the run starts. Enough to rebuild a report if it never ends. */
export const RunRecord = z.object({
  schemaVersion: z.literal(RUN_DIRECTORY_VERSION),
  /** What the seconds of the other files are: of the real clock, or simulated. */
  clock: z.enum(['real', 'virtual']).optional(),
  run: RunIdentity,
  node: z.string(),
  machine: z.object({ cores: z.number(), cpu: z.string(), memoryBytes: z.number(), system: z.string() }),
  /** Precision and counters of the statistics, to read the interval files. */
  statistics: z.object({ digits: z.union([z.literal(2), z.literal(3)]), counters: z.array(z.string()) }),
  thresholds: z.array(z.object({ metric: z.string(), expression: z.string() })),
  /** Stages of the scenario, ns of its time. Left out: none. */
  stages: z.array(z.object({ name: z.string(), startNs: z.number(), endNs: z.number().nullable() })).optional(),
  /** Invariants the scenario expects to be violated. */
  expect: z.array(z.string()),
  guestsPlanned: z.number(),
  minShare: Coverage.shape.minShare,
  health: Health.pick({ cores: true, threads: true, workers: true, profile: true }),
});
export type RunRecord = z.infer<typeof RunRecord>;

/** One line of intervals.jsonl: what an interval added. Times in seconds since the run's start. */
export const Interval = z.object({
  seq: z.number().int(),
  startSeconds: z.number(),
  endSeconds: z.number(),
  /** Increases of the counters; those that stayed are left out. */
  counters: z.record(z.string(), z.number()),
  /** Values at the end of the interval. */
  gauges: z.record(z.string(), z.number()),
  guests: z.record(z.string(), z.number()),
  /** How many lines of latency.hlog belong to it. */
  histograms: z.number().int().min(0).optional(),
  /** By series, what the log does not have: the exact sum and the maximum so far, ns. */
  sums: z.record(z.string(), z.tuple([z.number(), z.number()])).optional(),
});
export type Interval = z.infer<typeof Interval>;

/** One line of events.jsonl. Kinds: start, stage, threshold, violation, worker_lost, guest_failed, stop, end. */
export const RunEvent = z.looseObject({ atSeconds: z.number(), kind: z.string() });
export type RunEvent = z.infer<typeof RunEvent>;

/** One line of guests.jsonl: how a guest ended. Seconds since the run's start, of the run's clock. */
export const GuestRow = z.object({
  guest: z.number().int(),
  class: z.string(),
  incarnation: z.number().int(),
  worker: z.string(),
  state: z.enum(['completed', 'stopped', 'failed']),
  /** When it was due to start. */
  startSeconds: z.number(),
  /** When its actors were at rest, when its last deferred update had been applied, when its processes had exited. */
  restSeconds: z.number().nullable(),
  settledSeconds: z.number().nullable(),
  endSeconds: z.number().nullable(),
  operations: z.number(),
  failedOperations: z.number(),
  /** locked_vm at its end, decimal: it may have wrapped to an unsigned 64-bit value. */
  lockedVmAfterPages: z.string(),
  error: z.string().nullable(),
});
export type GuestRow = z.infer<typeof GuestRow>;

/** This machine, for run.json. */
export function machineFacts(): RunRecord['machine'] {
  return {
    cores: availableParallelism(),
    cpu: cpus()[0]?.model ?? 'unknown',
    memoryBytes: totalmem(),
    system: `${type()} ${release()}`,
  };
}

/** What is in the directory of a run that goes on. */
export interface BegunRun {
  readonly path: string;
  /** Intervals written, and the end of the last, seconds. */
  readonly intervals: number;
  readonly endSeconds: number;
}

/** Files that grow while the run goes on. */
type AppendedFile = 'intervals' | 'latency' | 'events' | 'guests';

export class RunDirectory {
  /** Where it is. */
  readonly path: string;
  /** What the user should know of it; null: nothing. */
  readonly note: string | null = null;
  readonly #files: Record<AppendedFile, number>;
  /** Events and guests that were there when the run went on. */
  readonly #known = new Set<string>();
  #seq = 0;
  #lastEndSeconds = 0;

  /**
   * Creates `<root>/<UTC timestamp>-<name>` and points `<root>/latest` at it.
   * @param plan the frozen plan, JSON data.
   * @param begun the directory of a run that goes on: it is appended to instead.
   * @throws UserError 104 when it cannot be written.
   */
  constructor(root: string, record: RunRecord, scenarioYaml: string, plan: unknown, begun?: BegunRun) {
    if (begun !== undefined) {
      this.path = begun.path;
      this.#seq = begun.intervals;
      this.#lastEndSeconds = begun.endSeconds;
      for (const line of readFileSync(join(this.path, 'events.jsonl'), 'utf8').split('\n')) {
        this.#known.add(line.replace(/^\{"atSeconds":[^,]*,/, ''));
      }
      for (const line of readFileSync(join(this.path, 'guests.jsonl'), 'utf8').split('\n')) {
        this.#known.add(/^\{"guest":\d+,.*?"incarnation":\d+/.exec(line)?.[0] ?? '');
      }
      this.#files = guard(this.path, EXIT.invalid, () => ({
        intervals: openWhole(join(this.path, 'intervals.jsonl')),
        latency: openWhole(join(this.path, 'latency.hlog')),
        events: openWhole(join(this.path, 'events.jsonl')),
        guests: openWhole(join(this.path, 'guests.jsonl')),
      }));
      return;
    }
    this.path = createDirectory(root, record.run);
    // The files of a simulated run say nothing of the real clock, so that they are the same bytes each time.
    const startedAt = record.clock === 'virtual' ? new Date(0).toISOString() : record.run.startedAt;
    this.#files = guard(this.path, EXIT.invalid, () => {
      this.#write('scenario.yaml', scenarioYaml);
      this.#write('plan.json', `${JSON.stringify(plan)}\n`);
      this.#write('run.json', `${JSON.stringify(record, null, 2)}\n`);
      const open = (name: string) => openSync(join(this.path, name), 'ax');
      return {
        intervals: open('intervals.jsonl'),
        latency: open('latency.hlog'),
        events: open('events.jsonl'),
        guests: open('guests.jsonl'),
      };
    });
    const startedAtSeconds = (Date.parse(startedAt) / 1000).toFixed(3);
    const log = this.#histogramLog();
    log.outputComment(`[pinstorm ${record.run.version}, latencies in ns]`);
    log.outputLogFormatVersion();
    // The library's own outputStartTime leaves an empty line that other readers stumble over.
    log.outputComment(`[StartTime: ${startedAtSeconds} (seconds since epoch), ${startedAt}]`);
    log.outputComment(`[BaseTime: ${startedAtSeconds} (seconds since epoch)]`);
    log.outputLegend();
    if (!pointLatest(root, this.path)) {
      this.note = `${join(root, 'latest')} is no symbolic link, so it stays as it is and does not lead to this run`;
    }
  }

  /** Appends what an interval added: counters to intervals.jsonl, histograms to latency.hlog. */
  interval(
    endSeconds: number,
    delta: Snapshot,
    gauges: Readonly<Record<string, number>>,
    guests: Readonly<Record<string, number>>,
  ): void {
    const startSeconds = this.#lastEndSeconds;
    const line: Interval = {
      seq: this.#seq,
      startSeconds,
      endSeconds,
      counters: delta.countersByName(isNotZero),
      gauges: { ...gauges },
      guests: { ...guests },
      histograms: delta.data.size,
      sums: Object.fromEntries([...delta.data].map(([id, { sumNs, maxNs }]) => [seriesInfo(id).name, [sumNs, maxNs]])),
    };
    this.#seq += 1;
    this.#lastEndSeconds = endSeconds;
    const log = this.#histogramLog();
    for (const [id, data] of delta.data) {
      const histogram = toHistogram(delta.layout.scale, data.cells);
      histogram.tag = seriesInfo(id).name;
      // The maximum is written in milliseconds, as HdrHistogram's tools do for nanoseconds.
      log.outputIntervalHistogram(histogram, startSeconds, endSeconds, 1e6);
    }
    this.#append('intervals', `${JSON.stringify(line)}\n`);
  }

  /** Appends an event; `fields` is JSON data. @param again it may be there already, of the run that goes on. */
  event(atSeconds: number, kind: string, fields: Readonly<Record<string, unknown>> = {}, again = false): void {
    const text = JSON.stringify({ kind, ...fields });
    if (again && this.#known.has(text.slice(1))) return;
    this.#append('events', `{"atSeconds":${JSON.stringify(atSeconds)},${text.slice(1)}\n`);
  }

  /** Appends how a guest ended. A guest that ran again has a line for each incarnation; the last one counts. */
  guest(row: GuestRow, again = false): void {
    const text = JSON.stringify(row);
    if (again && this.#known.has(/^\{"guest":\d+,.*?"incarnation":\d+/.exec(text)?.[0] ?? '')) return;
    this.#append('guests', `${text}\n`);
  }

  /** Writes results.json, verdict.json and summary.txt, and closes the directory. */
  finish(results: RunResults, summary: string): void {
    guard(this.path, EXIT.inconclusive, () => {
      for (const fd of Object.values(this.#files)) {
        fsyncSync(fd);
        closeSync(fd);
      }
      // A coordinator that died while it wrote them may have left some.
      this.#write('summary.txt', summary, 'w');
      this.#write('verdict.json', `${JSON.stringify(results.verdict, null, 2)}\n`, 'w');
      // Last and in one step: where there is a results.json, the run is finished.
      this.#write('results.json.part', `${JSON.stringify(results, null, 2)}\n`, 'w');
      renameSync(join(this.path, 'results.json.part'), join(this.path, 'results.json'));
    });
  }

  #histogramLog(): HistogramLogWriter {
    return new HistogramLogWriter((text) => this.#append('latency', text));
  }

  #append(file: AppendedFile, text: string): void {
    guard(this.path, EXIT.inconclusive, () => {
      const bytes = Buffer.from(text);
      // A full disk may take a part of it and say so only by the count.
      for (let at = 0; at < bytes.length;) at += writeSync(this.#files[file], bytes, at);
    });
  }

  #write(name: string, text: string, flag: 'wx' | 'w' = 'wx'): void {
    writeFileSync(join(this.path, name), text, { flag });
  }
}

/** Opens a file to append to. A line that was cut off is taken away first. */
function openWhole(path: string): number {
  const text = readFileSync(path);
  truncateSync(path, text.lastIndexOf(0x0a) + 1);
  return openSync(path, 'a');
}

function createDirectory(root: string, { startedAt, name }: RunIdentity): string {
  const stamp = startedAt.replace(/\.\d+/, '').replaceAll(/[-:]/g, '');
  const slug =
    name
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^-|-$/g, '')
      .slice(0, 60) || 'run';
  return guard(root, EXIT.invalid, () => {
    makeDirectory(root);
    for (let attempt = 1; ; attempt += 1) {
      const path = join(root, `${stamp}-${slug}${attempt === 1 ? '' : `-${attempt}`}`);
      try {
        mkdirSync(path);
        return path;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt === 1000) throw error;
      }
    }
  });
}

/** Moves the link in one step. @returns false: something else of that name is there, which is the user's and stays. */
function pointLatest(root: string, path: string): boolean {
  const link = join(root, 'latest');
  const fresh = `${link}.${process.pid}`;
  return guard(root, EXIT.invalid, () => {
    if (lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink() === false) return false;
    symlinkSync(basename(path), fresh);
    try {
      renameSync(fresh, link);
    } catch (error) {
      unlinkSync(fresh);
      throw error;
    }
    return true;
  });
}

/** Runs file operations and says in one message what went wrong, where, and what to do. */
function guard<T>(path: string, exitCode: ExitCode, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const { code, path: at = path } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && exitCode === EXIT.inconclusive) {
      throw new UserError(
        exitCode,
        `cannot write ${at}: it is gone`,
        'do not remove the run directory while the run goes on',
      );
    }
    throw writeFailure(at, error, '--out DIR', exitCode);
  }
}
