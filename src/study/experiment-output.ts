/** Saves a comparison or a sweep: experiment.json and its report. */
import { join } from 'node:path';
import { VERSION } from '../base/version.ts';
import { say } from '../console/output.ts';
import { type Experiment, EXPERIMENT_VERSION, writeExperiment } from '../report/experiment.ts';
import { renderExperiment } from '../report/html/experiment.ts';
import { writeResult } from '../report/place.ts';
import { experimentCells } from './compare.ts';
import type { CellResults } from './experiment.ts';
import { type Axis, kneesOf } from './sweep.ts';

export interface SavedExperiment {
  readonly kind: Experiment['kind'];
  readonly scenario: string;
  readonly axes: readonly Axis[];
  readonly cells: readonly CellResults[];
  readonly complete: boolean;
  readonly minEffect: number;
}

/** Writes both files into `directory` and says so. @throws UserError 104 when they cannot be written. */
export function saveExperiment(
  directory: string,
  { kind, scenario, axes, cells, complete, minEffect }: SavedExperiment,
): void {
  const experiment: Experiment = {
    schemaVersion: EXPERIMENT_VERSION,
    kind,
    scenario,
    commandLine: ['pinstorm', ...process.argv.slice(2)],
    startedAt: new Date().toISOString(),
    version: VERSION,
    complete,
    minEffect,
    axes: axes.map(({ key, values, numeric }) => ({ key, values: [...values], numeric })),
    cells: experimentCells(cells, kind === 'compare'),
    knees: kneesOf(axes, cells, 'throughput').map(({ labels, key, at }) => ({ labels: { ...labels }, key, at })),
  };
  writeExperiment(directory, experiment);
  writeExperimentHtml(join(directory, 'report.html'), experiment);
}

/** Writes the report of an experiment and says so. @throws UserError 104 when it cannot. */
export function writeExperimentHtml(file: string, experiment: Experiment): void {
  writeResult(file, renderExperiment(experiment), '--out DIR');
  say(`pinstorm: report ${file}\n`);
}
