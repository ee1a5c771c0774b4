/** The table of the guests: sorted by its heads, filtered by words and state, a page at a time. */
import type { GuestLine } from '../chart-data.ts';
import { duration, whole } from '../format.ts';
import { choice, element } from './dom.ts';

const PER_PAGE = 50;

interface Column {
  readonly head: string;
  readonly numeric: boolean;
  /** What it is sorted by. */
  key(guest: GuestLine): number | string;
  text(guest: GuestLine): string;
}

const time = (seconds: number | null): string => (seconds === null ? '–' : duration(Math.round(seconds * 1e9)));
const between = (from: number | null, to: number | null): number =>
  from === null || to === null ? -1 : Math.max(0, to - from);
const length = (seconds: number): string => (seconds < 0 ? '–' : time(seconds));

const COLUMNS: readonly Column[] = [
  { head: 'Guest', numeric: true, key: (g) => g.guest, text: (g) => String(g.guest) },
  { head: 'Class', numeric: false, key: (g) => g.class, text: (g) => g.class },
  { head: 'State', numeric: false, key: (g) => g.state, text: (g) => g.state },
  { head: 'Worker', numeric: false, key: (g) => g.worker, text: (g) => g.worker || '–' },
  { head: 'Due at', numeric: true, key: (g) => g.start, text: (g) => time(g.start) },
  { head: 'Ran', numeric: true, key: (g) => between(g.start, g.rest), text: (g) => length(between(g.start, g.rest)) },
  {
    head: 'Settled in',
    numeric: true,
    key: (g) => between(g.rest, g.settled),
    text: (g) => length(between(g.rest, g.settled)),
  },
  {
    head: 'Exited in',
    numeric: true,
    key: (g) => between(g.settled, g.end),
    text: (g) => length(between(g.settled, g.end)),
  },
  { head: 'Operations', numeric: true, key: (g) => g.operations, text: (g) => whole(g.operations) },
  { head: 'Refused', numeric: true, key: (g) => g.failed, text: (g) => whole(g.failed) },
  { head: 'locked_vm at rest', numeric: true, key: (g) => Number(g.lockedVm || -1), text: (g) => signed(g.lockedVm) },
  { head: 'Error', numeric: false, key: (g) => g.error ?? '', text: (g) => g.error ?? '' },
];

/** An account below zero shows as what it means. */
function signed(pages: string): string {
  if (pages === '') return '–';
  const n = BigInt(/^\d+$/.test(pages) ? pages : 0);
  return n >= 2n ** 63n ? String(n - 2n ** 64n) : String(n);
}

export class GuestTable {
  readonly #host: HTMLElement;
  readonly #body = element('tbody');
  readonly #heads: HTMLTableCellElement[];
  readonly #status = element('span', { role: 'status' });
  readonly #previous = element('button', { type: 'button' }, ['Previous']);
  readonly #next = element('button', { type: 'button' }, ['Next']);
  readonly #controls = element('div', { class: 'controls' });
  #guests: readonly GuestLine[] = [];
  #states = '';
  #words = '';
  #state = '';
  #sort = 0;
  #descending = false;
  #page = 0;

  constructor(host: HTMLElement) {
    this.#host = host;
    this.#heads = COLUMNS.map(({ head, numeric }, i) => {
      const button = element('button', { type: 'button' }, [head]);
      button.addEventListener('click', () => {
        this.#descending = this.#sort === i ? !this.#descending : numeric && i > 0;
        this.#sort = i;
        this.#page = 0;
        this.#show();
      });
      return element('th', { scope: 'col', ...(numeric ? { class: 'n' } : {}) }, [button]);
    });
    const head = element('thead', {}, [element('tr', {}, this.#heads)]);
    const table = element('table', {}, [
      element('caption', { class: 'hidden' }, ['How each guest ended']),
      head,
      this.#body,
    ]);
    this.#previous.addEventListener('click', () => this.#turn(-1));
    this.#next.addEventListener('click', () => this.#turn(1));
    host.append(
      this.#controls,
      element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Table of the guests' }, [table]),
      element('div', { class: 'pager' }, [this.#previous, this.#next, this.#status]),
    );
  }

  draw(guests: readonly GuestLine[]): void {
    this.#guests = guests;
    const states = [...new Set(guests.map(({ state }) => state))].toSorted();
    if (states.join() !== this.#states || this.#controls.childElementCount === 0) {
      this.#states = states.join();
      this.#makeControls(states);
    }
    this.#show();
  }

  #makeControls(states: readonly string[]): void {
    const input = element('input', { type: 'search', placeholder: 'class, worker, error, number' });
    input.value = this.#words;
    input.addEventListener('input', () => {
      this.#words = input.value;
      this.#page = 0;
      this.#show();
    });
    if (!states.includes(this.#state)) this.#state = '';
    const options: [string, string][] = [['', 'all'], ...states.map((s): [string, string] => [s, s])];
    this.#controls.replaceChildren(
      element('label', {}, ['Filter', input]),
      choice('State', options, this.#state, (state) => {
        this.#state = state;
        this.#page = 0;
        this.#show();
      }),
    );
  }

  #turn(by: number): void {
    this.#page += by;
    this.#show();
  }

  #show(): void {
    const words = this.#words
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== '');
    const matches = (g: GuestLine): boolean => {
      const text = `${g.guest} ${g.class} ${g.state} ${g.worker} ${g.error ?? ''}`.toLowerCase();
      return (this.#state === '' || g.state === this.#state) && words.every((word) => text.includes(word));
    };
    const { key } = COLUMNS[this.#sort] as Column;
    const order = this.#descending ? -1 : 1;
    const found = this.#guests.filter(matches).toSorted((a, b) => {
      const [x, y] = [key(a), key(b)];
      return (x < y ? -order : x > y ? order : 0) || a.guest - b.guest;
    });
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    this.#page = Math.min(Math.max(0, this.#page), pages - 1);
    const from = this.#page * PER_PAGE;
    const rows = found.slice(from, from + PER_PAGE).map((guest) =>
      element(
        'tr',
        {},
        COLUMNS.map((column, i) => {
          const text = column.text(guest);
          if (i === 0) return element('th', { scope: 'row', class: 'n' }, [text]);
          return element('td', column.numeric ? { class: 'n' } : {}, [text]);
        }),
      ),
    );
    this.#body.replaceChildren(...rows);
    this.#heads.forEach((th, i) => {
      if (i === this.#sort) th.setAttribute('aria-sort', this.#descending ? 'descending' : 'ascending');
      else th.removeAttribute('aria-sort');
    });
    this.#previous.disabled = this.#page === 0;
    this.#next.disabled = this.#page >= pages - 1;
    const all = this.#guests.length;
    const range = found.length === 0 ? 'None' : `${from + 1} to ${Math.min(from + PER_PAGE, found.length)}`;
    this.#status.textContent =
      all === 0
        ? 'No guest has ended yet, or none was recorded.'
        : `${range} of ${whole(found.length)}${found.length < all ? ` found among ${whole(all)}` : ''} guests`;
    this.#host.hidden = false;
  }
}
