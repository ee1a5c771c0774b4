/** What `simulate` does with a plan: the emulated hosts run, and the events of the run go to its directory. */
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import type { StopSignal } from '../base/stop-signal.ts';
import { type Interrupts, stopOnInterrupt } from '../console/interrupts.ts';
import { stderr } from '../console/output.ts';
import { simulateAll } from '../emulator/host-pool.ts';
import { type HostResult, type HostTask, hostTasks } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import { tryDirectory } from '../report/place.ts';
import type { ThresholdResult } from '../report/results.ts';
import { StatusLine } from '../report/status-line.ts';
import { ThresholdJudge } from '../report/threshold-judge.ts';
import { memlockWarnings } from '../scenario/plan-text.ts';
import type { ResolvedScenario } from '../scenario/validate.ts';
import { printResults } from './finish-report.ts';
import { REGISTRY } from './registry.ts';
import { withHistories } from './shortest-history.ts';
import { simulatedEvents } from './simulated-events.ts';
import { gaugesOf, intervalGrid, mergeIntervals, plannedNs, type SimulatedInterval } from './simulated-intervals.ts';
import { durationOf, thresholdsOf, virtualResults } from './simulated-results.ts';
import { simulationProgress } from './simulation-progress.ts';
import { DirectorySink } from './sinks/run-directory.ts';

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

/** The plan. @throws UserError 104 for a threshold that can never be measured in simulated time. */
function inSimulatedTime(plan: RunPlan): RunPlan {
  const { thresholds, stages = [] } = plan;
  const names = stages.map(({ name }) => name);
  for (const { metric, expression } of thresholds) {
    const { wallClock, mayBeEmpty } = REGISTRY.checkThreshold(metric, expression, names);
    if (!wallClock || mayBeEmpty) continue;
    const what = `the threshold ${metric}: ${expression} can never be measured: in simulated time nothing is late`;
    throw new UserError(EXIT.invalid, what, 'take the threshold out, append "or empty", or use pinstorm run');
  }
  return plan;
}

/**
 * Runs to the end, or to the user's interrupt. @returns the exit status of the verdict. @throws UserError without a
 * report.
 */
export async function simulateRun(options: SimulateOptions, interrupts: Interrupts): Promise<ExitCode> {
  const { resolved } = options;
  const plan = inSimulatedTime(options.plan);
  tryDirectory(options.out);
  const stop = stopOnInterrupt(interrupts);
  const status = new StatusLine(stderr, { quiet: options.quiet, term: process.env['TERM'] });
  for (const text of memlockWarnings(plan, REGISTRY)) status.message(`pinstorm: warning: ${text}`);
  const startedAt = new Date().toISOString();
  const tasks = hostTasks(plan, intervalGrid(plan, options.intervalNs));
  let hosts = await simulateHosts(tasks, options, stop);
  let { intervals, judge, crossed } = judged(plan, hosts);
  if (crossed?.stoppedAtSeconds !== undefined && !stop.isSet) {
    // Hosts run side by side and know nothing of each other, so what stops all of them is found when they have run.
    // They run again up to that moment, and come to rest as guests do that are told to stop.
    const stopAtNs = Math.round(crossed.stoppedAtSeconds * 1e9);
    const again = tasks.map((task) => ({ ...task, stopAtNs }));
    hosts = await simulateHosts(again, options, stop);
    ({ intervals, judge, crossed } = judged(plan, hosts));
  }
  const results = await withHistories(virtualResults(plan, hosts, judge));
  const directory = new DirectorySink(options.out);
  const events = simulatedEvents({ resolved, plan, startedAt, hosts, intervals, results });
  for (const event of events) directory.take(event);
  printResults(results, options.json);
  const { ended } = directory;
  if (ended?.note) status.message(`pinstorm: ${ended.note}`);
  if (ended !== null) status.message(`pinstorm: ${ended.written}`);
  if (ended?.failure) throw ended.failure;
  return results.verdict.exitCode as ExitCode;
}

/** @throws UserError 104 when the guests do not fit into the memory of a host. */
async function simulateHosts(
  tasks: readonly HostTask[],
  { plan, quiet, threads }: Pick<SimulateOptions, 'plan' | 'quiet' | 'threads'>,
  stop: StopSignal,
): Promise<HostResult[]> {
  const progress = simulationProgress(
    quiet,
    tasks.map(() => plannedNs(plan)),
  );
  try {
    return await simulateAll(tasks, { threads, onProgress: progress.update, stop });
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
}

/**
 * The intervals of the hosts, and the thresholds as they stand after the last; `crossed`: the first that is to stop the
 * run.
 */
function judged(
  plan: RunPlan,
  hosts: readonly HostResult[],
): { intervals: readonly SimulatedInterval[]; judge: ThresholdJudge; crossed: ThresholdResult | null } {
  const intervals = mergeIntervals(plan, hosts, durationOf(hosts));
  const judge = new ThresholdJudge(thresholdsOf(plan), { aborts: plan.thresholds, stages: plan.stages });
  let crossed: ThresholdResult | null = null;
  for (const interval of intervals) {
    crossed ??= judge.interval(interval.endNs, interval.delta, gaugesOf(interval));
  }
  return { intervals, judge, crossed };
}
