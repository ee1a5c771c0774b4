/** An exploration of a case or of a guest of a scenario, and what is said of it. */
import { performance } from 'node:perf_hooks';
import type { StopSignal } from '../base/stop-signal.ts';
import { unhurried } from '../console/unhurried.ts';
import { DeterminismCheck } from '../engine/explore/determinism-check.ts';
import { DfsStrategy } from '../engine/explore/dfs.ts';
import type { Execution } from '../engine/explore/execution.ts';
import { PctStrategy } from '../engine/explore/pct.ts';
import { RandomStrategy } from '../engine/explore/random.ts';
import { searching, type SearchResult } from '../engine/explore/search.ts';
import { Statistics } from '../engine/explore/statistics.ts';
import type { Strategy } from '../engine/explore/strategy.ts';
import type { Variant } from '../model/env.ts';
import { makerOf, type Program, type Report, reportFailure } from '../run/explore-program.ts';

/** How schedules are chosen, and how many. */
export interface ExploreOptions {
  readonly strategy: 'dfs' | 'random' | 'pct';
  readonly preemptions: number | undefined;
  readonly depth: number;
  readonly seed: number;
  readonly full: boolean;
  readonly checkDeterminism: boolean;
  readonly maxSteps: number;
  readonly maxSchedules: number;
}

/** What an exploration came to. */
export interface Explored {
  readonly x: Execution;
  readonly options: ExploreOptions;
  readonly strategy: Strategy;
  readonly statistics: Statistics;
  readonly result: SearchResult;
  readonly reports: readonly (Report & { readonly expected: boolean; readonly schedules: number })[];
  readonly seconds: number;
}

/** How schedules are chosen, in words. */
export const describe = ({ strategy, seed }: Pick<ExploreOptions, 'strategy' | 'seed'>): string =>
  strategy === 'dfs' ? 'dfs' : `${strategy}, seed ${seed}`;

/** Searches to the end, to its bound, or until it is told to stop. */
export async function explored(
  program: Program,
  variant: Variant,
  options: ExploreOptions,
  stop: StopSignal,
): Promise<Explored> {
  const { maxSteps, maxSchedules } = options;
  const expected = new Set<string>(program.plan.expect[variant.id] ?? []);
  const x = makerOf(program, variant)(program.plan);
  const { strategy, statistics } = strategyOf(options);
  const start = performance.now();
  const states = options.strategy === 'dfs';
  const result = await unhurried(
    searching(x, strategy, { stop: () => stop.isSet, maxSteps, maxSchedules, expected, states }),
  );
  const seconds = (performance.now() - start) / 1000;
  const reports: Explored['reports'][number][] = [];
  for (const found of result.failures.values()) {
    reports.push({
      expected: expected.has(found.failure.kind),
      schedules: found.schedules,
      ...(await reportFailure(program, variant, found, maxSteps)),
    });
  }
  return { x, options, strategy, statistics, result, reports, seconds };
}

function strategyOf(o: ExploreOptions): Pick<Explored, 'strategy' | 'statistics'> {
  const make = {
    dfs: () => new DfsStrategy({ reduction: !o.full, preemptions: o.preemptions ?? null }),
    random: () => new RandomStrategy(o.seed),
    pct: () => new PctStrategy(o.seed, o.depth),
  };
  const statistics = new Statistics(make[o.strategy]());
  return { strategy: o.checkDeterminism ? new DeterminismCheck(statistics) : statistics, statistics };
}

const verdictText = (r: SearchResult): string => {
  if (r.verdict === 'violated') return 'violated';
  return r.verdict === 'exhausted' ? 'exhausted' : `bounded by ${r.bound}`;
};

/** For people. */
export function exploredText({ x, options: o, strategy, result: r, statistics, seconds }: Explored): string {
  const { steps, preemptions, actors, preemptedAt } = statistics.summary();
  const range = ({ min, max }: { min: number; max: number }): string => (min === max ? `${min}` : `${min} to ${max}`);
  const lines = [
    `${x.plan.name}: variant ${x.variant.id} (${x.variant.kernels}), ${describe(o)}`,
    `verdict: ${verdictText(r)}: ${r.interleavings} interleavings${r.states === null ? '' : `, ${r.states} states`}`,
    `work: ${r.steps} steps, ${r.redundant} executions given up as redundant, ${seconds.toFixed(2)} s`,
    `executions: ${range(steps)} steps, ${range(preemptions)} preemptions, ${range(actors)} actors`,
  ];
  if (preemptedAt.length > 0)
    lines.push(`preempted most at: ${preemptedAt.map((p) => `${p.fn} (${p.times})`).join(', ')}`);
  const promise = strategy.promise?.() ?? '';
  if (promise !== '') lines.push(promise);
  if (o.checkDeterminism) lines.push('every schedule was executed twice, alike');
  const shown = [...r.outcomes].toSorted(([a], [b]) => (a < b ? -1 : 1));
  if (shown.length > 0) lines.push('outcomes:');
  for (const [outcome, times] of shown.slice(0, 20)) lines.push(`  ${String(times).padStart(8)}  ${outcome}`);
  if (shown.length > 20) lines.push(`  and ${shown.length - 20} more`);
  return `${lines.join('\n')}\n`;
}

/** The document for programs. */
export function exploredJson({ x, options: o, strategy, result: r, statistics, reports, seconds }: Explored): string {
  const document = {
    case: x.plan.name,
    variant: x.variant.id,
    strategy: o.strategy,
    seed: o.strategy === 'dfs' ? null : o.seed,
    verdict: r.verdict,
    bound: r.bound,
    interleavings: r.interleavings,
    redundant: r.redundant,
    states: r.states,
    steps: r.steps,
    seconds,
    promise: strategy.promise?.() ?? null,
    statistics: statistics.summary(),
    outcomes: Object.fromEntries(r.outcomes),
    failures: reports,
  };
  return `${JSON.stringify(document)}\n`;
}
