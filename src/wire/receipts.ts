/**
 * What Redis has acknowledged to this process, and whether it still has it.
 *
 * A Redis that writes its log once a second (appendfsync everysec), loads an older snapshot, or is replaced by a
 * replica that was behind comes back without its last writes. They are missing from the end, so it is enough to look
 * for the last one of each place; and the connection breaks each time, so it is enough to look after a reconnection,
 * for the last ones from before it.
 */
import type { Redis } from 'ioredis';

export class Receipts {
  readonly #redis: Redis;
  /** By place, a question whose answer is yes as long as Redis has what it acknowledged. */
  #known = new Map<string, () => Promise<boolean>>();
  /** The same since the connection broke, while what came before has not been looked for. */
  #fresh = new Map<string, () => Promise<boolean>>();
  #breaks = 0;
  #breaksChecked = 0;

  /** @param redis the connection that writes. */
  constructor(redis: Redis) {
    this.#redis = redis;
    redis.on('close', () => {
      this.#breaks += 1;
    });
  }

  /** The last entry of a stream that Redis has taken from us or given to us. */
  entry(stream: string, id: string): void {
    this.#note(stream, async () => (await this.#redis.xrange(stream, id, id)).length > 0);
  }

  /** The last field of a hash that we set. */
  field(key: string, field: string, value: string): void {
    this.#note(key, async () => (await this.#redis.hget(key, field)) === value);
  }

  #note(place: string, isThere: () => Promise<boolean>): void {
    (this.#breaks > this.#breaksChecked ? this.#fresh : this.#known).set(place, isThere);
  }

  /** Whether Redis has all it acknowledged. Asks it only after the connection broke. */
  async intact(): Promise<boolean> {
    const breaks = this.#breaks;
    if (breaks === this.#breaksChecked) return true;
    for (const isThere of this.#known.values()) if (!(await isThere())) return false;
    this.#known = new Map([...this.#known, ...this.#fresh]);
    this.#fresh = new Map();
    this.#breaksChecked = breaks;
    return true;
  }
}
