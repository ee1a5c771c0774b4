import { Interruption } from '../base/interruption.ts';

export const toError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** Whether a worker can go on: the first failure ends it at once, whatever it waits for. */
export class Fate {
  failure: Error | undefined;
  readonly #interruption = new Interruption();

  /** @returns the failure that ends the worker. */
  fail(error: unknown): Error {
    this.failure ??= toError(error);
    this.#interruption.interrupt(this.failure);
    return this.failure;
  }

  /** Waits for `work`, or rejects with the failure. */
  orEnd<T>(work: Promise<T>): Promise<T> {
    return this.#interruption.orEnd(work);
  }
}
