import { EXIT } from '../../base/errors.ts';
import { SEED_MAX } from '../../base/prng.ts';
import { stopOnInterrupt } from '../../console/interrupts.ts';
import { print, say } from '../../console/output.ts';
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
    const [{ loadProgram, reportText }, { variantNamed }, { describe, explored, exploredJson, exploredText }] =
      await Promise.all([
        import('../../run/explore-program.ts'),
        import('../../run/variant-named.ts'),
        import('../../study/explore.ts'),
      ]);
    const program = await loadProgram(file);
    const variant = variantNamed(options.variant ?? program.plan.variant);
    for (const note of program.notes) say(`${program.file}: ${note}\n`);
    const stop = stopOnInterrupt(interrupts);
    say(`exploring ${program.plan.name} on variant ${variant.id}: ${describe(options)}\n`);
    const how = { ...options, maxSchedules: options.maxSchedules ?? MAX_SCHEDULES[options.strategy] };
    const found = await explored(program, variant, how, stop);
    const { result, reports } = found;
    if (options.json) {
      print(exploredJson(found));
    } else {
      print(exploredText(found));
      for (const r of reports.filter((known) => known.expected)) {
        print(`expected: ${r.kind}, first in execution ${r.schedules}: ${r.detail}\n  pinstorm replay ${r.token}\n`);
      }
      for (const r of reports.filter((known) => !known.expected)) say(reportText(r, variant));
    }
    if (result.verdict === 'violated') return EXIT.violated;
    return stop.isSet ? EXIT.stopped : EXIT.ok;
  },
});
