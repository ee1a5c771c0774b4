/** What `simulate` does with a plan: the emulated hosts, the run directory, the summary. */
import { availableParallelism } from 'node:os';
import { stringify } from 'yaml';
import { EXIT, UserError, type ExitCode } from '../base/errors.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { styleFor } from '../report/format.ts';
import type { RunResults } from '../report/results.ts';
import { machineFacts, RUN_DIRECTORY_VERSION, RunDirectory } from '../report/run-dir.ts';
import { StatusLine } from '../report/status-line.ts';
import { renderSummary } from '../report/summary.ts';
import { plain } from '../scenario/source.ts';
import type { ResolvedScenario } from '../scenario/validate.ts';
import { simulateAll } from '../worker/virtual-pool.ts';
import { guestsOfHost, type HostResult, type HostTask } from '../worker/virtual-run.ts';
import { intervalGrid, mergeIntervals, type RunInterval } from './virtual-intervals.ts';
import { virtualHealth, virtualIdentity, virtualResults } from './virtual-results.ts';

export interface SimulateOptions {
  readonly resolved: ResolvedScenario;
  readonly plan: RunPlan;
  readonly threads: number | undefined;
  /** Length of an interval, ns of simulated time; undefined: as the length of the run suggests. */
  readonly intervalNs: number | undefined;
  /** Where run directories go. */
  readonly out: string;
  readonly json: boolean;
  readonly quiet: boolean;
}

/** Runs to the end. @returns the exit status of the verdict. @throws UserError when there is nothing to report. */
export async function simulateRun(options: SimulateOptions): Promise<ExitCode> {
  const { plan } = options;
  const status = new StatusLine(process.stderr, { quiet: options.quiet, term: process.env['TERM'] });
  const startedAt = new Date().toISOString();
  const { guests: _guests, ...head } = plan;
  const layout = statsLayout(plan);
  const grid = intervalGrid(plan, options.intervalNs);
  const tasks = Array.from(
    { length: Math.min(plan.host.count, Math.max(1, plan.guests.length)) },
    (_, index): HostTask => ({
      plan: head,
      guests: guestsOfHost(plan, index),
      grid,
    }),
  );
  const hosts = await simulateAll(tasks, {
    threads: options.threads ?? availableParallelism(),
    onDone: (done) => {
      if (tasks.length > 1 && !options.quiet) status.message(`pinstorm: ${done} of ${tasks.length} hosts simulated`);
    },
  }).catch((error: unknown) => {
    if (error instanceof Error && error.name === 'ArenaFullError') {
      throw new UserError(
        EXIT.invalid,
        `the scenario does not fit: ${error.message}`,
        'use more emulated hosts, for example --set host.count=4',
      );
    }
    throw error;
  });
  const results = virtualResults(plan, hosts);
  const directory = new RunDirectory(
    options.out,
    {
      schemaVersion: RUN_DIRECTORY_VERSION,
      clock: 'virtual',
      run: {
        ...virtualIdentity(plan),
        commandLine: ['pinstorm', ...process.argv.slice(2)],
        startedAt,
      },
      node: process.version,
      machine: machineFacts(),
      statistics: { digits: layout.scale.digits, counters: [...layout.counterNames] },
      thresholds: plan.thresholds.map(({ metric, expression }) => ({ metric, expression })),
      expect: [...plan.expect],
      guestsPlanned: plan.guests.length,
      minShare: 1,
      health: virtualHealth(plan),
    },
    stringify(plain(options.resolved.root)),
    plan,
  );
  writeIntervals(directory, mergeIntervals(plan, hosts, results.durationNs));
  for (const { atNs, kind, fields } of eventsOf(plan, hosts, results)) directory.event(atNs / 1e9, kind, fields);
  directory.finish(results, renderSummary(results, styleFor({}, {})));
  if (options.json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
  else process.stdout.write(renderSummary(results, styleFor(process.stdout, process.env)));
  status.message(`pinstorm: run directory ${directory.path}`);
  return results.verdict.exitCode as ExitCode;
}

function writeIntervals(directory: RunDirectory, intervals: readonly RunInterval[]): void {
  for (const { endNs, delta, backlog, driftPages, guests } of intervals) {
    const gauges = { deferred_backlog: backlog, locked_vm_drift_pages: driftPages };
    directory.interval(endNs / 1e9, delta, gauges, guests);
  }
}

interface SimulatedEvent {
  readonly atNs: number;
  readonly kind: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** What happened, in the order of simulated time. */
function eventsOf(plan: RunPlan, hosts: readonly HostResult[], results: RunResults): SimulatedEvent[] {
  const { verdict, reasons } = results.verdict;
  const happened = hosts.flatMap(({ marks, violations }): SimulatedEvent[] => [
    ...marks.map(({ atNs, ...fields }) => ({ atNs, kind: 'mark', fields })),
    ...violations.map(({ atNs, ...fields }) => ({
      atNs,
      kind: 'violation',
      fields: { ...fields, expected: plan.expect.includes(fields.invariant) },
    })),
  ]);
  return [
    { atNs: 0, kind: 'start', fields: { guests: plan.guests.length, hosts: hosts.length } },
    ...happened.toSorted((a, b) => a.atNs - b.atNs),
    { atNs: results.durationNs, kind: 'end', fields: { verdict, reasons } },
  ];
}
