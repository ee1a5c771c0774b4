/**
 * Something that may end every wait of a long loop. A promise that settles only at the end of a run must not be raced
 * against again and again: each Promise.race would leave a reaction on it, and each reaction keeps the result of its
 * race.
 */
export class Interruption {
  #error: Error | undefined;
  readonly #waits = new Set<(error: Error) => void>();

  /** Ends all waits, also those to come, with this error. The first one counts. */
  interrupt(error: Error): void {
    if (this.#error !== undefined) return;
    this.#error = error;
    for (const reject of this.#waits) reject(error);
    this.#waits.clear();
  }

  /** Waits under way. */
  get size(): number {
    return this.#waits.size;
  }

  /** What `work` comes to. Rejects with the error of the interruption if that comes first; `work` goes on unheard. */
  async orEnd<T>(work: Promise<T>): Promise<T> {
    let end: (error: Error) => void = () => {};
    try {
      return await new Promise<T>((resolve, reject) => {
        end = reject;
        this.#waits.add(end);
        work.then(resolve, reject);
        if (this.#error !== undefined) reject(this.#error);
      });
    } finally {
      this.#waits.delete(end);
    }
  }
}
