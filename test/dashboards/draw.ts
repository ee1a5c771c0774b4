/** Draws a board as HTML and SVG from what Prometheus answers, in the colours of Grafana's dark theme. */
import {
  fill,
  legendOf,
  type Annotation,
  type Board,
  type FieldDefaults,
  type Panel,
  type Prometheus,
  type Range,
  type Series,
} from './grafana.ts';

export const WIDTH_PX = 1600;
const COLUMN_PX = (WIDTH_PX - 32) / 24;
const ROW_PX = 38;
const GAP_PX = 8;

/** Colours by the names the boards use. */
const NAMED: Readonly<Record<string, string>> = {
  green: '#73bf69',
  red: '#f2495c',
  orange: '#ff9830',
  blue: '#5794f2',
  purple: '#b877d9',
  text: '#ccccdc',
  transparent: 'transparent',
};
const PALETTE = [
  '#73bf69',
  '#f2cc0c',
  '#8ab8ff',
  '#ff780a',
  '#f2495c',
  '#5794f2',
  '#b877d9',
  '#37872d',
  '#fade2a',
  '#c0d8ff',
];
const STYLE = `body{margin:16px;background:#111217;color:#ccccdc;font:13px/1.3 Inter,'DejaVu Sans',sans-serif;width:${WIDTH_PX - 32}px}
h1{font-size:20px;margin:0 0 2px}.vars{color:#8e8ea0;margin:0 0 12px}.vars b{color:#ccccdc;font-weight:normal;background:#181b1f;padding:2px 6px;border:1px solid #2c3235}
.grid{position:relative}.panel{position:absolute;background:#181b1f;border:1px solid #2c3235;border-radius:2px;overflow:hidden;box-sizing:border-box;padding:6px 8px}
.panel.loud h2{color:#fff}svg{overflow:visible}.panel h2{font-size:13px;font-weight:500;margin:0 0 4px;white-space:nowrap;overflow:hidden}.row{position:absolute;font-size:15px;padding:8px 0}
.big{display:flex;align-items:center;justify-content:center;font-size:34px;font-weight:500;white-space:nowrap}
.legend{font-size:11px;color:#a8a8b8;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}.legend i{display:inline-block;width:12px;height:0;border-top:3px solid;margin:0 4px 3px 0}.legend span{margin-right:12px}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:3px 8px;border-bottom:1px solid #2c3235}th{color:#6e9fff;font-weight:500}svg text{fill:#a8a8b8;font-size:11px}`;

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

/** A value with its unit, as short as a label of an axis has to be. */
export function show(value: number, unit = 'none', decimals?: number): string {
  const digits = (n: number): string => String(Number(decimals === undefined ? n.toPrecision(3) : n.toFixed(decimals)));
  const scaled = (steps: readonly (readonly [number, string])[]): string => {
    const [factor, name] = steps.find(([from]) => Math.abs(value) >= from) ?? steps.at(-1)!;
    return value === 0 ? `0${steps.find(([f]) => f === 1)?.[1] ?? ''}` : `${digits(value / factor)}${name}`;
  };
  switch (unit) {
    case 's':
      return scaled([
        [1, ' s'],
        [1e-3, ' ms'],
        [1e-6, ' µs'],
        [1e-9, ' ns'],
      ]);
    case 'percentunit':
      return `${digits(value * 100)}%`;
    case 'bytes':
      return scaled([
        [2 ** 30, ' GiB'],
        [2 ** 20, ' MiB'],
        [2 ** 10, ' KiB'],
        [1, ' B'],
      ]);
    case 'ops':
      return scaled([
        [1e6, ' Mops/s'],
        [1e3, ' kops/s'],
        [1, ' ops/s'],
        [1e-3, ' mops/s'],
      ]);
    case 'cps':
      return scaled([
        [1e6, ' Mc/s'],
        [1e3, ' Kc/s'],
        [1, ' c/s'],
        [1e-3, ' mc/s'],
      ]);
    case 'short':
      return scaled([
        [1e9, ' G'],
        [1e6, ' M'],
        [1e3, ' K'],
        [1, ''],
        [1e-3, ' m'],
        [1e-6, ' µ'],
      ]);
    default:
      return digits(value);
  }
}

interface Line {
  readonly name: string;
  readonly color: string;
  readonly points: readonly (readonly [number, number])[];
  readonly dashed: boolean;
}

/** An instant or a time of something on every chart. */
interface Mark {
  readonly from: number;
  readonly to: number;
  readonly color: string;
  readonly text: string;
}

interface Box {
  readonly width: number;
  readonly height: number;
}

