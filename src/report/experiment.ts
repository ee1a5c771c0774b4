/** What `compare` and `sweep` leave behind with --out, and what it says in words. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { EXIT, UserError } from '../base/errors.ts';
import { plural } from '../base/plural.ts';
import { VERSION } from '../base/version.ts';
import { duration, quantity } from './format.ts';
import { tryDirectory, writeResult } from './place.ts';

export const EXPERIMENT_VERSION = 2;

const Figure = z.object({
  unit: z.enum(['ns', 'per_second', 'count']),
  median: z.number(),
  /** Confidence interval of the median, with the probability that it covers the true one. */
  interval: z.object({ low: z.number(), high: z.number(), coverage: z.number() }),
  /** One per repetition, in the order of the seeds. */
  values: z.array(z.number()),
  /** Against the first cell, of a comparison; null for that cell itself, or where it has no such figure. */
  against: z.object({ ratio: z.number().nullable(), p: z.number().nullable(), significant: z.boolean() }).nullable(),
});
export type Figure = z.infer<typeof Figure>;

/** What the figures of a cell rest on. */
const Setting = z.object({
  profile: z.object({ name: z.string(), calibrated: z.boolean() }),
  hosts: z.number(),
  /** Of one host; null: one for each thread. */
  cpus: z.number().nullable(),
  /** Kernels that account as the variant does. */
  kernels: z.string(),
  /** False: the scenario draws nothing, so that one repetition says what any number of them would. */
  random: z.boolean(),
});
export type Setting = z.infer<typeof Setting>;

/** experiment.json. */
export const Experiment = z.object({
  schemaVersion: z.literal(EXPERIMENT_VERSION),
  kind: z.enum(['compare', 'sweep']),
  scenario: z.string(),
  commandLine: z.array(z.string()),
  startedAt: z.string(),
  version: z.string(),
  /** False if it was stopped: then it holds the repetitions that were complete. */
  complete: z.boolean(),
  /** A difference smaller than this share is neither better nor worse. */
  minEffect: z.number(),
  axes: z.array(z.object({ key: z.string(), values: z.array(z.string()), numeric: z.boolean() })),
  cells: z.array(
    z.object({
      labels: z.record(z.string(), z.string()),
      variant: z.string(),
      seeds: z.array(z.number()),
      setting: Setting,
      /** Invariants violated though the scenario does not expect it. */
      violations: z.array(z.string()),
      /** Operations that failed, and what else speaks against the verdict pass, in sentences. Left out: none. */
      failures: z.array(z.string()).optional(),
      /** The gravest of the verdicts of its repetitions; left out: a pass. */
      exitCode: z.number().int().optional(),
      metrics: z.record(z.string(), Figure),
    }),
  ),
  /** Where throughput stops growing along the first numeric axis, per setting of the others; null: nowhere. */
  knees: z.array(z.object({ labels: z.record(z.string(), z.string()), key: z.string(), at: z.number().nullable() })),
});
export type Experiment = z.infer<typeof Experiment>;
export type ExperimentCell = Experiment['cells'][number];

const FILE = 'experiment.json';

/**
 * The experiment in a directory; null when there is none. @throws UserError 104 when it is damaged or of another
 * version.
 */
export function readExperiment(directory: string): Experiment | null {
  let text: string;
  try {
    text = readFileSync(join(directory, FILE), 'utf8');
  } catch {
    return null;
  }
  const refuse = (what: string): UserError =>
    new UserError(EXIT.invalid, `${join(directory, FILE)} ${what}`, 'run the comparison or sweep again');
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    throw refuse('is not JSON');
  }
  const checked = Experiment.safeParse(data);
  if (checked.success) return checked.data;
  const [issue] = checked.error.issues;
  throw refuse(`is not an experiment: ${issue?.path.join('.') || 'the file'}: not what one has there`);
}

/** Writes experiment.json into a directory. @throws UserError 104 when it cannot, 113 when no space is left. */
export function writeExperiment(directory: string, experiment: Experiment): void {
  tryDirectory(directory);
  writeResult(join(directory, FILE), `${JSON.stringify(experiment, null, 2)}\n`, '--out DIR');
}

/** What a cell is called: the settings that make it one. */
export const cellName = ({ labels }: Pick<ExperimentCell, 'labels'>): string =>
  Object.entries(labels)
    .map(([key, value]) => (key === 'variant' ? value : `${key} ${value}`))
    .join(', ');

export function showFigure(value: number, unit: Figure['unit']): string {
  if (unit === 'ns') return duration(Math.round(value));
  return unit === 'per_second' ? `${quantity(Number(value.toPrecision(4)))}/s` : quantity(Number(value.toPrecision(4)));
}

/** Differences of less than this share are no finding, unless --min-effect says otherwise. */
export const MIN_EFFECT = 0.01;

export const ALIKE = 'All repetitions are alike: this scenario draws nothing.';

/** What the figures rest on, part by part; what differs between cells is listed. */
export function settingParts(
  cells: readonly (Pick<ExperimentCell, 'variant' | 'setting'> & { readonly seeds: readonly number[] })[],
): string[] {
  const each = (text: (cell: (typeof cells)[number]) => string): string => [...new Set(cells.map(text))].join(', ');
  const seeds = [...new Set(cells.flatMap((cell) => cell.seeds))];
  return [
    `profile ${each(({ setting: { profile } }) => `${profile.name} (${profile.calibrated ? 'calibrated' : 'not calibrated'})`)}`,
    each(
      ({ setting: { hosts, cpus } }) =>
        `${plural(hosts, 'host')} x ${cpus === null ? 'a CPU for each thread' : plural(cpus, 'CPU')}`,
    ),
    seeds.length < 2 ? `seed ${seeds.join('')}` : `seeds ${seeds[0]} to ${seeds.at(-1)}`,
    each(({ variant, setting }) => `${variant} = ${setting.kernels}`),
    `pinstorm ${VERSION}`,
  ];
}

