/** Ranges of settings, the grid they span, and what comes out of it as table, CSV and knee. */
import { EXIT, UserError } from '../base/errors.ts';
import { kneeOf } from '../base/statistics.ts';
import { VERSION } from '../base/version.ts';
import { ALIKE, settingParts } from '../report/experiment.ts';
import { wrap } from '../report/format.ts';
import { failureLines } from './compare.ts';
import { type Cell, type CellResults, metricsOf, show, summarise } from './experiment.ts';

/** Cells of one sweep at most. */
const CELLS_MAX = 10_000;

export interface Axis {
  readonly key: string;
  readonly values: readonly string[];
  readonly numeric: boolean;
}

/**
 * `guests=1..64:log2` (doubling), `guests=1..9:4` (steps of 4), `guests=1..9`, or `variant=A,D,E`.
 * @throws UserError (exit 104) for anything else.
 */
export function parseAxis(given: string): Axis {
  const split = given.indexOf('=');
  const refuse = (what: string): UserError =>
    new UserError(EXIT.invalid, `${given}: ${what}`, 'for example --set guests=1..64:log2 or --set variant=A,D,E');
  if (split <= 0 || split === given.length - 1) throw refuse('expected key=range');
  const key = given.slice(0, split);
  const range = given.slice(split + 1);
  const match = /^(\d+)\.\.(\d+)(?::(log2|\d+))?$/.exec(range);
  if (match === null) {
    if (range.includes('..')) throw refuse('a range is from..to, from..to:step or from..to:log2, in whole numbers');
    const values = range.split(',').map((v) => v.trim());
    if (values.includes('')) throw refuse('a value of the list is empty');
    const twice = values.find((v, i) => values.indexOf(v) !== i);
    if (twice !== undefined) throw refuse(`${twice} is given twice`);
    return { key, values, numeric: values.every((v) => /^\d+(\.\d+)?$/.test(v)) };
  }
  const [from, to] = [Number(match[1]), Number(match[2])];
  const step = match[3] === 'log2' ? 0 : Number(match[3] ?? 1);
  if (from > to) throw refuse(`the range is upside down: write ${to}..${from}`);
  if (match[3] === 'log2' ? from === 0 : step === 0) throw refuse('the range never ends');
  const values: string[] = [];
  for (let v = from; v <= to; v = step === 0 ? v * 2 : v + step) {
    values.push(String(v));
    if (values.length > CELLS_MAX) throw refuse(`more than ${CELLS_MAX} values`);
  }
  return { key, values, numeric: true };
}

/**
 * Every combination of the axes, the first one outermost. @throws UserError (exit 104) for too many or doubled axes.
 */
export function gridOf(axes: readonly Axis[]): Cell[] {
  const doubled = axes.find(({ key }, i) => axes.findIndex((axis) => axis.key === key) !== i);
  if (doubled !== undefined)
    throw new UserError(EXIT.invalid, `--set ${doubled.key} is given twice`, 'put its values into one list');
  const cells = axes.reduce((n, { values }) => n * values.length, 1);
  if (cells > CELLS_MAX)
    throw new UserError(EXIT.invalid, `${cells} cells, at most ${CELLS_MAX}`, 'use fewer values or :log2');
  return axes.reduce<Cell[]>(
    (grid, { key, values }) =>
      grid.flatMap(({ labels, overrides }) =>
        values.map((value) => ({
          labels: { ...labels, [key]: value },
          overrides: [
            ...overrides,
            { path: key, value, origin: { kind: 'flag' as const, text: `--set ${key}=${value}` } },
          ],
        })),
      ),
    [{ labels: {}, overrides: [] }],
  );
}

export interface Knee {
  /** The settings of the other axes. */
  readonly labels: Readonly<Record<string, string>>;
  readonly key: string;
  readonly at: number | null;
}