export async function drawBoard(
  board: Board,
  prometheus: Prometheus,
  values: Readonly<Record<string, string>>,
  range: Range,
): Promise<string> {
  const marks = (await Promise.all(board.annotations.list.map((a) => marksOf(a, prometheus, values, range)))).flat();
  const panels = await Promise.all(
    board.panels.map(async (panel) => {
      const { x, y, w, h } = panel.gridPos;
      const place = `left:${x * COLUMN_PX}px;top:${y * ROW_PX}px;width:${w * COLUMN_PX - GAP_PX}px;height:${h * ROW_PX - GAP_PX}px`;
      if (panel.type === 'row') return `<div class="row" style="${place}">▾ ${escape(panel.title)}</div>`;
      const answers = await Promise.all(
        panel.targets.map(({ expr, instant = false }) => {
          const query = fill(expr, values, range);
          return instant ? prometheus.instant(query, range.to - 0.5) : prometheus.range(query, range);
        }),
      );
      const box = { width: w * COLUMN_PX - GAP_PX - 18, height: h * ROW_PX - GAP_PX - 36 };
      const title = escape(fill(panel.title, values, range));
      return `<div class="panel${loud(panel) ? ' loud' : ''}" style="${place}${background(panel, answers)}"><h2>${title}</h2>${inside(panel, answers, box, range, marks)}</div>`;
    }),
  );
  const height = Math.max(...board.panels.map(({ gridPos: { y, h } }) => y + h)) * ROW_PX;
  const choices = board.templating.list
    .filter(({ name }) => values[name] !== undefined && name !== 'shift')
    .map(({ name }) => `${name} <b>${escape(values[name]!)}</b>`);
  return `<!doctype html><meta charset="utf-8"><style>${STYLE}</style><h1>${escape(board.title)}</h1>
<p class="vars">${choices.join(' &nbsp; ')} &nbsp; drawn by the previewer of pinstorm, not by Grafana</p>
<div class="grid" style="height:${height}px">${panels.join('\n')}</div>`;
}

async function marksOf(
  { target, textFormat, iconColor, useValueForTime = false }: Annotation,
  prometheus: Prometheus,
  values: Readonly<Record<string, string>>,
  range: Range,
): Promise<Mark[]> {
  const color = NAMED[iconColor] ?? iconColor;
  const series = await prometheus.range(fill(target.expr, values, range), range);
  return series.flatMap(({ metric, values: samples }): Mark[] => {
    const text = legendOf(textFormat, metric);
    if (useValueForTime) return samples.slice(0, 1).map(([, ms]) => ({ from: ms / 1000, to: ms / 1000, color, text }));
    const active = samples.filter(([, value]) => value > 0).map(([at]) => at);
    return active.length === 0 ? [] : [{ from: active[0]!, to: active.at(-1)!, color, text }];
  });
}

function inside(panel: Panel, answers: readonly Series[][], box: Box, range: Range, marks: readonly Mark[]): string {
  switch (panel.type) {
    case 'timeseries':
      return chart(panel, linesOf(panel, answers), box, range, marks);
    case 'stat':
      return figure(panel, answers, box, range);
    case 'heatmap':
      return heatmap(panel, answers.flat(), box, range);
    case 'state-timeline':
      return timeline(panel, answers, box, range);
    case 'table':
      return table(panel, answers);
    default:
      throw new Error(`a panel of the kind ${panel.type}`);
  }
}

function linesOf(panel: Panel, answers: readonly Series[][]): Line[] {
  const dashing = panel.fieldConfig?.overrides.find(({ properties }) =>
    properties.some(({ id }) => id === 'custom.lineStyle'),
  );
  const pattern = dashing === undefined ? null : new RegExp(dashing.matcher.options.slice(1, -1));
  const named = answers.flatMap((series, i) =>
    series.map(({ metric, values }) => ({ name: legendOf(panel.targets[i]?.legendFormat, metric), values })),
  );
  const names = [...new Set(named.map(({ name }) => name))];
  const fixed = new Map(
    panel.fieldConfig?.overrides.flatMap(({ matcher, properties }) =>
      properties
        .filter(({ id }) => id === 'color')
        .map(({ value }) => [matcher.options, (value as { fixedColor: string }).fixedColor] as const),
    ),
  );
  return named.map(({ name, values }) => ({
    name,
    color: NAMED[fixed.get(name) ?? ''] ?? PALETTE[names.indexOf(name) % PALETTE.length]!,
    points: values.filter(([, v]) => Number.isFinite(v)),
    dashed: pattern?.test(name) ?? false,
  }));
}

