/** The live line on stderr: rewritten in place on a terminal, a plain line every five seconds elsewhere. */
import { escaped, oneLine } from '../base/printable.ts';
import { duration, percent, quantity } from './format.ts';

/** What an actor or guest is doing, one letter each, as fio shows its jobs. */
export const STATE_LETTERS = {
  pending: 'P',
  running: 'R',
  idle: 'I',
  mapping: 'M',
  unmapping: 'U',
  waiting: 'W',
  deferring: 'D',
  finished: 'F',
  stopped: 'S',
  dead: 'X',
} as const;
export type ActorState = keyof typeof STATE_LETTERS;

export interface Progress {
  readonly states: Readonly<Partial<Record<ActorState, number>>>;
  /** How much of the run is done, 0 .. 1; null when nobody knows. */
  readonly share: number | null;
  /** The operation the rate and the percentile are of. */
  readonly op: string;
  readonly opsPerSecond: number;
  readonly p99Ns: number | null;
  readonly deferredBacklog: number;
  /** p99 of the generator's lag in the last interval. */
  readonly lagNs: number | null;
  readonly etaNs: number | null;
  /** Why latencies are not to be trusted, and what to do; null: they are, so far. Left out: nobody looks. */
  readonly saturated?: { readonly reason: string; readonly advice: string } | null;
}

const PLAIN_EVERY_MS = 5000;

/** `[M(120)U(30)W(7)D(3)X(1)] 12% map 12.3k/s p99 1.2ms defer 3 lag 0.1ms eta 12s` */
export function formatProgress(progress: Progress): string {
  const states = Object.entries(STATE_LETTERS)
    .map(([state, letter]) => ({ letter, n: progress.states[state as ActorState] ?? 0 }))
    .filter(({ n }) => n > 0)
    .map(({ letter, n }) => `${letter}(${n})`)
    .join('');
  const parts = [
    `[${states}]`,
    ...(progress.share === null ? [] : [percent(Math.floor(progress.share * 100) / 100)]),
    `${progress.op} ${quantity(progress.opsPerSecond)}/s`,
    ...(progress.p99Ns === null ? [] : [`p99 ${duration(progress.p99Ns)}`]),
    `defer ${quantity(progress.deferredBacklog)}`,
    ...(progress.lagNs === null ? [] : [`lag ${duration(progress.lagNs)}`]),
    ...(progress.etaNs === null ? [] : [`eta ${Math.ceil(progress.etaNs / 1e9)}s`]),
  ];
  if (progress.saturated) parts.push('TOO LATE: latencies not to be trusted');
  return parts.join(' ');
}

export interface StatusStream {
  /** Writes text as it is: the line moves the cursor. */
  raw(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number | undefined;
}

export class StatusLine {
  readonly #stream: StatusStream;
  readonly #quiet: boolean;
  readonly #inPlace: boolean;
  #lastPlainMs = -Infinity;
  #shown = '';

  constructor(stream: StatusStream, options: { readonly quiet?: boolean; readonly term?: string | undefined } = {}) {
    this.#stream = stream;
    this.#quiet = options.quiet ?? false;
    this.#inPlace = stream.isTTY === true && options.term !== 'dumb';
  }

  /** Shows where the run is. @param nowMs any clock that only goes forward. */
  update(progress: Progress, nowMs: number): void {
    if (this.#quiet) return;
    const line = formatProgress(progress);
    if (this.#inPlace) {
      this.#draw(line);
    } else if (nowMs - this.#lastPlainMs >= PLAIN_EVERY_MS) {
      this.#lastPlainMs = nowMs;
      this.#stream.raw(`${oneLine(line)}\n`);
    }
  }

  /** Prints a message that stays, above the status line; also when quiet. */
  message(text: string): void {
    const below = this.#shown;
    this.clear();
    this.#stream.raw(`${escaped(text)}\n`);
    if (below !== '') this.#draw(below);
  }

  /** Takes the line away, so that what follows starts on a clean one. */
  clear(): void {
    if (this.#shown !== '') this.#stream.raw('\r\u001b[K');
    this.#shown = '';
  }

  #draw(line: string): void {
    // The last column stays free: some terminals wrap as soon as it is written.
    const width = Math.max((this.#stream.columns ?? 80) - 1, 1);
    this.#shown = line;
    this.#stream.raw(`\r${oneLine(line).slice(0, width)}\u001b[K`);
  }
}
