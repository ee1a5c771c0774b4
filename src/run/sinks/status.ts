import { plural } from '../../base/plural.ts';
import type { Progress, StatusLine } from '../../report/status-line.ts';
import type { RunEvent, RunHappening, RunSink } from '../run-event.ts';

/** Keeps the status line of a live run, and tells the terminal what the user should know at once. */
export class StatusSink implements RunSink {
  readonly #line: StatusLine;
  readonly #progress: () => Progress | null;
  /** What starts another worker; null: the run brings its own. */
  readonly #joinWith: string | null;
  #warned = false;

  /**
   * @param progress as of the last interval. @param joinWith the command for another worker, where the user starts
   * them.
   */
  constructor(line: StatusLine, progress: () => Progress | null, joinWith: string | null) {
    this.#line = line;
    this.#progress = progress;
    this.#joinWith = joinWith;
  }

  take(event: RunEvent): void {
    if (event.t === 'interval') this.#update(this.#progress());
    if (event.t !== 'event' || event.replayed === true) return;
    const text = event.kind === 'gathering' ? this.#gathering(event) : said(event);
    if (text !== undefined) this.#line.message(`pinstorm: ${text}`);
  }

  #gathering({ fields }: RunHappening): string | undefined {
    if (this.#joinWith === null) return undefined;
    return `waiting for workers: ${String(fields['workers'])} of ${String(fields['of'])}; start one with ${this.#joinWith}`;
  }

  #update(progress: Progress | null): void {
    if (progress === null) return;
    this.#line.update(progress, performance.now());
    if (!progress.saturated || this.#warned) return;
    this.#warned = true;
    const { reason, advice } = progress.saturated;
    this.#line.message(`pinstorm: warning: latencies are not to be trusted: ${reason}; ${advice}`);
  }
}

/** What the terminal is told of an event, if anything. */
function said({ kind, fields }: RunHappening): string | undefined {
  const worker = String(fields['worker']);
  switch (kind) {
    case 'threshold':
      return `stopping, a threshold is crossed: ${String(fields['metric'])} ${String(fields['expression'])}`;
    case 'no_room':
      return `room for ${String(fields['room'])} of ${plural(Number(fields['guests']), 'guest')} on ${plural(Number(fields['workers']), 'worker')}: waiting for more`;
    case 'worker_lost':
      return `worker ${worker} was lost: ${String(fields['why'])}`;
    case 'rerun':
      return fields['guests'] === 0
        ? undefined
        : `${plural(Number(fields['guests']), 'guest')} of worker ${worker} ${fields['guests'] === 1 ? 'runs' : 'run'} again elsewhere`;
    case 'resumed':
      return `going on with ${plural(Number(fields['workers']), 'worker')}; guests that have ended: ${String(fields['guests'])}`;
    case 'redis_full':
      return 'the memory of Redis is full: waiting';
    default:
      return undefined;
  }
}
