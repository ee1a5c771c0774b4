/**
 * Experiments: a scenario simulated many times, in cells that differ in a setting, with repetitions that differ in the
 * seed. A repetition is one figure per metric; figures of different repetitions are compared, their samples are never
 * pooled.
 */
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import { type Interval, median, medianInterval } from '../base/statistics.ts';
import type { StopSignal } from '../base/stop-signal.ts';
import { say } from '../console/output.ts';
import { simulateRemotely } from '../coordinator/experiment.ts';
import { type PoolOptions, simulateAll } from '../emulator/host-pool.ts';
import { type HostResult, type HostTask, hostTasks } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { type Failure, failureSentences, type Setting } from '../report/experiment.ts';
import { duration, quantity } from '../report/format.ts';
import type { RunResults } from '../report/results.ts';
import type { Threshold } from '../metrics/threshold.ts';
import { ThresholdJudge } from '../report/threshold-judge.ts';
import { REGISTRY } from '../run/registry.ts';
import { scenarioOf } from '../run/scenario-file.ts';
import { plannedNs } from '../run/simulated-intervals.ts';
import { thresholdsOf, virtualResults } from '../run/simulated-results.ts';
import type { SimulationProgress } from '../run/simulation-progress.ts';
import type { Override } from '../scenario/overrides.ts';
import { planRun } from '../scenario/plan.ts';
import type { ParsedSource } from '../scenario/source.ts';
import type { ResolvedScenario } from '../scenario/validate.ts';
import type { RedisTarget } from '../wire/redis.ts';

export interface Cell {
  /** What the cell is, axis by axis: `variant: D`. */
  readonly labels: Readonly<Record<string, string>>;
  readonly overrides: readonly Override[];
}

export type MetricUnit = 'ns' | 'per_second' | 'count';

/** The figures of one repetition, by name: `map p99`. */
export type Figures = ReadonlyMap<string, { readonly value: number; readonly unit: MetricUnit }>;

export interface CellResults {
  readonly labels: Readonly<Record<string, string>>;
  /** Canonical id of the variant that ran. */
  readonly variant: string;
  readonly seeds: readonly number[];
  /** Per repetition, in the order of the seeds. */
  readonly figures: readonly Figures[];
  readonly violations: readonly string[];
  /** Sentences: operations that failed, of all repetitions together, and what else speaks against the verdict pass. */
  readonly failures: readonly string[];
  /** The gravest of the repetitions. */
  readonly exitCode: ExitCode;
  readonly setting: Setting;
}

/** The gravest first, as in the verdict of a run. */
const GRAVITY: readonly ExitCode[] = [EXIT.violated, EXIT.inconclusive, EXIT.threshold];

/** The exit status of several verdicts. */
const gravest = (codes: readonly number[]): ExitCode => GRAVITY.find((code) => codes.includes(code)) ?? EXIT.ok;

/** Operations of some runs that ended in an error; a call that a signal interrupted is none. */
function failuresOf(runs: readonly RunResults[]): Failure[] {
  const byOp = new Map<string, { total: number; failed: number; errors: Set<string> }>();
  for (const { op, outcome, actual } of runs.flatMap(({ latency }) => latency)) {
    const sum = byOp.get(op) ?? { total: 0, failed: 0, errors: new Set<string>() };
    byOp.set(op, sum);
    const count = actual?.count ?? 0;
    sum.total += count;
    if (count === 0 || outcome === 'ok' || outcome === 'interrupted') continue;
    sum.failed += count;
    sum.errors.add(outcome);
  }
  return [...byOp].flatMap(([op, { total, failed, errors }]) =>
    failed === 0 ? [] : [{ op, total, failed, errors: [...errors] }],
  );
}

/** What speaks against the verdicts of some runs, each once; violated invariants have a place of their own. */
const reasonsOf = (runs: readonly RunResults[]): string[] => [
  ...new Set(runs.flatMap(({ verdict }) => verdict.reasons.filter((reason) => !reason.startsWith('invariant ')))),
];

/**
 * The results of one run of an experiment. Of its thresholds only those of op_errors are judged: an
 * error that nobody expects spoils the figures, while a latency beyond its threshold is what an experiment looks for.
 */
function resultsOf(plan: RunPlan, hosts: readonly HostResult[]): RunResults {
  return virtualResults(plan, hosts, new ThresholdJudge(errorThresholds(plan)));
}

const errorThresholds = (plan: RunPlan): Threshold[] =>
  thresholdsOf(plan).filter(({ metric }) => metric.startsWith('op_errors'));

