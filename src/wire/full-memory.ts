/** Retries while Redis is out of memory, up to a limit: it refused, so nothing was done, and it can be done later. */
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT, UserError } from '../base/errors.ts';
import { FULL_HINT, isFull } from './redis.ts';

/** Between attempts, ms. */
const RETRY_MS = 100;

export class FullMemory {
  #sinceMs: number | null = null;

  /**
   * @param label of the Redis, for the message.
   * @param patienceMs how long it may last.
   * @param noticed called when it begins.
   */
  constructor(
    private readonly label: string,
    private readonly patienceMs: number,
    private readonly noticed: () => void,
  ) {}

  /** The last attempt was refused. */
  get lasts(): boolean {
    return this.#sinceMs !== null;
  }

  /** Does work that may be done again. @throws what it throws, and UserError 113 when the memory stays full. */
  async bear(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#sinceMs = null;
    } catch (error) {
      if (!isFull(error)) throw error;
      if (this.#sinceMs === null) this.noticed();
      this.#sinceMs ??= performance.now();
      if (performance.now() - this.#sinceMs > this.patienceMs) {
        throw new UserError(EXIT.inconclusive, `the memory of Redis at ${this.label} is full`, FULL_HINT);
      }
      await pause(RETRY_MS);
    }
  }
}
