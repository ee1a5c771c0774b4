import { performance } from 'node:perf_hooks';
import { EXIT } from '../../base/errors.ts';
import { SEED_MAX } from '../../base/prng.ts';
import { stopOnInterrupt } from '../../console/interrupts.ts';
import { print, say } from '../../console/output.ts';
import { unhurried } from '../../console/unhurried.ts';
import type { Execution } from '../../engine/explore/execution.ts';
import type { SearchResult } from '../../engine/explore/search.ts';
import type { Statistics } from '../../engine/explore/statistics.ts';
import type { Strategy } from '../../engine/explore/strategy.ts';
import type { Report } from '../../run/explore-program.ts';
import { choice, defineCommand, flag, integer, required, text } from '../command.ts';

const STRATEGIES = ['dfs', 'random', 'pct'] as const;

/** Executions when the user gives no number: a search to the end, or a fair try. */
const MAX_SCHEDULES = { dfs: 1_000_000, random: 1000, pct: 1000 } as const;

export const command = defineCommand({
  description:
    'Runs a small case of the model under an adversarial scheduler, which decides at every step who goes next. ' +
    'dfs runs every interleaving, one of each set that differs only in the order of independent steps, and ends ' +
    'with the verdict "exhausted"; with a bound, or at random, the verdict is "bounded" and names the bound. The ' +
    'search ends at the first violation of an invariant that the case does not expect: the shortest schedule ' +
    'found is drawn, one column per actor, with a token that repeats it. Of a scenario, the first guest is ' +
    'explored; it needs --max-steps or --max-schedules to terminate. With --driver virtual or wall the same case ' +
    'runs in simulated or real time, there with each actor on its own thread, many times with random delays, and every ' +
    'outcome is checked against those that exploration finds.',
  arguments: {
    case: required('case or scenario: a file, - for standard input, or a name from pinstorm scenarios', [
      'case',
      'defect',
      'scenario',
    ]),
  },
  options: {
    strategy: choice({
      placeholder: 's',
      help: 'how schedules are chosen',
      choices: STRATEGIES,
      default: 'dfs' as const,
    }),
    driver: choice({
      placeholder: 'd',
      help: 'what runs the case: an adversary, simulated time, or threads in real time',
      choices: ['explore', 'virtual', 'wall'],
      default: 'explore' as const,
    }),
    variant: text({
      placeholder: 'v',
      help: 'accounting policy, instead of the one the file names',
      names: ['variant'],
    }),
    maxSteps: integer({ placeholder: 'n', help: 'most steps of one execution', min: 1, default: 10_000 }),
    maxSchedules: integer({
      placeholder: 'n',
      help: `executions at most (${MAX_SCHEDULES.dfs} with dfs, ${MAX_SCHEDULES.random} at random, 200 on threads)`,
      min: 1,
    }),
    preemptions: integer({
      placeholder: 'n',
      help: 'dfs: most preemptions of one execution, without reduction',
      min: 0,
    }),
    depth: integer({ placeholder: 'd', help: 'pct: depth of the defects to find', min: 1, max: 16, default: 3 }),
    seed: integer({ placeholder: 'n', help: 'seed of random and pct', min: 0, max: SEED_MAX, default: 1 }),
    full: flag('dfs: run every interleaving, without partial-order reduction'),
    checkDeterminism: flag('run every schedule twice and compare'),
    json: flag('print one JSON document'),
  },
  examples: [
    { command: 'pinstorm explore cases/over-commit.yaml', what: 'every interleaving under the variant of the case' },
    { command: 'pinstorm explore cases/over-commit.yaml --variant D', what: 'finds how a limit is passed in 4.10' },
    {
      command: 'pinstorm explore cases/over-commit.yaml --driver wall --max-schedules 50',
      what: 'the same case in real time, on threads',
    },
    {
      command: 'pinstorm explore scenarios/boot-storm.yaml --strategy pct --max-steps 999',
      what: 'a scenario, bounded',
    },
  ],
  exits: [EXIT.violated],
  async run({ case: file }, options, interrupts) {
    if (options.driver !== 'explore') {
      const { caseCommand } = await import('../../run/case-run.ts');
      const { readSource } = await import('../../console/input.ts');
      return caseCommand(
        await readSource(file),
        options.driver,
        { ...options, executions: options.maxSchedules },
        interrupts,
      );
    }
    const { loadProgram, makerOf, reportFailure, reportText } = await import('../../run/explore-program.ts');
    const { variantNamed } = await import('../../run/variant-named.ts');
    const { searching } = await import('../../engine/explore/search.ts');
    const program = await loadProgram(file);
    const variant = variantNamed(options.variant ?? program.plan.variant);
    const expected = new Set<string>(program.plan.expect[variant.id] ?? []);
    const x = makerOf(program, variant)(program.plan);
    const { strategy, statistics } = await strategyOf(options);
    for (const note of program.notes) say(`${program.file}: ${note}\n`);
    const start = performance.now();
    const stop = stopOnInterrupt(interrupts);
    const how = options.strategy === 'dfs' ? 'dfs' : `${options.strategy}, seed ${options.seed}`;
    say(`exploring ${program.plan.name} on variant ${variant.id}: ${how}\n`);
    const result = await unhurried(
      searching(x, strategy, {
        stop: () => stop.isSet,
        maxSteps: options.maxSteps,
        maxSchedules: options.maxSchedules ?? MAX_SCHEDULES[options.strategy],
        expected,
        states: options.strategy === 'dfs',
      }),
    );
    const seconds = (performance.now() - start) / 1000;
    const reports: (Report & { readonly expected: boolean; readonly schedules: number })[] = [];
    for (const found of result.failures.values()) {
      reports.push({
        expected: expected.has(found.failure.kind),
        schedules: found.schedules,
        ...(await reportFailure(program, variant, found, options.maxSteps)),
      });
    }
    if (options.json) {
      print(`${JSON.stringify(document(x, options, strategy, result, statistics, reports, seconds))}\n`);
    } else {
      print(summary(x, options, strategy, result, statistics, seconds));
      for (const r of reports.filter((known) => known.expected)) {
        print(`expected: ${r.kind}, first in execution ${r.schedules}: ${r.detail}\n  pinstorm replay ${r.token}\n`);
      }
      for (const r of reports.filter((known) => !known.expected)) say(reportText(r, variant));
    }
    if (result.verdict === 'violated') return EXIT.violated;
    return stop.isSet ? EXIT.stopped : EXIT.ok;
  },
});

