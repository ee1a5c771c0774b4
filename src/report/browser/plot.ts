/** A line chart: uPlot with our axes and legend, read by mouse, finger and keyboard. */
import type UPlot from 'uplot';
import { duration, percent, quantity } from '../format.ts';
import { color, element, moment, swatch } from './dom.ts';

declare const uPlot: typeof UPlot;

export type Unit = 'ns' | 'count' | 'perSecond' | 'share';

export interface Line {
  readonly label: string;
  /** Name of a colour of the theme. */
  readonly color: string;
  readonly dashed?: boolean;
  /** The area below is filled. */
  readonly filled?: boolean;
  readonly values: readonly (number | null)[];
  /** What the legend shows, where that is not what is drawn: parts of a stack. */
  readonly shown?: readonly (number | null)[];
  /** Joined over places without a value. */
  readonly joined?: boolean;
  readonly unit?: Unit;
  /** Without a place in the legend: the edge of a band. */
  readonly edge?: boolean;
}

/** A moment marked on a chart over time. */
export interface Mark {
  readonly at: number;
  readonly color: string;
}

export interface PlotSpec {
  readonly xs: readonly number[];
  /** time: seconds. percentile: log10 of 1 / (1 - share). value: plain numbers. */
  readonly x: 'time' | 'percentile' | 'value';
  /** The x axis ends here at least. */
  readonly xEnd?: number;
  readonly unit: Unit;
  readonly logarithmic?: boolean;
  readonly lines: readonly Line[];
  /** Lines on an axis of shares at the right. */
  readonly shareLines?: readonly Line[];
  readonly marks?: readonly Mark[];
  /** Pairs of indexes of lines between which the area is filled. */
  readonly bands?: readonly (readonly [number, number])[];
  readonly empty: string;
}

export const showValue = (value: number | null | undefined, unit: Unit): string => {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  if (unit === 'ns') return duration(Math.round(value));
  if (unit === 'share') return percent(value);
  return unit === 'perSecond' ? `${quantity(Number(value.toPrecision(4)))}/s` : quantity(Number(value.toPrecision(4)));
};

// uPlot declares these as enums that exist only as types.
// oxlint-disable-next-line typescript/no-unsafe-enum-assignment
const LOGARITHMIC = 3 as UPlot.Scale.Distr.Logarithmic;
// oxlint-disable-next-line typescript/no-unsafe-enum-assignment
const RIGHT = 1 as UPlot.Axis.Side.Right;
const FONT = '12px system-ui, sans-serif';

/** Steps of an axis that counts things. */
const WHOLE = [1, 2, 5].flatMap((n) => Array.from({ length: 12 }, (_, i) => n * 10 ** i)).toSorted((a, b) => a - b);
const sharedCursor = 'pinstorm';

export class Plot {
  readonly #host: HTMLElement;
  readonly #plot: HTMLDivElement;
  readonly #legend: HTMLUListElement;
  readonly #spoken: HTMLSpanElement;
  readonly #label: string;
  readonly #hidden = new Set<string>();
  #values: HTMLElement[] = [];
  #chart: UPlot | null = null;
  #spec: PlotSpec | null = null;
  #shape = '';