const AXIS_PX = 62;

interface Scale {
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

function scaleOf(values: readonly number[], defaults: FieldDefaults, height: number): Scale {
  const log = defaults.custom?.scaleDistribution?.type === 'log';
  if (log) {
    const positive = values.filter((v) => v > 0);
    const low = Math.floor(Math.log10(Math.min(...positive, 1e9)));
    const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive, 1e-9))));
    return {
      at: (v) => height - ((Math.log10(Math.max(v, 10 ** low)) - low) / (high - low)) * height,
      ticks: Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i)),
    };
  }
  const top = defaults.max ?? Math.max(...values, 0) * 1.05;
  const high = top > 0 ? top : 1;
  const raw = high / 4;
  const base = defaults.unit === 'bytes' ? 2 ** Math.floor(Math.log2(raw)) : null;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = base === null ? [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw)! : base * 2;
  return {
    at: (v) => height - (v / high) * height,
    ticks: Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, i) => i * step),
  };
}

const timeAt = ({ from, to }: Range, width: number, t: number): number =>
  AXIS_PX + ((t - from) / (to - from)) * (width - AXIS_PX - 6);

function timeAxis(range: Range, { width, height }: Box): string {
  const step = Math.max(1, Math.ceil((range.to - range.from) / 6));
  const labels: string[] = [];
  for (let t = Math.ceil(range.from / step) * step; t < range.to; t += step) {
    const x = timeAt(range, width, t);
    labels.push(
      `<line x1="${x}" x2="${x}" y1="0" y2="${height}" stroke="#24272c"/>`,
      `<text x="${x}" y="${height + 14}" text-anchor="middle">${new Date(t * 1000).toISOString().slice(11, 19)}</text>`,
    );
  }
  return labels.join('');
}

function chart(panel: Panel, found: readonly Line[], box: Box, range: Range, marks: readonly Mark[]): string {
  const defaults = panel.fieldConfig?.defaults ?? {};
  const stacked = defaults.custom?.stacking?.mode === 'normal';
  const inner = { width: box.width, height: box.height - 36 };
  const lines = stacked ? stack(found) : found;
  const limit = defaults.custom?.thresholdsStyle
    ? defaults.thresholds?.steps.find(({ value }) => value !== null)
    : undefined;
  const values = lines.flatMap(({ points }) => points.map(([, v]) => v));
  const scale = scaleOf(values, defaults, inner.height);
  const x = (t: number): number => timeAt(range, inner.width, t);
  const grid = scale.ticks.map(
    (tick) =>
      `<line x1="${AXIS_PX}" x2="${inner.width}" y1="${scale.at(tick)}" y2="${scale.at(tick)}" stroke="#24272c"/>` +
      `<text x="${AXIS_PX - 6}" y="${scale.at(tick) + 4}" text-anchor="end">${show(tick, defaults.unit)}</text>`,
  );
  const shapes = lines.map(({ points, color, dashed }, i) => {
    const path = points
      .map(([t, v], j) => `${j === 0 ? 'M' : 'L'}${x(t).toFixed(1)} ${scale.at(v).toFixed(1)}`)
      .join('');
    const below = stacked
      ? (lines[i + 1]?.points ?? points.map(([t]) => [t, 0] as const))
          .toReversed()
          .map(([t, v]) => `L${x(t).toFixed(1)} ${scale.at(v).toFixed(1)}`)
          .join('')
      : '';
    const area = stacked ? `<path d="${path}${below}Z" fill="${color}" fill-opacity="0.4" stroke="none"/>` : '';
    const dot =
      points.length === 1
        ? `<circle cx="${x(points[0]![0])}" cy="${scale.at(points[0]![1])}" r="2" fill="${color}"/>`
        : '';
    return `${area}<path d="${path}" fill="none" stroke="${color}" stroke-width="${dashed || stacked ? 1 : 2}"${dashed ? ' stroke-dasharray="8 6"' : ''}/>${dot}`;
  });
  const y = limit === undefined ? -1 : scale.at(limit.value ?? 0);
  const limitLine =
    y < 0
      ? ''
      : `<line x1="${AXIS_PX}" x2="${inner.width}" y1="${y}" y2="${y}" stroke="${NAMED['red']}" stroke-dasharray="6 4"/>`;
  const notes = marks
    .filter(({ from, to }) => to >= range.from && from <= range.to)
    .map(({ from, to, color }) => {
      const [a, b] = [x(Math.max(from, range.from)), x(Math.min(to, range.to))];
      const region = b > a ? `<rect x="${a}" y="${inner.height}" width="${b - a}" height="3" fill="${color}"/>` : '';
      return `<line x1="${a}" x2="${a}" y1="0" y2="${inner.height}" stroke="${color}" stroke-dasharray="3 3"/>${region}`;
    });
  const legend = found.map(
    ({ name, color, dashed }) =>
      `<span><i style="border-color:${color}${dashed ? ';border-top-style:dashed' : ''}"></i>${escape(name)}</span>`,
  );
  const empty = values.length === 0 ? `<text x="${inner.width / 2}" y="${inner.height / 2}">No data</text>` : '';
  return `<svg width="${box.width}" height="${box.height - 18}">${timeAxis(range, inner)}${grid.join('')}${notes.join('')}${shapes.join('')}${limitLine}${empty}</svg><div class="legend">${legend.join('')}</div>`;
}

