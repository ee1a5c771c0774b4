/** What `simulate` does with a plan: the emulated hosts, the run directory, the summary. */
import { stringify } from 'yaml';
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import { type Interrupts, stopOnInterrupt } from '../console/interrupts.ts';
import { print, stderr, stdout } from '../console/output.ts';
import { simulateAll } from '../emulator/host-pool.ts';
import { type HostResult, type HostTask, hostTasks } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import { statsLayout } from '../engine/stats-layout.ts';
import { styleFor } from '../report/format.ts';
import { tryDirectory } from '../report/place.ts';
import type { RunResults, ThresholdResult } from '../report/results.ts';
import { machineFacts, RUN_DIRECTORY_VERSION, RunDirectory } from '../report/run-dir.ts';
import { StatusLine } from '../report/status-line.ts';
import { renderSummary } from '../report/summary.ts';
import { ThresholdJudge } from '../report/threshold-judge.ts';
import type { ThresholdContext } from '../report/thresholds.ts';
import { withDefaults } from '../scenario/origins.ts';
import { memlockWarnings } from '../scenario/plan-text.ts';
import type { ResolvedScenario } from '../scenario/validate.ts';
import { finishReport } from './finish-report.ts';
import { REGISTRY } from './registry.ts';
import { withHistories } from './shortest-history.ts';
import { intervalGrid, mergeIntervals, plannedNs, type RunInterval } from './simulated-intervals.ts';
import { durationOf, thresholdsOf, virtualHealth, virtualIdentity, virtualResults } from './simulated-results.ts';
import { simulationProgress } from './simulation-progress.ts';

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

/**
 * Runs to the end, or to the user's interrupt. @returns the exit status of the verdict. @throws UserError without a
 * report.
 */
export async function simulateRun(options: SimulateOptions, interrupts: Interrupts): Promise<ExitCode> {
  const { plan } = options;
  tryDirectory(options.out);
  const stop = stopOnInterrupt(interrupts);
  const status = new StatusLine(stderr, { quiet: options.quiet, term: process.env['TERM'] });
  for (const text of memlockWarnings(plan, REGISTRY)) status.message(`pinstorm: warning: ${text}`);
  const startedAt = new Date().toISOString();
  const layout = statsLayout(plan);
  const tasks = hostTasks(plan, intervalGrid(plan, options.intervalNs));
  const progress = simulationProgress(
    options.quiet,
    tasks.map(() => plannedNs(plan)),
  );
  const run = async (given: readonly HostTask[]): Promise<HostResult[]> => {
    try {
      return await simulateAll(given, { threads: options.threads, onProgress: progress.update, stop });
    } catch (error) {
      if (!(error instanceof Error && error.name === 'ArenaFullError')) throw error;
      throw new UserError(
        EXIT.invalid,
        `the scenario does not fit: ${error.message}`,
        'use more emulated hosts, for example --set host.count=4',
      );
    } finally {
      progress.end();
    }
  };
  let hosts = await run(tasks);
  let { intervals, judge, crossed } = judged(plan, hosts);
  if (crossed?.stoppedAtSeconds !== undefined && !stop.isSet) {
    // Hosts run side by side and know nothing of each other, so what stops all of them is found when they have run.
    // They run again up to that moment, and come to rest as guests do that are told to stop.
    const stopAtNs = Math.round(crossed.stoppedAtSeconds * 1e9);
    hosts = await run(tasks.map((task) => ({ ...task, stopAtNs })));
    ({ intervals, judge, crossed } = judged(plan, hosts));
  }
  const results = await withHistories(virtualResults(plan, hosts, judge));
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
      ...(plan.stages === undefined ? {} : { stages: [...plan.stages] }),
      expect: [...plan.expect],
      guestsPlanned: plan.guests.length,
      minShare: 1,
      health: virtualHealth(plan),
    },
    stringify(withDefaults(options.resolved, REGISTRY)),
    plan,
  );
  for (const { endNs, delta, backlog, driftPages, guests } of intervals) {
    directory.interval(endNs / 1e9, delta, gaugesOf(backlog, driftPages), guests);
  }
  for (const { atNs, kind, fields } of eventsOf(plan, hosts, results)) directory.event(atNs / 1e9, kind, fields);
  for (const [host, { guests }] of hosts.entries()) {
    for (const { guest, state, restNs, settledNs, endNs, ...rest } of guests) {
      directory.guest({
        guest,
        class: plan.guests[guest]?.class ?? '',
        incarnation: 1,
        worker: `host ${host}`,
        state,
        startSeconds: (plan.guests[guest]?.startNs ?? 0) / 1e9,
        restSeconds: seconds(restNs),
        settledSeconds: seconds(settledNs),
        endSeconds: seconds(endNs),
        ...rest,
      });
    }
  }
  directory.finish(results, renderSummary(results, styleFor({}, {})));
  if (options.json) print(`${JSON.stringify(results, null, 2)}\n`);
  else print(renderSummary(results, styleFor(stdout, process.env)));
  if (directory.note !== null) status.message(`pinstorm: ${directory.note}`);
  const { written, failure } = finishReport(directory.path);
  status.message(`pinstorm: ${written}`);
  if (failure !== null) throw failure;
  return results.verdict.exitCode as ExitCode;
}

const seconds = (ns: number | null): number | null => (ns === null ? null : ns / 1e9);

const gaugesOf = (deferred_backlog: number, locked_vm_drift_pages: number): ThresholdContext['gauges'] => ({
  deferred_backlog,
  locked_vm_drift_pages,
});

/**
 * The intervals of the hosts, and the thresholds as they stand after the last; `crossed`: the first that is to stop the
 * run.
 */
function judged(
  plan: RunPlan,
  hosts: readonly HostResult[],
): { intervals: readonly RunInterval[]; judge: ThresholdJudge; crossed: ThresholdResult | null } {
  const intervals = mergeIntervals(plan, hosts, durationOf(hosts));
  const judge = new ThresholdJudge(thresholdsOf(plan), { aborts: plan.thresholds, stages: plan.stages });
  let crossed: ThresholdResult | null = null;
  for (const { endNs, delta, backlog, driftPages } of intervals) {
    crossed ??= judge.interval(endNs, delta, gaugesOf(backlog, driftPages));
  }
  return { intervals, judge, crossed };
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
  const stages = (plan.stages ?? []).flatMap(({ name, startNs }): SimulatedEvent[] =>
    startNs < results.durationNs ? [{ atNs: startNs, kind: 'stage', fields: { stage: name } }] : [],
  );
  const stops = results.thresholds.flatMap(({ metric, expression, stoppedAtSeconds }): SimulatedEvent[] => {
    if (stoppedAtSeconds === undefined) return [];
    const atNs = stoppedAtSeconds * 1e9;
    return [
      { atNs, kind: 'threshold', fields: { metric, expression } },
      { atNs, kind: 'stop', fields: { by: 'threshold' } },
    ];
  });
  const stopped = hosts.flatMap(({ stoppedAtNs }): SimulatedEvent[] =>
    stoppedAtNs === null ? [] : [{ atNs: stoppedAtNs, kind: 'stop', fields: { by: 'user' } }],
  );
  return [
    { atNs: 0, kind: 'start', fields: { guests: plan.guests.length, hosts: hosts.length } },
    ...[...happened, ...stages, ...stops, ...stopped].toSorted((a, b) => a.atNs - b.atNs),
    { atNs: results.durationNs, kind: 'end', fields: { verdict, reasons } },
  ];
}