  /** @param label what it shows, for who cannot see it. */
  constructor(host: HTMLElement, label: string) {
    this.#host = host;
    this.#label = label;
    this.#plot = element('div', { class: 'plot' });
    this.#legend = element('ul', { class: 'legend', 'aria-label': `Lines of: ${label}` });
    this.#spoken = element('span', { class: 'hidden', 'aria-live': 'polite' });
    host.append(this.#plot, this.#legend, this.#spoken);
    this.#plot.addEventListener('keydown', (event) => this.#key(event));
    let width = 0;
    new ResizeObserver(() => {
      const now = this.#host.clientWidth;
      if (now === width || now === 0) return;
      width = now;
      this.#chart?.setSize(this.#size());
      if (this.#chart === null && this.#spec !== null) this.draw(this.#spec);
    }).observe(host);
  }

  draw(spec: PlotSpec): void {
    this.#spec = spec;
    const lines = [...spec.lines, ...(spec.shareLines ?? [])];
    if (spec.xs.length === 0 || lines.every((line) => line.values.every((v) => v === null))) {
      this.#destroy();
      this.#plot.removeAttribute('tabindex');
      this.#plot.removeAttribute('role');
      this.#plot.replaceChildren(element('p', { class: 'empty' }, [spec.empty]));
      this.#legend.replaceChildren();
      return;
    }
    const shape = JSON.stringify([spec.x, spec.unit, spec.logarithmic, lines.map((l) => l.label)]);
    const data = [spec.xs, ...lines.map((l) => l.values)] as unknown as UPlot.AlignedData;
    if (this.#chart !== null && shape === this.#shape) {
      this.#chart.setData(data);
      this.#read(this.#chart);
      return;
    }
    if (this.#host.clientWidth === 0) return;
    this.#shape = shape;
    this.#destroy();
    this.#plot.replaceChildren();
    this.#plot.tabIndex = 0;
    this.#plot.setAttribute('role', 'group');
    this.#plot.setAttribute('aria-label', `Chart: ${this.#label}. Arrow keys read its values.`);
    this.#chart = new uPlot(this.#options(spec, lines), data, this.#plot);
    this.#makeLegend(lines);
    this.#read(this.#chart);
  }

  /** Draws it again: the colours or the width have changed. */
  redraw(): void {
    const spec = this.#spec;
    if (spec === null) return;
    this.#shape = '';
    this.draw(spec);
  }

  #destroy(): void {
    this.#chart?.destroy();
    this.#chart = null;
  }

  #size(): { width: number; height: number } {
    const width = this.#host.clientWidth;
    return { width, height: Math.round(Math.min(300, Math.max(220, width * 0.42))) };
  }

  #options(spec: PlotSpec, lines: readonly Line[]): UPlot.Options {
    const shares = spec.shareLines ?? [];
    return {
      ...this.#size(),
      padding: [10, shares.length > 0 ? 0 : 14, 0, 0],
      legend: { show: false },
      cursor: {
        ...(spec.x === 'time' ? { sync: { key: sharedCursor } } : {}),
        drag: { x: true, y: false },
        points: { size: 7 },
      },
      scales: {
        x: { time: false, range: (_u, low, high) => xRange(this.#spec ?? spec, low, high) },
        y:
          spec.logarithmic === true
            ? { distr: LOGARITHMIC, log: 10 }
            : { range: (_u, _low, high) => [0, high > 0 ? high * 1.08 : 1] },
        ...(shares.length > 0 ? { share: { range: [0, 1] as [number, number] } } : {}),
      },
      axes: axes(spec, () => this.#spec?.xEnd ?? 1),
      series: [{}, ...lines.map((line, i) => this.#series(spec, line, i))],
      ...(spec.bands === undefined
        ? {}
        : {
            bands: spec.bands.map(
              ([upper, lower]) =>
                ({ series: [upper + 1, lower + 1], fill: `${color(lines[upper]?.color ?? '')}33` }) as UPlot.Band,
            ),
          }),
      hooks: {
        setCursor: [(u) => this.#read(u)],
        draw: [(u) => drawMarks(u, this.#spec?.marks ?? [])],
      },
    };
  }

  #series(spec: PlotSpec, line: Line, index: number): UPlot.Series {
    const stroke = color(line.color);
    return {
      label: line.label,
      show: !this.#hidden.has(line.label),
      scale: index < spec.lines.length ? 'y' : 'share',
      stroke,
      width: 1.75,
      spanGaps: line.joined ?? false,
      ...(line.dashed === true ? { dash: [6, 4] } : {}),
      ...(line.filled === true ? { fill: `${stroke}40` } : {}),
      points: spec.x === 'value' ? { show: true, size: 6, fill: stroke } : { size: 4, fill: stroke },
    };
  }

  #makeLegend(lines: readonly Line[]): void {
    this.#values = [];
    const items = lines.flatMap((line, i) => {
      const value = element('b');
      this.#values.push(value);
      if (line.edge === true) return [];
      const button = element('button', { type: 'button', 'aria-pressed': String(!this.#hidden.has(line.label)) }, [
        swatch(color(line.color), line.dashed ?? false),
        line.label,
        value,
      ]);
      button.addEventListener('click', () => {
        const show = this.#hidden.delete(line.label);
        if (!show) this.#hidden.add(line.label);
        button.setAttribute('aria-pressed', String(show));
        this.#chart?.setSeries(i + 1, { show });
      });
      return [element('li', {}, [button])];
    });
    this.#legend.replaceChildren(...items);
  }

  /** Puts the values under the cursor into the legend; without a cursor the last ones. */
  #read(u: UPlot): void {
    const spec = this.#spec;
    if (spec === null) return;
    const lines = [...spec.lines, ...(spec.shareLines ?? [])];
    const at = u.cursor.idx;
    lines.forEach((line, i) => {
      const unit = line.unit ?? (i < spec.lines.length ? spec.unit : 'share');
      const values = line.shown ?? line.values;
      const value = this.#values[i];
      if (value !== undefined) value.textContent = at === null || at === undefined ? '' : showValue(values[at], unit);
    });
  }

  #key(event: KeyboardEvent): void {
    const u = this.#chart;
    const spec = this.#spec;
    if (u === null || spec === null || event.target !== this.#plot) return;
    const steps: Readonly<Record<string, number>> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      PageUp: -20,
      PageDown: 20,
      Home: -Infinity,
      End: Infinity,
    };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const last = spec.xs.length - 1;
    const from = u.cursor.idx ?? (step > 0 ? -1 : last + 1);
    const index = Math.min(last, Math.max(0, from + step));
    u.setCursor({ left: u.valToPos(spec.xs[index] ?? 0, 'x'), top: 10 });
    const x = spec.xs[index] ?? 0;
    const where =
      spec.x === 'time' ? moment(x, spec.xEnd ?? 1) : spec.x === 'percentile' ? percentileText(x) : quantity(x);
    const lines = [...spec.lines, ...(spec.shareLines ?? [])];
    this.#spoken.textContent = `${where}: ${lines
      .map(
        (line, i) =>
          `${line.label} ${showValue((line.shown ?? line.values)[index], line.unit ?? (i < spec.lines.length ? spec.unit : 'share'))}`,
      )
      .join(', ')}`;
  }
}

/** The x axis, the axis of values, and one of shares where there are any. @param xEnd of what is drawn now. */
function axes(spec: PlotSpec, xEnd: () => number): UPlot.Axis[] {
  const grid = { stroke: color('--grid'), width: 1 };
  const axis = { stroke: color('--soft'), font: FONT, grid, ticks: { ...grid, size: 4 } };
  const x: UPlot.Axis =
    spec.x === 'percentile'
      ? { splits: (_u, _i, low, high) => percentileSplits(low, high), values: (_u, at) => at.map(percentileText) }
      : {
          space: 70,
          values: (_u, at) =>
            at.map((v) => (spec.x === 'time' ? moment(v, xEnd()) : quantity(Number(v.toPrecision(6))))),
        };
  const values: UPlot.Axis = {
    ...axis,
    size: 62,
    ...(spec.unit === 'count' ? { incrs: WHOLE } : {}),
    values: (_u, at) => at.map((v) => (v === null ? '' : showValue(v, spec.unit))),
  };
  const shares: UPlot.Axis = {
    ...axis,
    scale: 'share',
    side: RIGHT,
    size: 46,
    grid: { show: false },
    values: (_u, at) => at.map((v) => `${Math.round(v * 100)}%`),
  };
  return [{ ...axis, size: 34, ...x }, values, ...((spec.shareLines ?? []).length > 0 ? [shares] : [])];
}

function xRange(spec: PlotSpec, low: number, high: number): [number, number] {
  if (spec.x === 'percentile') return [0, Math.max(high, 1)];
  if (spec.x === 'value')
    return low === high ? [low - 1, high + 1] : [low - (high - low) * 0.03, high + (high - low) * 0.03];
  // Zoomed in, the range is the one asked for.
  const [first = 0, last = 1] = [spec.xs[0], spec.xs.at(-1)];
  if (low > first || high < last) return [low, high];
  return [0, Math.max(high, spec.xEnd ?? 0) || 1];
}

function drawMarks(u: UPlot, marks: readonly Mark[]): void {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  for (const { at, color: name } of marks) {
    const x = Math.round(u.valToPos(at, 'x', true));
    ctx.strokeStyle = color(name);
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
  }
  ctx.restore();
}

/** Where a share of the samples lies on the axis. */
export const percentilePlace = (share: number, count: number): number =>
  share >= 1 ? Math.log10(Math.max(count, 1)) + 0.1 : -Math.log10(1 - share);

function percentileSplits(low: number, high: number): number[] {
  const out = low <= 0 ? [0] : [];
  if (high < 3) out.push(Math.log10(2));
  for (let nines = 1; nines <= high; nines += 1) out.push(nines);
  return out;
}

function percentileText(place: number): string {
  const share = 1 - 10 ** -place;
  if (place < 1) return `${Number((share * 100).toPrecision(2))}%`;
  return `${(share * 100).toFixed(Math.max(0, Math.ceil(place) - 2))}%`;
}
