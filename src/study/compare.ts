/** Compares cells of an experiment with the first of them, metric by metric. */
import { type Interval, mannWhitney, median } from '../base/statistics.ts';
import { VERSION } from '../base/version.ts';
import {
  ALIKE,
  cellName,
  effectText,
  type ExperimentCell,
  type Figure,
  findingsOf,
  settingParts,
} from '../report/experiment.ts';
import { wrap } from '../report/format.ts';
import { type CellResults, metricsOf, type MetricUnit, show, summarise, valuesOf } from './experiment.ts';

/** A difference less likely than this by chance is called one. */
export const SIGNIFICANT = 0.05;

export interface Comparison {
  readonly name: string;
  readonly median: number;
  readonly interval: Interval;
  readonly values: readonly number[];
  /** Against the first cell; null for that cell itself, or where one of the two has no figures. */
  readonly against: {
    /** Median of the ratios of repetitions with the same seed. */
    readonly ratio: number | null;
    /** Two-sided p-value of the Mann-Whitney test; null where nothing is random, so that every difference is one. */
    readonly p: number | null;
    readonly significant: boolean;
  } | null;
}

export interface MetricComparison {
  readonly metric: string;
  readonly unit: MetricUnit;
  readonly cells: readonly (Comparison | null)[];
}

export function compareCells(cells: readonly CellResults[], name: (cell: CellResults) => string): MetricComparison[] {
  const [base] = cells;
  if (base === undefined) return [];
  return [...metricsOf(cells)].map(([metric, unit]) => {
    const reference = valuesOf(base, metric);
    return {
      metric,
      unit,
      cells: cells.map((cell): Comparison | null => {
        const own = summarise(cell, metric);
        if (own === null) return null;
        const comparable = cell !== base && reference.length > 0;
        return {
          name: name(cell),
          ...own,
          against: comparable ? against(reference, own.values, base.setting.random || cell.setting.random) : null,
        };
      }),
    };
  });
}

function against(reference: readonly number[], values: readonly number[], random: boolean): Comparison['against'] {
  const p = random ? mannWhitney(reference, values) : null;
  const paired = reference.length === values.length && reference.every((v) => v !== 0);
  const ratio = paired ? median(values.map((v, i) => v / (reference[i] as number))) : null;
  return { ratio, p, significant: p === null ? reference[0] !== values[0] : p < SIGNIFICANT };
}

/** The cells as a report holds them; `compared`: each beside the first. */
export function experimentCells(cells: readonly CellResults[], compared: boolean): ExperimentCell[] {
  const units = metricsOf(cells);
  const rows = new Map(compared ? compareCells(cells, () => '').map((row) => [row.metric, row.cells]) : []);
  const figureOf = (cell: CellResults, index: number, metric: string): [string, Figure][] => {
    const own = summarise(cell, metric);
    if (own === null) return [];
    const beside = rows.get(metric)?.[index]?.against ?? null;
    return [[metric, { unit: units.get(metric) ?? 'count', ...own, against: beside }]];
  };
  return cells.map((cell, index) => ({
    labels: { ...cell.labels },
    variant: cell.variant,
    seeds: [...cell.seeds],
    setting: cell.setting,
    violations: [...cell.violations],
    ...(cell.failures.length === 0 ? {} : { failures: [...cell.failures] }),
    ...(cell.exitCode === 0 ? {} : { exitCode: cell.exitCode }),
    metrics: Object.fromEntries([...units.keys()].flatMap((metric) => figureOf(cell, index, metric))),
  }));
}

/** The document for programs. */
export function compareJson(
  table: readonly MetricComparison[],
  results: readonly CellResults[],
  minEffect: number,
  complete: boolean,
): string {
  const cells = results.map(({ figures: _figures, labels: _labels, ...cell }) => cell);
  return `${JSON.stringify({ version: VERSION, complete, minEffect, cells, metrics: table }, null, 2)}\n`;
}