/** An experiment keeps no intervals, so that no window and no stage can be judged. @throws UserError 104 for such. */
function refuseUnjudged(plan: RunPlan): void {
  const part = errorThresholds(plan).find(({ stage, windowNs }) => stage !== null || windowNs !== null);
  if (part === undefined) return;
  const what = `${part.metric}: ${part.expression} cannot be judged here: an experiment judges errors over whole runs`;
  throw new UserError(EXIT.invalid, what, 'take "over" and "during" out, or the thresholds: --set thresholds={}');
}

/** Figures of a run worth comparing. */
export function figuresOf(results: RunResults): Figures {
  const out = new Map<string, { value: number; unit: MetricUnit }>();
  const seconds = results.durationNs / 1e9;
  let operations = 0;
  for (const { op, outcome, actual } of results.latency) {
    operations += actual?.count ?? 0;
    if (outcome !== 'ok' || actual === null) continue;
    out.set(`${op} mean`, { value: actual.meanNs, unit: 'ns' });
    out.set(`${op} p50`, { value: actual.p50Ns, unit: 'ns' });
    out.set(`${op} p99`, { value: actual.p99Ns, unit: 'ns' });
    out.set(`${op} max`, { value: actual.maxNs, unit: 'ns' });
  }
  for (const [mode, q] of Object.entries(results.split.lockWait)) {
    out.set(`wait ${mode} p99`, { value: q.p99Ns, unit: 'ns' });
    out.set(`wait ${mode} total`, { value: q.meanNs * q.count, unit: 'ns' });
  }
  out.set('deferred', { value: results.accounting.deferred.queued, unit: 'count' });
  out.set('limit refusals', { value: results.accounting.limitRefusals, unit: 'count' });
  out.set('throughput', { value: seconds === 0 ? 0 : operations / seconds, unit: 'per_second' });
  out.set('duration', { value: results.durationNs, unit: 'ns' });
  return out;
}

export interface ExperimentOptions {
  readonly repeat: number;
  readonly threads: number | undefined;
  /** Makes what shows the progress, from the simulated time each host is to run. */
  readonly progress?: (plannedNs: readonly (number | null)[]) => SimulationProgress;
  readonly stop?: StopSignal;
  /** Workers at this Redis simulate, instead of threads of this process. */
  readonly remote?: RedisTarget | undefined;
}

async function simulateLocally(tasks: readonly HostTask[][], options: PoolOptions): Promise<HostResult[][]> {
  const hosts = await simulateAll(tasks.flat(), options);
  let at = 0;
  return tasks.map(({ length }) => hosts.slice(at, (at += length)));
}

/**
 * What of its seed a plan keeps, as text: plans that are equal in it differ in what the engine draws, or in nothing.
 */
const withoutSeed = ({ seed: _seed, hash: _hash, ...plan }: RunPlan): string =>
  JSON.stringify({ ...plan, guests: plan.guests.map(({ seed: _own, ...guest }) => guest) });

/**
 * Whether repetitions of a scenario can differ: its plans differ, or the engine draws something while it simulates them
 * (injected faults, arrivals of a Poisson process, what a workload draws).
 */
export function isRandom(plans: readonly RunPlan[]): boolean {
  const [first] = plans;
  if (first === undefined) return false;
  const drawn = first.guests.some(({ actors }) =>
    actors.some(
      ({ arrival, workload }) => arrival.kind === 'poisson' || REGISTRY.workloads.get(workload)?.draws === true,
    ),
  );
  if (drawn || Object.values(first.faults).some((rate) => rate > 0)) return true;
  const text = withoutSeed(first);
  return plans.some((plan) => withoutSeed(plan) !== text);
}

/** The plans of a scenario for `repeat` seeds, and whether they can come to different results. */
export function plansOf(resolved: ResolvedScenario, repeat: number): { plans: RunPlan[]; random: boolean } {
  const planOf = (_: unknown, i: number): RunPlan => {
    const seed = (resolved.scenario.seed + i) % 2 ** 32;
    return planRun({ ...resolved, scenario: { ...resolved.scenario, seed } }, REGISTRY);
  };
  // What the plan draws shows only between two seeds.
  const plans = Array.from({ length: Math.max(2, repeat) }, planOf);
  return { plans: plans.slice(0, repeat), random: isRandom(plans) };
}

/** What the figures of a plan rest on. */
export const settingOf = ({ profile, host, variant }: RunPlan, random: boolean): Setting => ({
  profile: { name: profile.name, calibrated: profile.calibrated },
  hosts: host.count,
  cpus: host.cpus,
  kernels: resolveVariant(variant).kernels,
  random,
});

/**
 * Simulates every cell `repeat` times; repetition i of every cell has the same seed. Stopped early, it gives the
 * repetitions that every cell has completed: paired seeds stay paired. Where no cell draws anything, one repetition
 * stands for all. @throws UserError for a faulty scenario.
 */
