/** The timeline of the guests: a lane for each, coloured by what it was doing. */
import { type ChartData, type GuestLine, unpackGuest } from '../chart-data.ts';
import { whole } from '../format.ts';
import { color, element, moment, swatch } from './dom.ts';

const PHASES = [
  ['waiting for its start', '--p-wait'],
  ['running', '--p-run'],
  ['applying its last deferred updates', '--p-settle'],
  ['exiting', '--p-exit'],
  ['failed', '--p-fail'],
] as const;

const LEFT = 62;
const BOTTOM = 26;

export class Lanes {
  readonly #host: HTMLElement;
  readonly #plot: HTMLDivElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #readout: HTMLParagraphElement;
  readonly #legend: HTMLUListElement;
  #guests: readonly GuestLine[] = [];
  #span = 1;
  #at = -1;

  constructor(host: HTMLElement) {
    this.#host = host;
    this.#canvas = element('canvas', { 'aria-hidden': 'true' });
    this.#plot = element('div', { class: 'plot' }, [this.#canvas]);
    this.#readout = element('p', { class: 'readout', 'aria-live': 'polite' });
    this.#legend = element('ul', { class: 'legend', 'aria-label': 'Phases' });
    host.append(this.#plot, this.#legend, this.#readout);
    this.#plot.addEventListener('pointermove', (event) => this.#point(Math.floor(event.offsetY / this.#laneHeight())));
    this.#plot.addEventListener('pointerleave', () => this.#point(-1));
    this.#plot.addEventListener('keydown', (event) => {
      const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
      if (step === 0) return;
      event.preventDefault();
      this.#point(Math.min(this.#guests.length - 1, Math.max(0, this.#at + step)));
    });
    let width = 0;
    new ResizeObserver(() => {
      if (host.clientWidth === width) return;
      width = host.clientWidth;
      this.redraw();
    }).observe(host);
  }

  draw(data: ChartData): void {
    this.#guests = data.guests.map(unpackGuest).toSorted((a, b) => a.start - b.start || a.guest - b.guest);
    this.#span = this.#guests.reduce(
      (latest, { end }) => Math.max(latest, end ?? 0),
      Math.max(data.durationSeconds, 1e-9),
    );
    this.redraw();
  }

  redraw(): void {
    const width = this.#host.clientWidth;
    if (width === 0) return;
    this.#plot.querySelector('.empty')?.remove();
    const none = this.#guests.length === 0;
    this.#canvas.hidden = none;
    this.#legend.hidden = none;
    if (none) {
      this.#plot.append(element('p', { class: 'empty' }, ['No guest has ended yet, or none was recorded.']));
      this.#plot.removeAttribute('tabindex');
      return;
    }
    this.#plot.tabIndex = 0;
    this.#plot.setAttribute('role', 'group');
    this.#plot.setAttribute('aria-label', 'Timeline of the guests. Arrow keys move from guest to guest.');
    const lane = this.#laneHeight();
    const height = Math.ceil(lane * this.#guests.length) + BOTTOM;
    const ratio = devicePixelRatio;
    this.#canvas.width = Math.round(width * ratio);
    this.#canvas.height = Math.round(height * ratio);
    this.#canvas.style.width = `${width}px`;
    this.#canvas.style.height = `${height}px`;
    const ctx = this.#canvas.getContext('2d');
    if (ctx === null) return;
    ctx.scale(ratio, ratio);
    const fills = PHASES.map(([, name]) => color(name));
    const x = (seconds: number): number => LEFT + (Math.min(seconds, this.#span) / this.#span) * (width - LEFT - 14);
    const gap = lane > 5 ? 1.5 : 0;
    this.#guests.forEach((guest, i) => {
      const y = i * lane;
      const bar = (phase: number, from: number, to: number): void => {
        if (to < from) return;
        ctx.fillStyle = fills[phase] as string;
        ctx.fillRect(x(from), y, Math.max(x(to) - x(from), phase === 0 ? 0 : 1), Math.max(lane - gap, 1));
      };
      const end = guest.end ?? this.#span;
      bar(0, 0, guest.start);
      bar(guest.state === 'failed' ? 4 : 1, guest.start, guest.rest ?? end);
      if (guest.rest !== null) bar(2, guest.rest, guest.settled ?? end);
      if (guest.settled !== null) bar(3, guest.settled, end);
      if (i === this.#at) {
        ctx.strokeStyle = color('--ink');
        ctx.strokeRect(LEFT - 1, y - 0.5, width - LEFT - 12, Math.max(lane, 2));
      }
    });
    ctx.fillStyle = color('--soft');
    ctx.font = '12px system-ui, sans-serif';
    ctx.textAlign = 'right';
    ctx.textBaseline = 'middle';
    const every = Math.max(1, Math.ceil(16 / lane));
    for (let i = 0; i < this.#guests.length; i += every) {
      ctx.fillText(`${this.#guests[i]?.guest ?? ''}`, LEFT - 8, i * lane + Math.max(lane / 2, 6));
    }
    ctx.textBaseline = 'top';
    const labels = Math.max(2, Math.floor((width - LEFT) / 110));
    for (let i = 0; i <= labels; i += 1) {
      ctx.textAlign = i === labels ? 'right' : 'center';
      ctx.fillText(moment((this.#span * i) / labels, this.#span), x((this.#span * i) / labels), height - BOTTOM + 7);
    }
    const keys = PHASES.map(([text, name]) => element('li', { class: 'key' }, [swatch(color(name), false), text]));
    this.#legend.replaceChildren(...keys);
  }

  /** Room for up to 60 guests at ease; ten thousand share 400 pixels. */
  #laneHeight(): number {
    return Math.max(Math.min(11, 400 / Math.max(this.#guests.length, 1)), 0.04);
  }

  #point(at: number): void {
    if (at === this.#at) return;
    this.#at = at;
    this.redraw();
    const guest = this.#guests[at];
    const when = (seconds: number | null): string => (seconds === null ? 'never' : moment(seconds, this.#span));
    this.#readout.textContent =
      guest === undefined
        ? ''
        : `Guest ${guest.guest} (${guest.class}), ${guest.state}: due at ${when(guest.start)}, at rest ${when(guest.rest)}, ` +
          `gone ${when(guest.end)}, ${whole(guest.operations)} operations`;
  }
}