/** Each line on top of those after it, so that the first is drawn behind. */
function stack(lines: readonly Line[]): Line[] {
  const sums = new Map<number, number>();
  return lines
    .toReversed()
    .map((line) => ({
      ...line,
      points: line.points.map(([t, v]) => {
        const sum = (sums.get(t) ?? 0) + v;
        sums.set(t, sum);
        return [t, sum] as const;
      }),
    }))
    .toReversed();
}

/** The last value of a figure, the words for it, and the colour. */
function said(panel: Panel, answers: readonly Series[][]): { text: string; color: string } {
  const { mappings = [], thresholds, unit, decimals, noValue = 'No data' } = panel.fieldConfig?.defaults ?? {};
  let last: { at: number; value: number; metric: Series['metric'] } | undefined;
  for (const { metric, values } of answers.flat()) {
    for (const [at, value] of values) if (Number.isFinite(value) && at >= (last?.at ?? 0)) last = { at, value, metric };
  }
  if (last === undefined) return { text: noValue, color: '#8e8ea0' };
  const word = mappings[0]?.options[String(last.value)];
  const step = thresholds?.steps.findLast(({ value }) => value === null || last.value >= value);
  const color = NAMED[word?.color ?? step?.color ?? 'text'] ?? '#ccccdc';
  if (panel.options?.textMode === 'name') return { text: legendOf(panel.targets[0]?.legendFormat, last.metric), color };
  return { text: word?.text ?? show(last.value, unit, decimals), color };
}

const loud = (panel: Panel): boolean => panel.options?.colorMode === 'background';

function background(panel: Panel, answers: readonly Series[][]): string {
  if (panel.type !== 'stat' || !loud(panel)) return '';
  return `;background:linear-gradient(120deg,${said(panel, answers).color},#2c3235 180%)`;
}

function figure(panel: Panel, answers: readonly Series[][], { width, height }: Box, range: Range): string {
  const { text, color } = said(panel, answers);
  const size = Math.min(34, (width / text.length) * 1.7);
  let spark = '';
  if (panel.options?.graphMode === 'area') {
    const points = (answers[0]?.[0]?.values ?? []).filter(([, v]) => Number.isFinite(v));
    const top = Math.max(...points.map(([, v]) => v), 1e-12);
    const path = points
      .map(
        ([t, v], i) =>
          `${i === 0 ? 'M' : 'L'}${(((t - range.from) / (range.to - range.from)) * width).toFixed(1)} ${(32 - (v / top) * 30).toFixed(1)}`,
      )
      .join('');
    spark = `<svg width="${width}" height="34" style="position:absolute;bottom:0;left:8px"><path d="${path}" fill="none" stroke="${color}"/></svg>`;
  }
  return `<div class="big" style="height:${height - (spark ? 20 : 0)}px;font-size:${size}px;color:${loud(panel) ? '#fff' : color}">${escape(text)}</div>${spark}`;
}