export async function runCells(
  source: ParsedSource,
  overrides: readonly Override[],
  cells: readonly Cell[],
  { repeat: wanted, threads, progress, stop, remote }: ExperimentOptions,
): Promise<CellResults[]> {
  const planned = cells.map((cell) => plansOf(scenarioOf(source, [...overrides, ...cell.overrides]), wanted));
  const plans = planned.map((cell) => cell.plans);
  for (const [first] of plans) if (first !== undefined) refuseUnjudged(first);
  const random = planned.map((cell) => cell.random);
  const repeat = random.includes(true) ? wanted : 1;
  // Repetition by repetition, so that what is complete when the user stops is complete for all cells.
  const runs = Array.from({ length: repeat }, (_, i) => plans.map((own) => own[i] as RunPlan)).flat();
  const tasks = runs.map((plan) => hostTasks(plan));
  const shown = progress?.(runs.flatMap((plan, i) => (tasks[i] ?? []).map(() => plannedNs(plan))));
  const hosts =
    remote === undefined
      ? await simulateLocally(tasks, { threads, onProgress: shown?.update, stop })
      : await simulateRemotely(remote, runs, {
          onProgress: (done) => shown?.update({ done, simulatedNs: new Float64Array(tasks.flat().length) }),
          stopped: () => stop?.isSet ?? false,
          onMessage: (text) => say(`${text}\n`),
        });
  shown?.end();
  const results = runs.map((plan, i) => {
    const own = hosts[i] ?? null;
    return own === null ? null : resultsOf(plan, own);
  });
  const rounds = Array.from({ length: repeat }, (_, i) => results.slice(i * cells.length, (i + 1) * cells.length));
  const complete = rounds.filter((round) => round.every((run) => run !== null && !run.stoppedByUser));
  return cells.map((cell, i) => {
    const own = complete.map((round) => round[i] as RunResults);
    const unexpected = own.flatMap(({ accounting }) => accounting.violations.filter((v) => !v.expected));
    return {
      labels: cell.labels,
      variant: plans[i]?.[0]?.variant ?? '',
      seeds: own.map(({ run }) => run.seed),
      figures: own.map(figuresOf),
      violations: [...new Set(unexpected.map(({ invariant }) => invariant))],
      failures: [...failureSentences(failuresOf(own)), ...reasonsOf(own)],
      exitCode: gravest(own.map(({ verdict }) => verdict.exitCode)),
      setting: settingOf(plans[i]?.[0] as RunPlan, random[i] === true),
    };
  });
}

/** How far an experiment came. */
export interface Ending {
  readonly complete: boolean;
  /** For people, if it was stopped. */
  readonly note: string | null;
  readonly exitCode: ExitCode;
}

/**
 * Of an experiment with `repeat` repetitions asked for.
 * @throws UserError if it was stopped before one was complete.
 */
export function endingOf(cells: readonly CellResults[], repeat: number): Ending {
  const done = cells[0]?.seeds.length ?? 0;
  if (done === 0) throw new UserError(EXIT.stopped, 'stopped by the user before a repetition was complete', null);
  const planned = cells.some(({ setting }) => setting.random) ? repeat : 1;
  const failed = gravest(cells.map(({ exitCode }) => exitCode));
  if (done >= planned) return { complete: true, note: null, exitCode: failed };
  const note = `pinstorm: stopped, these are ${done} of ${planned} repetitions\n`;
  return { complete: false, note, exitCode: failed === EXIT.ok ? EXIT.stopped : failed };
}

/** A metric over the repetitions of a cell; null where no repetition has it. */
export function summarise(
  cell: CellResults,
  metric: string,
): { median: number; interval: Interval; values: number[] } | null {
  const values = valuesOf(cell, metric);
  if (values.length === 0) return null;
  return { median: median(values), interval: medianInterval(values), values };
}

export function valuesOf(cell: CellResults, metric: string): number[] {
  return cell.figures.flatMap((figures) => {
    const figure = figures.get(metric);
    return figure === undefined ? [] : [figure.value];
  });
}

/** Every metric that some cell has, in order, with its unit. */
export function metricsOf(cells: readonly CellResults[]): Map<string, MetricUnit> {
  const out = new Map<string, MetricUnit>();
  for (const cell of cells)
    for (const figures of cell.figures) for (const [name, { unit }] of figures) out.set(name, unit);
  return out;
}

export function show(value: number, unit: MetricUnit): string {
  if (unit === 'ns') return duration(value);
  return unit === 'per_second' ? `${quantity(value)}/s` : quantity(value);
}
