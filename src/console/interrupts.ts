/**
 * One rule for INT, TERM and HUP in every command: the first ends it in order, with a report of what there is, where
 * the command knows how; the second, or the first where it does not, ends it at once. Either way the status is 105.
 */
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import { StopSignal } from '../base/stop-signal.ts';
import { stderr } from './output.ts';

export const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const STOPPING = 'pinstorm: stopping; once more to stop at once';

export class Interrupts {
  /** Signals so far. */
  count = 0;
  /** Said when the command ends at once and leaves something behind. */
  left: string | null = null;
  /** Rejects with UserError 105 when the command is to end at once. */
  readonly atOnce: Promise<never>;
  #endNow: (error: UserError) => void = () => {};
  #inOrder: ((text: string) => void) | null = null;
  readonly #cleanups: (() => void | Promise<void>)[] = [];

  constructor() {
    this.atOnce = new Promise<never>((_, reject) => (this.#endNow = reject));
    this.atOnce.catch(() => {});
  }

  /** The user wants the command to end. */
  signal(): void {
    this.count += 1;
    if (this.count === 1 && this.#inOrder !== null) this.#inOrder(STOPPING);
    else this.#endNow(new UserError(EXIT.stopped, `stopped ${this.count > 1 ? 'at once ' : ''}by the user`, this.left));
  }

  /** The command knows how to end in order: `end` begins it, and gets the line that says so. */
  onFirst(end: (text: string) => void): void {
    this.#inOrder = end;
  }

  /** The command is over, and only its output is still on its way. @returns 105 with the next signal. */
  over(): Promise<ExitCode> {
    this.#inOrder = null;
    return new Promise((resolve) => (this.#endNow = () => resolve(EXIT.stopped)));
  }

  /** Does `cleanup` when the command is over, however it ends. The last one comes first. */
  defer(cleanup: () => void | Promise<void>): void {
    this.#cleanups.push(cleanup);
  }

  async cleanUp(): Promise<void> {
    for (let next = this.#cleanups.pop(); next !== undefined; next = this.#cleanups.pop()) {
      try {
        await next();
      } catch {
        // What cannot be taken away stays, and how the command ended is not changed by it.
      }
    }
  }
}

/** A signal to simulations that the first interrupt sets. */
export function stopOnInterrupt(interrupts: Interrupts): StopSignal {
  const stop = new StopSignal();
  interrupts.onFirst((text) => {
    stderr.wipe();
    stderr.write(`${text}\n`);
    stop.set();
  });
  return stop;
}