/** Per combination of the other axes, where `metric` stops growing along the first numeric axis. */
export function kneesOf(axes: readonly Axis[], cells: readonly CellResults[], metric: string): Knee[] {
  const axis = axes.find(({ numeric, values }) => numeric && values.length >= 3);
  if (axis === undefined) return [];
  const groups = new Map<string, CellResults[]>();
  for (const cell of cells) {
    const { [axis.key]: _own, ...rest } = cell.labels;
    const id = JSON.stringify(rest);
    groups.set(id, [...(groups.get(id) ?? []), cell]);
  }
  return [...groups].map(([id, own]) => {
    const points = own
      .map((cell) => [Number(cell.labels[axis.key]), summarise(cell, metric)?.median ?? 0] as const)
      .toSorted((a, b) => a[0] - b[0]);
    return {
      labels: JSON.parse(id) as Record<string, string>,
      key: axis.key,
      at: kneeOf(
        points.map((p) => p[0]),
        points.map((p) => p[1]),
      ),
    };
  });
}

/** One line per cell and metric: the settings, the metric, its unit, median, interval, and every repetition. */
export function sweepCsv(axes: readonly Axis[], cells: readonly CellResults[]): string {
  const quote = (text: string): string => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [
    [...axes.map(({ key }) => quote(key)), 'metric', 'unit', 'median', 'low', 'high', 'coverage', 'repetitions'].join(
      ',',
    ),
  ];
  const metrics = metricsOf(cells);
  for (const cell of cells) {
    for (const [metric, unit] of metrics) {
      const own = summarise(cell, metric);
      if (own === null) continue;
      const { low, high, coverage } = own.interval;
      const labels = axes.map(({ key }) => cell.labels[key] ?? '');
      lines.push(
        [...labels, metric, unit, own.median, low, high, coverage, own.values.join(' ')]
          .map(String)
          .map(quote)
          .join(','),
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

/** The document for programs. */
export function sweepJson(
  axes: readonly Axis[],
  cells: readonly CellResults[],
  knees: readonly Knee[],
  complete: boolean,
): string {
  const units = [...metricsOf(cells)];
  const rows = cells.map((cell) => ({
    labels: cell.labels,
    variant: cell.variant,
    seeds: cell.seeds,
    violations: cell.violations,
    failures: cell.failures,
    exitCode: cell.exitCode,
    setting: cell.setting,
    metrics: Object.fromEntries(units.map(([metric, unit]) => [metric, { unit, ...summarise(cell, metric) }])),
  }));
  return `${JSON.stringify({ version: VERSION, complete, axes, cells: rows, knees }, null, 2)}\n`;
}

/** The cells with the medians of a few metrics, and the knees. */
export function sweepText(
  axes: readonly Axis[],
  cells: readonly CellResults[],
  metrics: readonly string[],
  knees: readonly Knee[],
): string {
  const units = metricsOf(cells);
  const heads = [...axes.map(({ key }) => key), ...metrics];
  const rows = cells.map((cell) => [
    ...axes.map(({ key }) => cell.labels[key] ?? ''),
    ...metrics.map((metric) => {
      const own = summarise(cell, metric);
      return own === null ? '-' : show(own.median, units.get(metric) ?? 'count');
    }),
  ]);
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => (row[i] ?? '').length)) + 2);
  const line = (row: readonly string[]): string =>
    row
      .map((text, i) => text.padEnd(widths[i] ?? 0))
      .join('')
      .trimEnd();
  const lines = [line(heads), ...rows.map(line)];
  if (knees.length > 0) lines.push('');
  for (const { labels, key, at } of knees) {
    const where = Object.entries(labels)
      .map(([k, v]) => `${k}=${v}`)
      .join(' ');
    lines.push(
      `${where === '' ? '' : `${where}: `}${at === null ? `throughput has no knee in this range of ${key}` : `throughput flattens at ${key}=${at}`}`,
    );
  }
  const random = cells.some(({ setting }) => setting.random);
  if (random && knees.length > 0 && cells[0]?.seeds.length === 1)
    lines.push('Each knee rests on 1 repetition: use --repeat 5 to see how far it moves.');
  const failures = failureLines(cells, 80);
  lines.push('', ...failures, ...(failures.length === 0 ? [] : ['']));
  if (!random) lines.push(ALIKE);
  lines.push(...wrap(`${settingParts(cells).join('; ')}.`, 80));
  return `${lines.join('\n')}\n`;
}