const COLUMNS = 80;
const GAP = 2;

/**
 * Tables of at most 80 columns: medians, and how each cell relates to the first; `~` where the difference may be
 * chance. Cells that find no place beside the others have a table of their own, with the first again.
 */
export function compareText(
  table: readonly MetricComparison[],
  names: readonly string[],
  results: readonly CellResults[],
  minEffect: number,
): string {
  const repeat = results[0]?.seeds.length ?? 0;
  const random = results.some(({ setting }) => setting.random);
  const rows = table.filter(({ cells }) => cells.some((cell) => cell !== null && cell.median !== 0));
  const columns = names.map((name, i) => [name, ...rows.map(({ unit, cells }) => cellText(cells[i] ?? null, unit))]);
  const head = ['', ...rows.map(({ metric }) => metric)];
  const [base = [], ...others] = columns;
  const widthOf = (column: readonly string[]): number => GAP + Math.max(...column.map(({ length }) => length));
  const blocks: string[][][] = [];
  let room = 0;
  for (const column of others) {
    if (widthOf(column) > room || blocks.length === 0) {
      blocks.push([head, base]);
      room = COLUMNS + GAP - widthOf(head) - widthOf(base);
    }
    blocks.at(-1)?.push(column);
    room -= widthOf(column);
  }
  const lines = blocks.flatMap((block) => [
    ...head.map((_, row) => block.map((column) => (column[row] ?? '').padEnd(widthOf(column))).join('')),
    '',
  ]);
  const findings = findingsOf({ cells: experimentCells(results, true), minEffect });
  for (const { sentence } of findings) lines.push(...wrap(sentence, COLUMNS));
  lines.push(...failureLines(results, COLUMNS), '');
  const baseName = names[0] ?? '';
  if (random) {
    const medians = repeat === 1 ? 'Figures of 1 repetition' : `Medians of ${repeat} repetitions with paired seeds`;
    lines.push(`${medians}; change against ${baseName}.`, `~: not significant (Mann-Whitney, p >= ${SIGNIFICANT}).`);
  } else lines.push(`${ALIKE} Change against ${baseName}.`);
  lines.push(`Changes below ${effectText(minEffect)} are neither better nor worse.`);
  lines.push(...wrap(`${settingParts(results).join('; ')}.`, COLUMNS));
  if (random && repeat < 4) lines.push('With fewer than 4 repetitions nothing can be significant: use --repeat 5.');
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

/** Failures that are written out. */
const FAILED_MAX = 10;

/** What failed in which cell, or was violated unexpectedly, in lines of at most `columns`. */
export function failureLines(cells: readonly CellResults[], columns: number): string[] {
  const all = cells.flatMap((cell) => {
    const name = cellName(cell);
    const violated = cell.violations.length === 0 ? [] : [`violated unexpectedly: ${cell.violations.join(', ')}`];
    return [...violated, ...cell.failures].map((text) => `${name}: ${text}.`);
  });
  const kept = all.slice(0, FAILED_MAX);
  const more = all.length > kept.length ? [`and ${all.length - kept.length} more: see --json.`] : [];
  return [...kept, ...more].flatMap((text) => wrap(text, columns));
}

function cellText(cell: Comparison | null, unit: MetricUnit): string {
  if (cell === null) return '-';
  const own = show(cell.median, unit);
  if (cell.against === null) return own;
  const { ratio, p, significant } = cell.against;
  if (!significant) return p === null ? `${own} =` : `${own} ~`;
  const percent = ratio === null ? null : (ratio - 1) * 100;
  const change =
    percent === null ? '' : `${percent >= 0 ? '+' : ''}${percent.toFixed(Math.abs(percent) < 100 ? 1 : 0)} % `;
  return p === null ? `${own} ${change}`.trimEnd() : `${own} ${change}p${p < 0.001 ? '<0.001' : `=${p.toFixed(3)}`}`;
}