function heatmap(panel: Panel, series: readonly Series[], box: Box, range: Range): string {
  const inner = { width: box.width, height: box.height - 20 };
  const buckets = series
    .map(({ metric, values }) => ({
      le: Number(metric['le'] === '+Inf' ? Infinity : metric['le']),
      values: new Map(values),
    }))
    .toSorted((a, b) => a.le - b.le);
  // From cumulative counts to those of each bucket.
  const cells = buckets.flatMap(({ le, values }, row) =>
    [...values].map(([t, v]) => ({ row, le, t, count: Math.max(0, v - (buckets[row - 1]?.values.get(t) ?? 0)) })),
  );
  const used = cells.filter(({ count }) => count > 1e-9);
  const low = Math.min(...used.map(({ row }) => row));
  const high = Math.max(...used.map(({ row }) => row));
  const most = Math.max(...used.map(({ count }) => count));
  const rowPx = inner.height / (high - low + 1);
  const cellPx = ((inner.width - AXIS_PX - 6) * range.step) / (range.to - range.from);
  const rects = used.map(({ row, t, count }) => {
    const y = inner.height - (row - low + 1) * rowPx;
    const light = 18 + 62 * Math.sqrt(count / most);
    return `<rect x="${timeAt(range, inner.width, t) - cellPx}" y="${y}" width="${Math.max(1, cellPx - 1)}" height="${rowPx - 1}" fill="hsl(24 90% ${light}%)"/>`;
  });
  const every = Math.max(1, Math.ceil((high - low + 1) / (inner.height / 16)));
  const labels = buckets.slice(low, high + 1).flatMap(({ le }, i) => {
    if (i % every !== 0) return [];
    const y = inner.height - (i + 1) * rowPx + 4;
    return [
      `<text x="${AXIS_PX - 6}" y="${Math.max(10, y)}" text-anchor="end">${le === Infinity ? '∞' : show(le, panel.options?.yAxis?.unit)}</text>`,
    ];
  });
  return `<svg width="${box.width}" height="${box.height}">${timeAxis(range, inner)}${rects.join('')}${labels.join('')}</svg>`;
}

function timeline(panel: Panel, answers: readonly Series[][], box: Box, range: Range): string {
  const words = panel.fieldConfig?.defaults.mappings?.[0]?.options ?? {};
  const rows = answers.flatMap((series, i) =>
    series.map(({ metric, values }) => ({ name: legendOf(panel.targets[i]?.legendFormat, metric), values })),
  );
  const inner = { width: box.width, height: box.height - 40 };
  const rowPx = Math.min(40, inner.height / Math.max(1, rows.length));
  const namePx = 200;
  const x = (t: number): number => namePx + ((t - range.from) / (range.to - range.from)) * (inner.width - namePx - 6);
  const drawn = rows.map(({ name, values }, row) => {
    const cells = values.map(([t, v]) => {
      const color = NAMED[words[String(v)]?.color ?? 'text'];
      return `<rect x="${x(t)}" y="${row * rowPx + 2}" width="${Math.max(0, x(Math.min(t + range.step, range.to)) - x(t)) + 0.5}" height="${rowPx - 4}" fill="${color}"/>`;
    });
    return `<text x="${namePx - 8}" y="${row * rowPx + rowPx / 2 + 4}" text-anchor="end">${escape(name)}</text>${cells.join('')}`;
  });
  const legend = Object.values(words).map(
    ({ text, color }) => `<span><i style="border-color:${NAMED[color]}"></i>${escape(text)}</span>`,
  );
  return `<svg width="${box.width}" height="${box.height - 20}">${drawn.join('')}</svg><div class="legend">${legend.join('')}</div>`;
}

function table(panel: Panel, answers: readonly Series[][]): string {
  const option = (id: string): Readonly<Record<string, unknown>> =>
    panel.transformations?.find((t) => t.id === id)?.options ?? {};
  const renamed = (option('organize')['renameByName'] ?? {}) as Record<string, string>;
  const joinBy = option('joinByField')['byField'] as string | undefined;
  const unitOf = (heading: string): string | undefined => {
    const override = panel.fieldConfig?.overrides.find(({ matcher }) => matcher.options === heading);
    return (
      (override?.properties.find(({ id }) => id === 'unit')?.value as string | undefined) ??
      panel.fieldConfig?.defaults.unit
    );
  };
  const rows = new Map<string, Record<string, string | number>>();
  answers.forEach((series, i) => {
    for (const { metric, values } of series) {
      const key = joinBy === undefined ? JSON.stringify(metric) : (metric[joinBy] ?? '');
      const value = values.at(-1)![1];
      const field = answers.length > 1 ? `Value #${panel.targets[i]!.refId}` : 'Value';
      rows.set(key, { ...metric, ...rows.get(key), [field]: value });
    }
  });
  const columns = Object.entries(renamed);
  const cell = (value: string | number | undefined, heading: string): string =>
    typeof value === 'number' ? (Number.isFinite(value) ? show(value, unitOf(heading)) : '') : escape(value ?? '');
  const body = [...rows.values()].map(
    (row) => `<tr>${columns.map(([name, heading]) => `<td>${cell(row[name], heading)}</td>`).join('')}</tr>`,
  );
  return `<table><tr>${columns.map(([, heading]) => `<th>${escape(heading)}</th>`).join('')}</tr>${body.join('')}</table>`;
}
