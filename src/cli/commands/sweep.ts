import { EXIT, UserError } from '../../base/errors.ts';
import { print, say } from '../../console/output.ts';
import { tryDirectory, tryFile, writeResult } from '../../report/place.ts';
import { type Axis, parseAxis } from '../../study/sweep.ts';
import { defineCommand, flag, integer, repeated, scenarioFile, text } from '../command.ts';
import { EXPERIMENT_OPTIONS, MIN_EFFECT_OPTION, remoteOf } from '../experiment-options.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';

const { set: _set, ...named } = SCENARIO_OPTIONS;

export const command = defineCommand({
  description:
    'Simulates a scenario for every combination of settings, several times each, with the same seeds for all, and ' +
    'prints the medians and the knee of the throughput curve. --set takes ranges and lists: guests=1..64:log2, ' +
    'host.cpus=2..16:2, variant=A,D,E. Write the whole result to a file for plotting with --csv, or to stdout ' +
    'with --json.',
  arguments: { scenario: scenarioFile() },
  options: {
    ...named,
    set: repeated({
      placeholder: 'key=range',
      help: 'an axis of the sweep, or a fixed setting; repeatable',
      parse: parseAxis,
    }),
    metrics: text({
      placeholder: 'list',
      help: 'columns of the table, comma-separated',
      default: 'throughput,map p50,map p99,duration',
    }),
    repeat: integer({ placeholder: 'n', help: 'repetitions of each cell', min: 1, max: 30, default: 3 }),
    ...MIN_EFFECT_OPTION,
    ...EXPERIMENT_OPTIONS,
    threads: integer({ placeholder: 'n', help: 'threads; default: cores', min: 1, max: 256 }),
    csv: text({ placeholder: 'file', help: 'write every figure of every cell to this file' }),
    out: text({ placeholder: 'dir', help: 'write every figure to this directory, with report.html' }),
    json: flag('print one JSON document on stdout'),
    quiet: flag('no progress on stderr'),
  },
  examples: [
    {
      command: 'pinstorm sweep scenarios/huge-guest.yaml --set variant=A,B,D --repeat 1',
      what: 'the regression of variant B',
    },
  ],
  exits: [EXIT.threshold, EXIT.violated],
  async run({ scenario }, options, interrupts) {
    const axes: Axis[] = [...options.set];
    if (axes.length === 0)
      throw new UserError(EXIT.invalid, 'sweep needs at least one axis', 'for example --set variant=A,D,E');
    const [
      { readSource },
      { endingOf, runCells },
      { gridOf, kneesOf, sweepCsv, sweepJson, sweepText },
      { stopOnInterrupt },
      { simulationProgress },
    ] = await Promise.all([
      import('../../console/input.ts'),
      import('../../study/experiment.ts'),
      import('../../study/sweep.ts'),
      import('../../console/interrupts.ts'),
      import('../../run/simulation-progress.ts'),
    ]);
    const { metricList, refuseBeside, variantList } = await import('../lists.ts');
    const metrics = metricList('--metrics', options.metrics);
    const fixed = overridesOf({ ...options, set: [] });
    for (const { key, values } of axes) {
      refuseBeside(`--set ${key}=`, [key], fixed);
      if (key === 'variant') variantList('--set variant', values.join(','));
    }
    if (options.out !== undefined) tryDirectory(options.out);
    if (options.csv !== undefined) tryFile(options.csv, '--csv FILE');
    const remote = await remoteOf(options);
    const progress = (planned: readonly (number | null)[]) => simulationProgress(options.quiet, planned);
    const source = await readSource(scenario);
    const stop = stopOnInterrupt(interrupts);
    const cells = await runCells(source, fixed, gridOf(axes), { ...options, progress, stop, remote });
    const { complete, note, exitCode } = endingOf(cells, options.repeat);
    const knees = kneesOf(axes, cells, 'throughput');
    if (options.csv !== undefined) writeResult(options.csv, sweepCsv(axes, cells), '--csv FILE');
    print(options.json ? sweepJson(axes, cells, knees, complete) : sweepText(axes, cells, metrics, knees));
    if (options.out !== undefined) {
      const { saveExperiment } = await import('../../study/experiment-output.ts');
      const { minEffect } = options;
      saveExperiment(options.out, { kind: 'sweep', scenario: source.source.file, axes, cells, complete, minEffect });
    }
    if (note !== null) say(note);
    return exitCode;
  },
});
