import { EXIT, UserError } from '../../base/errors.ts';
import { VERSION } from '../../base/version.ts';
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
      { gravest, repetitionsOf, runCells, summarise, metricsOf },
      { gridOf, kneesOf, sweepCsv, sweepText },
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
    const how = { ...options, progress, stop, remote };
    const cells = await runCells(source, fixed, gridOf(axes), how);
    const repetitions = cells[0]?.seeds.length ?? 0;
    if (repetitions === 0)
      throw new UserError(EXIT.stopped, 'stopped by the user before a repetition was complete', null);
    const planned = repetitionsOf(cells, options.repeat);
    const stopped = repetitions < planned;
    const knees = kneesOf(axes, cells, 'throughput');
    if (options.csv !== undefined) writeResult(options.csv, sweepCsv(axes, cells), '--csv FILE');
    if (options.json) {
      const units = metricsOf(cells);
      const rows = cells.map((cell) => ({
        labels: cell.labels,
        variant: cell.variant,
        seeds: cell.seeds,
        violations: cell.violations,
        failures: cell.failures,
        exitCode: cell.exitCode,
        setting: cell.setting,
        metrics: Object.fromEntries([...units].map(([metric, unit]) => [metric, { unit, ...summarise(cell, metric) }])),
      }));
      print(`${JSON.stringify({ version: VERSION, complete: !stopped, axes, cells: rows, knees }, null, 2)}\n`);
    } else {
      print(sweepText(axes, cells, metrics, knees));
    }
    if (options.out !== undefined) {
      const { saveExperiment } = await import('../../study/experiment-output.ts');
      saveExperiment(options.out, {
        kind: 'sweep',
        scenario: source.source.file,
        axes,
        cells,
        complete: !stopped,
        minEffect: options.minEffect,
      });
    }
    if (stopped) say(`pinstorm: stopped, these are ${repetitions} of ${planned} repetitions\n`);
    const failed = gravest(cells.map(({ exitCode }) => exitCode));
    if (failed !== EXIT.ok) return failed;
    return stopped ? EXIT.stopped : EXIT.ok;
  },
});
