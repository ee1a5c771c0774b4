/**
 * Experiments: a scenario simulated many times, in cells that differ in a setting, with repetitions that differ in the seed. A
 * repetition is one figure per metric; figures of different repetitions are compared, their samples are never pooled.
 */
import { median, medianInterval, type Interval } from '../base/statistics.ts';
import type { RunPlan } from '../engine/guest-plan.ts';
import { duration, quantity } from '../report/format.ts';
import type { RunResults } from '../report/results.ts';
import type { Override } from '../scenario/overrides.ts';
import { planRun } from '../scenario/plan.ts';
import { loadScenario } from '../scenario/validate.ts';
import { simulateAll } from '../worker/virtual-pool.ts';
import { guestsOfHost, type HostTask } from '../worker/virtual-run.ts';
import { REGISTRY } from './registry.ts';
import { virtualResults } from './virtual-results.ts';

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
  readonly onProgress?: (done: number, of: number) => void;
}

/** Simulates every cell `repeat` times; repetition i of every cell has the same seed. @throws UserError for a faulty scenario. */
export async function runCells(
  file: string,
  overrides: readonly Override[],
  cells: readonly Cell[],
  { repeat, threads, onProgress }: ExperimentOptions,
): Promise<CellResults[]> {
  const plans = cells.map((cell): RunPlan[] => {
    const resolved = loadScenario(file, REGISTRY, [...overrides, ...cell.overrides]);
    return Array.from({ length: repeat }, (_, i) => {
      const seed = (resolved.scenario.seed + i) % 2 ** 32;
      return planRun({ ...resolved, scenario: { ...resolved.scenario, seed } }, REGISTRY);
    });
  });
  const tasks: HostTask[] = [];
  const slices = plans.flat().map((plan) => {
    const { guests, ...head } = plan;
    const from = tasks.length;
    for (let i = 0; i < Math.min(plan.host.count, Math.max(1, guests.length)); i += 1) {
      tasks.push({ plan: head, guests: guestsOfHost(plan, i) });
    }
    return { plan, from, to: tasks.length };
  });
  const hosts = await simulateAll(tasks, { threads, onDone: (done) => onProgress?.(done, tasks.length) });
  const runs = slices.map(({ plan, from, to }) => virtualResults(plan, hosts.slice(from, to)));
  return cells.map((cell, i) => {
    const own = runs.slice(i * repeat, (i + 1) * repeat);
    const unexpected = own.flatMap(({ accounting }) => accounting.violations.filter((v) => !v.expected));
    return {
      labels: cell.labels,
      variant: own[0]?.run.variant ?? '',
      seeds: own.map(({ run }) => run.seed),
      figures: own.map(figuresOf),
      violations: [...new Set(unexpected.map(({ invariant }) => invariant))],
    };
  });
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
