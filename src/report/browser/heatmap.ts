/** The heatmap: a canvas over the histograms of the slots, time by latency, more samples in a stronger colour. */
import { type ChartData, ROWS_PER_OCTAVE, rowStartNs, type Slot } from '../chart-data.ts';
import { duration, whole } from '../format.ts';
import { color, element, moment } from './dom.ts';

const LEFT = 62;
const BOTTOM = 26;
const TOP = 8;
const HEAT_FROM = 5;

interface Cell {
  readonly column: number;
  readonly row: number;
}

export class Heatmap {
  readonly #host: HTMLElement;
  readonly #plot: HTMLDivElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #readout: HTMLParagraphElement;
  readonly #ramp: HTMLSpanElement;
  #slots: readonly Slot[] = [];
  #span = 1;
  #name = '';
  #rows: readonly [low: number, high: number] = [0, 0];
  #cursor: Cell | null = null;

  constructor(host: HTMLElement) {
    this.#host = host;
    this.#canvas = element('canvas', { 'aria-hidden': 'true' });
    this.#plot = element('div', { class: 'plot' }, [this.#canvas]);
    this.#readout = element('p', { class: 'readout', 'aria-live': 'polite' });
    this.#ramp = element('span', { class: 'ramp' });
    host.append(this.#plot, this.#ramp, this.#readout);
    this.#plot.addEventListener('pointermove', (event) => this.#point(this.#cellAt(event.offsetX, event.offsetY)));
    this.#plot.addEventListener('pointerleave', () => this.#point(null));
    this.#plot.addEventListener('keydown', (event) => this.#key(event));
    let width = 0;
    new ResizeObserver(() => {
      if (host.clientWidth === width) return;
      width = host.clientWidth;
      this.redraw();
    }).observe(host);
  }

  /** Draws one series of the run. */
  draw(data: ChartData, name: string): void {
    this.#slots = data.slots;
    this.#span = data.durationSeconds;
    this.#name = name;
    let low = Infinity;
    let high = -Infinity;
    for (const { series } of data.slots) {
      const one = series[name];
      if (one === undefined) continue;
      low = Math.min(low, one[HEAT_FROM]);
      high = Math.max(high, one[HEAT_FROM] + one.length - HEAT_FROM - 2);
    }
    this.#rows = [low, high];
    this.redraw();
  }

  redraw(): void {
    const [low, high] = this.#rows;
    const width = this.#host.clientWidth;
    if (width === 0) return;
    const any = low <= high;
    this.#canvas.hidden = !any;
    this.#ramp.hidden = !any;
    this.#plot.querySelector('.empty')?.remove();
    if (!any) {
      this.#plot.append(element('p', { class: 'empty' }, ['No samples of this series over time.']));
      this.#plot.removeAttribute('tabindex');
      return;
    }
    this.#plot.tabIndex = 0;
    this.#plot.setAttribute('role', 'group');
    this.#plot.setAttribute('aria-label', `Heatmap of ${this.#name}. Arrow keys move from cell to cell.`);
    const height = Math.round(Math.min(300, Math.max(220, width * 0.42)));
    const ratio = devicePixelRatio;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    this.#canvas.style.width = `${width}px`;
    this.#canvas.style.height = `${height}px`;
    const ctx = this.#canvas.getContext('2d');
    if (ctx === null) return;
    ctx.scale(ratio, ratio);
    const stops = ['--h0', '--h1', '--h2', '--h3', '--h4'].map((name) => channels(color(name)));
    const most = this.#most();
    for (const { start, end, series } of this.#slots) {
      const one = series[this.#name];
      if (one === undefined) continue;
      const x = this.#x(start);
      const w = Math.max(this.#x(end) - x, 1);
      for (let i = HEAT_FROM + 1; i < one.length; i += 1) {
        const n = one[i] as number;
        if (n === 0) continue;
        const row = one[HEAT_FROM] + i - HEAT_FROM - 1;
        ctx.fillStyle = blend(stops, most <= 1 ? 1 : Math.log(n) / Math.log(most));
        const y = this.#y(row + 1);
        // A little wider than it is, so that no seam shows between neighbours.
        ctx.fillRect(x, y, w + 0.5, this.#y(row) - y + 0.5);
      }
    }
    this.#axes(ctx, width, height);
    this.#drawRamp(stops, most);
    this.#drawCursor(ctx);
  }

  /** Rows for the table behind it: for each range of latencies the samples of the whole run. */
  totals(): { readonly heads: readonly string[]; readonly rows: readonly (readonly string[])[] } {
    const sums = new Map<number, number>();
    for (const { series } of this.#slots) {
      const one = series[this.#name];
      for (let i = HEAT_FROM + 1; one !== undefined && i < one.length; i += 1) {
        const row = one[HEAT_FROM] + i - HEAT_FROM - 1;
        sums.set(row, (sums.get(row) ?? 0) + (one[i] as number));
      }
    }
    const rows = [...sums].filter(([, n]) => n > 0).toSorted((a, b) => a[0] - b[0]);
    return {
      heads: ['From', 'To', 'Samples'],
      rows: rows.map(([row, n]) => [nanoseconds(row), nanoseconds(row + 1), whole(n)]),
    };
  }

  #most(): number {
    let most = 1;
    for (const { series } of this.#slots) {
      const one = series[this.#name];
      for (let i = HEAT_FROM + 1; one !== undefined && i < one.length; i += 1) most = Math.max(most, one[i] as number);
    }
    return most;
  }

  #x(seconds: number): number {
    return LEFT + (seconds / this.#span) * (this.#host.clientWidth - LEFT - 14);
  }

  #y(row: number): number {
    const [low, high] = this.#rows;
    const height = Number.parseFloat(this.#canvas.style.height);
    return height - BOTTOM - ((row - low) / (high + 1 - low)) * (height - BOTTOM - TOP);
  }

  #axes(ctx: CanvasRenderingContext2D, width: number, height: number): void {
    const [low, high] = this.#rows;
    ctx.fillStyle = color('--soft');
    ctx.font = '12px system-ui, sans-serif';
    ctx.textAlign = 'right';
    ctx.textBaseline = 'middle';
    for (const ns of ticks(low, high + 1)) {
      const y = this.#y(ROWS_PER_OCTAVE * Math.log2(ns));
      ctx.fillText(duration(ns), LEFT - 8, Math.min(Math.max(y, 8), height - BOTTOM - 4));
    }
    ctx.textAlign = 'center';
    ctx.textBaseline = 'top';
    const labels = Math.max(2, Math.floor((width - LEFT) / 110));
    for (let i = 0; i <= labels; i += 1) {
      const seconds = (this.#span * i) / labels;
      ctx.textAlign = i === labels ? 'right' : 'center';
      ctx.fillText(moment(seconds, this.#span), this.#x(seconds), height - BOTTOM + 7);
    }
  }

  #drawRamp(stops: readonly (readonly number[])[], most: number): void {
    const canvas = element('canvas', { width: '120', height: '10', 'aria-hidden': 'true' });
    const ctx = canvas.getContext('2d');
    for (let i = 0; ctx !== null && i < 120; i += 1) {
      ctx.fillStyle = blend(stops, i / 119);
      ctx.fillRect(i, 0, 1, 10);
    }
    this.#ramp.replaceChildren('1', canvas, `${whole(most)} samples in a cell`);
  }

  #drawCursor(ctx: CanvasRenderingContext2D): void {
    const slot = this.#slots[this.#cursor?.column ?? -1];
    if (slot === undefined || this.#cursor === null) return;
    const x = this.#x(slot.start);
    const y = this.#y(this.#cursor.row + 1);
    ctx.strokeStyle = color('--ink');
    ctx.lineWidth = 1.5;
    ctx.strokeRect(x - 1, y - 1, Math.max(this.#x(slot.end) - x, 2) + 2, this.#y(this.#cursor.row) - y + 2);
  }

  #cellAt(x: number, y: number): Cell | null {
    const column = this.#slots.findIndex(({ start, end }) => x >= this.#x(start) && x < this.#x(end));
    const [low, high] = this.#rows;
    for (let row = low; row <= high; row += 1)
      if (y <= this.#y(row) && y > this.#y(row + 1)) return column < 0 ? null : { column, row };
    return null;
  }

  #point(cell: Cell | null): void {
    if (cell?.column === this.#cursor?.column && cell?.row === this.#cursor?.row) return;
    this.#cursor = cell;
    this.redraw();
    const slot = this.#slots[cell?.column ?? -1];
    if (slot === undefined || cell === null) {
      this.#readout.textContent = '';
      return;
    }
    const one = slot.series[this.#name];
    const n = one === undefined ? 0 : ((one[HEAT_FROM + 1 + cell.row - one[HEAT_FROM]] as number | undefined) ?? 0);
    const when = `${moment(slot.start, this.#span)} to ${moment(slot.end, this.#span)}`;
    this.#readout.textContent = `${when}, ${nanoseconds(cell.row)} to ${nanoseconds(cell.row + 1)}: ${whole(n)} samples`;
  }

  #key(event: KeyboardEvent): void {
    const moves: Readonly<Record<string, readonly [number, number]>> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    const [low, high] = this.#rows;
    const { column, row } = this.#cursor ?? { column: 0, row: low };
    const clamp = (n: number, from: number, to: number): number => Math.min(to, Math.max(from, n));
    this.#point({ column: clamp(column + move[0], 0, this.#slots.length - 1), row: clamp(row + move[1], low, high) });
  }
}

/** Latencies worth a label: powers of ten, with 2 and 5 between them where there is room. */
function ticks(lowRow: number, highRow: number): number[] {
  const [low, high] = [rowStartNs(lowRow), rowStartNs(highRow)];
  const parts = high / low > 300 ? [1] : [1, 2, 5];
  const out: number[] = [];
  for (let decade = 1; decade <= high; decade *= 10) {
    for (const part of parts) if (part * decade >= low * 0.99 && part * decade <= high) out.push(part * decade);
  }
  return out;
}

const nanoseconds = (row: number): string => duration(Math.round(rowStartNs(row)));

function channels(hex: string): number[] {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

function blend(stops: readonly (readonly number[])[], share: number): string {
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const below = Math.min(Math.floor(place), stops.length - 2);
  const part = place - below;
  const [from = [], to = []] = stops.slice(below, below + 2);
  const mixed = [0, 1, 2].map((i) => Math.round((from[i] ?? 0) * (1 - part) + (to[i] ?? 0) * part));
  return `rgb(${mixed.join(',')})`;
}
