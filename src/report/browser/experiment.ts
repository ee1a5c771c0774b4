/**
 * The script of the report of a sweep: a metric along the numeric axis, a line with its band for each setting of the
 * others.
 */
import { choice, dataTable, element } from './dom.ts';
import { type Line, Plot, type PlotSpec, showValue, type Unit } from './plot.ts';
import { setUpTheme } from './theme.ts';

interface Figure {
  readonly unit: 'ns' | 'per_second' | 'count';
  readonly median: number;
  readonly interval: { readonly low: number; readonly high: number };
}

interface Experiment {
  readonly axes: readonly { readonly key: string; readonly values: readonly string[]; readonly numeric: boolean }[];
  readonly cells: readonly {
    readonly labels: Readonly<Record<string, string>>;
    readonly metrics: Readonly<Record<string, Figure>>;
  }[];
}

const { axes, cells } = JSON.parse(document.querySelector('#data')?.textContent ?? '') as Experiment;
const axis = axes.find(({ numeric, values }) => numeric && values.length > 1);
const host = document.querySelector<HTMLElement>('[data-chart="sweep"]');
let plot: Plot | null = null;

/** More lines than these are no picture any more. */
const COLORS = ['--c1', '--c2', '--c3', '--c4', '--c5', '--c6'] as const;
const UNITS: Readonly<Record<Figure['unit'], Unit>> = { ns: 'ns', per_second: 'perSecond', count: 'count' };

function specOf(key: string, metric: string): PlotSpec {
  const xs = [...new Set(cells.map(({ labels }) => Number(labels[key])))].toSorted((a, b) => a - b);
  const groups = new Map<string, Map<number, Figure>>();
  for (const { labels, metrics } of cells) {
    const figure = metrics[metric];
    const rest = Object.entries(labels).filter(([name]) => name !== key);
    const name = rest.map(([k, v]) => (k === 'variant' ? v : `${k} ${v}`)).join(', ') || metric;
    const own = groups.get(name) ?? new Map<number, Figure>();
    groups.set(name, own);
    if (figure !== undefined) own.set(Number(labels[key]), figure);
  }
  const unit = UNITS[cells.find(({ metrics }) => metrics[metric] !== undefined)?.metrics[metric]?.unit ?? 'count'];
  const lines: Line[] = [];
  const bands: [number, number][] = [];
  [...groups].slice(0, COLORS.length).forEach(([name, own], i) => {
    const tint = COLORS[i] as string;
    const along = (of: (figure: Figure) => number): (number | null)[] =>
      xs.map((x) => {
        const figure = own.get(x);
        return figure === undefined ? null : of(figure);
      });
    bands.push([lines.length + 2, lines.length + 1]);
    lines.push(
      { label: name, color: tint, values: along(({ median }) => median), joined: true },
      {
        label: `${name}, low`,
        color: tint,
        dashed: true,
        edge: true,
        values: along(({ interval }) => interval.low),
        joined: true,
      },
      {
        label: `${name}, high`,
        color: tint,
        dashed: true,
        edge: true,
        values: along(({ interval }) => interval.high),
        joined: true,
      },
    );
  });
  return { x: 'value', xs, unit, lines, bands, empty: 'No cell has this metric.' };
}

if (host !== null && axis !== undefined) {
  const { key } = axis;
  const metrics = [...new Set(cells.flatMap((cell) => Object.keys(cell.metrics)))];
  let metric = metrics.includes('throughput') ? 'throughput' : (metrics[0] ?? '');
  const controls = element('div', { class: 'controls' });
  host.append(element('figcaption', {}, [`Along ${key}`]), controls);
  const made = new Plot(host, `a metric along ${key}`);
  plot = made;
  let spec = specOf(key, metric);
  const options = metrics.map((name): [string, string] => [name, name]);
  controls.append(
    choice('Metric', options, metric, (chosen) => {
      metric = chosen;
      made.draw((spec = specOf(key, metric)));
    }),
  );
  host.append(
    dataTable(`Table: along ${key}`, () => ({
      heads: [key, ...spec.lines.map(({ label }) => label)],
      rows: spec.xs.map((x, i) => [String(x), ...spec.lines.map(({ values }) => showValue(values[i], spec.unit))]),
    })),
  );
  made.draw(spec);
}
setUpTheme(() => plot?.redraw());
document.documentElement.dataset['drawn'] = 'true';