/** An operation of which some calls failed. */
export interface Failure {
  readonly op: string;
  readonly total: number;
  readonly failed: number;
  /** Names of outcomes: `enomem`. */
  readonly errors: readonly string[];
}

/** An outcome as an error: ENOMEM of `enomem`. */
export const outcomeText = (name: string): string => (name === 'other_error' ? 'another error' : name.toUpperCase());

/** What an experiment must say of failed operations, a sentence for each. */
export const failureSentences = (failures: readonly Failure[]): string[] =>
  failures.map(({ op, total, failed, errors }) => {
    const names = errors.map(outcomeText).join(', ');
    const ops = `${op}${op.endsWith('ch') ? 'es' : op.endsWith('s') ? '' : 's'}`;
    const what = `${failed} of ${total} ${ops} were refused (${names})`;
    return failed === total
      ? `${what}: it has no latency of ${op}, and its throughput and waits are those of refusals`
      : `${what}: its latencies of ${op} are those of the others, its throughput and waits of all`;
  });

/** How a figure stands to that of the base; `small`: it differs, by less than is worth a word. */
export type Change = 'better' | 'worse' | 'same' | 'small' | 'unknown';

/** Latencies, waits and counts of what went wrong are better when smaller, rates when larger. */
export function changeOf({ against, unit }: Pick<Figure, 'against' | 'unit'>, minEffect: number): Change {
  if (against === null) return 'unknown';
  if (!against.significant || against.ratio === null || against.ratio === 1) return 'same';
  if (Math.abs(against.ratio - 1) < minEffect) return 'small';
  return against.ratio < 1 === (unit !== 'per_second') ? 'better' : 'worse';
}

export const changeText = ({ against }: Figure): string => {
  if (against === null || against.ratio === null) return '';
  const percent = (against.ratio - 1) * 100;
  if (Math.abs(percent) >= 1000) return `${quantity(Number(against.ratio.toPrecision(3)))} times`;
  return `${percent > 0 ? '+' : ''}${Math.abs(percent) < 0.1 ? Number(percent.toPrecision(1)) : percent.toFixed(Math.abs(percent) < 10 ? 1 : 0)} %`;
};

/** How far a figure is from that of the base, the same for halves and doubles. */
const effectOf = ({ against }: Figure): number => Math.abs(Math.log(Math.max(against?.ratio ?? 1, 1e-9)));

export const effectText = (share: number): string => `${Number((share * 100).toPrecision(3))} %`;

/** A cell of a comparison beside the first, in words: what got worse, what better, and what cannot be told apart. */
export interface Finding {
  readonly cell: string;
  readonly change: Change;
  readonly sentence: string;
}

/** `map` of `map p99`, `wait mmap_write` of `wait mmap_write total`; a metric that is alone is its own family. */
const familyOf = (metric: string): string => metric.replace(/ (mean|p50|p99|max|total)$/, '');

/** Of each family the figure that differs most is named. */
export function findingsOf({ cells, minEffect }: Pick<Experiment, 'cells' | 'minEffect'>): Finding[] {
  const [base, ...others] = cells;
  if (base === undefined) return [];
  return others.map((cell) => {
    const figures = Object.entries(cell.metrics).filter(([, { against }]) => against !== null);
    const list = (wanted: Change): string[] =>
      figures
        .filter(([, figure]) => changeOf(figure, minEffect) === wanted)
        .toSorted(([, a], [, b]) => effectOf(b) - effectOf(a))
        .filter(([name], i, all) => all.findIndex(([other]) => familyOf(other) === familyOf(name)) === i)
        .map(([name, figure]) => `${name} ${changeText(figure)}`);
    const [worse, better] = [list('worse'), list('better')];
    const name = cellName(cell);
    const than = `${name} against ${cellName(base)}`;
    const most = (all: readonly string[]): string =>
      all.length <= 4 ? all.join(', ') : `${all.slice(0, 4).join(', ')} and ${all.length - 4} more`;
    if (worse.length === 0 && better.length === 0) {
      if (!cell.setting.random && !base.setting.random) {
        const none = figures.every(([, { against }]) => against?.ratio === 1 || against?.significant !== true);
        const what = none ? 'no figure differs' : `no figure differs by ${effectText(minEffect)} or more`;
        return { cell: name, change: 'same', sentence: `${than}: ${what}.` };
      }
      const few = cell.seeds.length < 4 ? ' With fewer than 4 repetitions nothing can be: use --repeat 5 or more.' : '';
      const small = list('small').length;
      const what =
        small > 0 ? `no difference of ${effectText(minEffect)} or more is significant` : 'no difference is significant';
      return { cell: name, change: 'same', sentence: `${than}: ${what}.${few}` };
    }
    const parts = [
      ...(worse.length > 0 ? [`worse in ${most(worse)}`] : []),
      ...(better.length > 0 ? [`better in ${most(better)}`] : []),
    ];
    const word =
      worse.length > 0 && better.length > 0 ? 'A trade' : worse.length > 0 ? 'A regression' : 'An improvement';
    const change = worse.length === 0 ? 'better' : 'worse';
    return { cell: name, change, sentence: `${word}, ${than}: ${parts.join('; ')}.` };
  });
}
