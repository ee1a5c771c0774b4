import { EXIT, UserError } from '../../base/errors.ts';
import { print, say } from '../../console/output.ts';
import { tryDirectory } from '../../report/place.ts';
import { defineCommand, flag, integer, scenarioFile, text } from '../command.ts';
import { EXPERIMENT_OPTIONS, MIN_EFFECT_OPTION, remoteOf } from '../experiment-options.ts';
import { overridesOf, SCENARIO_OPTIONS } from '../scenario-options.ts';

export const command = defineCommand({
  description:
    'Simulates a scenario under several accounting policies, several times each, with the same seeds for all, and ' +
    'reports the differences: medians over the repetitions with their confidence intervals, and a Mann-Whitney ' +
    'test against the first variant. Samples of different repetitions are never pooled.',
  arguments: { scenario: scenarioFile() },
  options: {
    ...SCENARIO_OPTIONS,
    variants: text({
      placeholder: 'list',
      help: 'variants or kernel versions, comma-separated; the first is the base',
      names: ['variant'],
    }),
    repeat: integer({ placeholder: 'n', help: 'repetitions of each', min: 1, max: 30, default: 5 }),
    ...MIN_EFFECT_OPTION,
    ...EXPERIMENT_OPTIONS,
    threads: integer({ placeholder: 'n', help: 'threads; default: cores', min: 1, max: 256 }),
    out: text({ placeholder: 'dir', help: 'write every figure to this directory, with report.html' }),
    json: flag('print one JSON document on stdout'),
    quiet: flag('no progress on stderr'),
  },
  examples: [
    {
      command: 'pinstorm compare scenarios/boot-storm.yaml --variants D,E --duration 5s',
      what: 'what waiting for the lock costs',
    },
    {
      command: 'pinstorm compare scenarios/boot-storm.yaml --variants D,E --out runs/d-e',
      what: 'the same with runs/d-e/report.html',
    },
  ],
  exits: [EXIT.threshold, EXIT.violated],
  async run({ scenario }, options, interrupts) {
    const example = 'for example --variants A,B,D,E';
    if (options.variants === undefined) throw new UserError(EXIT.invalid, '--variants is missing', example);
    const { refuseBeside, variantList } = await import('../lists.ts');
    const variants = variantList('--variants', options.variants);
    if (variants.length < 2) throw new UserError(EXIT.invalid, 'compare needs at least two variants', example);
    refuseBeside('--variants', ['variant'], overridesOf(options));
    const [
      { readSource },
      { endingOf, runCells },
      { compareCells, compareJson, compareText },
      { stopOnInterrupt },
      { simulationProgress },
    ] = await Promise.all([
      import('../../console/input.ts'),
      import('../../study/experiment.ts'),
      import('../../study/compare.ts'),
      import('../../console/interrupts.ts'),
      import('../../run/simulation-progress.ts'),
    ]);
    const cells = variants.map((value) => ({
      labels: { variant: value },
      overrides: [
        { path: 'variant', value, origin: { kind: 'flag' as const, text: `--variants ${options.variants}` } },
      ],
    }));
    if (options.out !== undefined) tryDirectory(options.out);
    const remote = await remoteOf(options);
    const progress = (planned: readonly (number | null)[]) => simulationProgress(options.quiet, planned);
    const source = await readSource(scenario);
    const stop = stopOnInterrupt(interrupts);
    const results = await runCells(source, overridesOf(options), cells, { ...options, progress, stop, remote });
    const { complete, note, exitCode } = endingOf(results, options.repeat);
    const table = compareCells(results, ({ labels }) => labels['variant'] ?? '');
    const { minEffect } = options;
    print(
      options.json
        ? compareJson(table, results, minEffect, complete)
        : compareText(table, variants, results, minEffect),
    );
    if (options.out !== undefined) {
      const { saveExperiment } = await import('../../study/experiment-output.ts');
      const axes = [{ key: 'variant', values: variants, numeric: false }];
      const scenarioPath = source.source.file;
      saveExperiment(options.out, {
        kind: 'compare',
        scenario: scenarioPath,
        axes,
        cells: results,
        complete,
        minEffect,
      });
    }
    if (note !== null) say(note);
    return exitCode;
  },
});
