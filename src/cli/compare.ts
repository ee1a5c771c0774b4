/** Compares cells of an experiment with the first of them, metric by metric. */
import { mannWhitney, median, type Interval } from '../base/statistics.ts';
import { metricsOf, show, summarise, valuesOf, type CellResults, type MetricUnit } from './experiment.ts';

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
    /** Two-sided p-value of the Mann-Whitney test. */
    readonly p: number;
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
        return { name: name(cell), ...own, against: comparable ? against(reference, own.values) : null };
      }),
    };
  });
}

function against(reference: readonly number[], values: readonly number[]): Comparison['against'] {
  const p = mannWhitney(reference, values);
  const paired = reference.length === values.length && reference.every((v) => v !== 0);
  const ratio = paired ? median(values.map((v, i) => v / (reference[i] as number))) : null;
  return { ratio, p, significant: p < SIGNIFICANT };
}

const NAME = 22;
const CELL = 26;

/** A table: medians, and how each cell relates to the first; `~` where the difference may be chance. */
export function compareText(table: readonly MetricComparison[], names: readonly string[], repeat: number): string {
  const lines = [' '.repeat(NAME) + names.map((name, i) => (i === 0 ? name.padEnd(12) : name.padEnd(CELL))).join('')];
  for (const { metric, unit, cells } of table) {
    if (cells.every((cell) => cell === null || cell.median === 0)) continue;
    const row = cells.map((cell, i) => {
      if (cell === null) return '-'.padEnd(i === 0 ? 12 : CELL);
      const own = show(cell.median, unit);
      if (i === 0) return own.padEnd(12);
      const { against: a } = cell;
      if (a === null) return own.padEnd(CELL);
      const change = a.ratio === null ? '' : `${a.ratio >= 1 ? '+' : ''}${((a.ratio - 1) * 100).toFixed(1)} %`;
      return `${own} ${a.significant ? `${change} p=${a.p.toPrecision(2)}` : `~ p=${a.p.toPrecision(2)}`}`.padEnd(CELL);
    });
    lines.push(metric.padEnd(NAME) + row.join(''));
  }
  const [first] = names;
  lines.push(
    '',
    `Medians of ${repeat} repetitions with paired seeds; change against ${first ?? ''}; ~: not significant (Mann-Whitney, p >= ${SIGNIFICANT}).`,
  );
  if (repeat < 4) lines.push('With fewer than 4 repetitions no difference can be significant: use --repeat 5 or more.');
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}