interface Chosen {
  readonly strategy: (typeof STRATEGIES)[number];
  readonly preemptions: number | undefined;
  readonly depth: number;
  readonly seed: number;
  readonly full: boolean;
  readonly checkDeterminism: boolean;
}

async function strategyOf(o: Chosen): Promise<{ strategy: Strategy; statistics: Statistics }> {
  const { DfsStrategy } = await import('../../engine/explore/dfs.ts');
  const { RandomStrategy } = await import('../../engine/explore/random.ts');
  const { PctStrategy } = await import('../../engine/explore/pct.ts');
  const { DeterminismCheck } = await import('../../engine/explore/determinism-check.ts');
  const { Statistics: Counted } = await import('../../engine/explore/statistics.ts');
  const make = {
    dfs: () => new DfsStrategy({ reduction: !o.full, preemptions: o.preemptions ?? null }),
    random: () => new RandomStrategy(o.seed),
    pct: () => new PctStrategy(o.seed, o.depth),
  };
  const statistics = new Counted(make[o.strategy]());
  return { strategy: o.checkDeterminism ? new DeterminismCheck(statistics) : statistics, statistics };
}

const verdictText = (r: SearchResult): string => {
  if (r.verdict === 'violated') return 'violated';
  return r.verdict === 'exhausted' ? 'exhausted' : `bounded by ${r.bound}`;
};

function summary(
  x: Execution,
  o: Chosen,
  strategy: Strategy,
  r: SearchResult,
  statistics: Statistics,
  seconds: number,
): string {
  const { steps, preemptions, actors, preemptedAt } = statistics.summary();
  const range = ({ min, max }: { min: number; max: number }): string => (min === max ? `${min}` : `${min} to ${max}`);
  const how = o.strategy === 'dfs' ? 'dfs' : `${o.strategy}, seed ${o.seed}`;
  const lines = [
    `${x.plan.name}: variant ${x.variant.id} (${x.variant.kernels}), ${how}`,
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

function document(
  x: Execution,
  o: Chosen,
  strategy: Strategy,
  r: SearchResult,
  statistics: Statistics,
  reports: readonly (Report & { readonly expected: boolean; readonly schedules: number })[],
  seconds: number,
): object {
  return {
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
}
