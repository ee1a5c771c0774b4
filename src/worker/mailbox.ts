/** What a worker tells the run: in order, and each message until Redis takes it. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { monotonicMs } from '../engine/wall/clock.ts';
import type { RunKeys } from '../wire/keys.ts';
import type { Interval, WorkerMessage } from '../wire/messages.ts';
import type { Receipts } from '../wire/receipts.ts';
import { isFull } from '../wire/redis.ts';
import { post } from '../wire/streams.ts';
import type { Fate } from './fate.ts';

/** Between attempts to write to a Redis whose memory is full. */
const FULL_RETRY_MS = 200;

export class Mailbox {
  /** The run is not in Redis any more. */
  removed = false;
  /** When Redis last answered, on the monotonic clock, ms. */
  contactAtMs = monotonicMs();
  #posts: Promise<void> = Promise.resolve();

  constructor(
    private readonly redis: Redis,
    private readonly keys: RunKeys,
    private readonly receipts: Receipts,
    private readonly fate: Fate,
  ) {}

  /** Resolves when Redis has taken what was posted. */
  get posted(): Promise<void> {
    return this.#posts;
  }

  /** Posts in order, repeats until Redis takes it: an outcome must not get lost. */
  post(message: WorkerMessage): void {
    const previous = this.#posts;
    this.#posts = this.#postAfter(previous, message);
  }

  async #postAfter(previous: Promise<void>, message: WorkerMessage): Promise<void> {
    await previous;
    try {
      await this.send(message);
    } catch (error) {
      this.fate.fail(error);
    }
  }

  /** Sends one message; waits while the memory of Redis is full, as long as the worker has a coordinator. */
  async send(message: WorkerMessage): Promise<void> {
    const entry = await this.untilTaken(() => post(this.redis, this.keys, message));
    if (entry === null) this.removed = true;
    else this.receipts.entry(this.keys.events, entry);
    this.contactAtMs = monotonicMs();
  }

  /** Tries to send an interval: the next one says the same and more. */
  async try(interval: Interval): Promise<void> {
    try {
      this.removed ||= (await post(this.redis, this.keys, interval)) === null;
    } catch (error) {
      if (!isFull(error)) throw error;
    }
  }

  /** Repeats a command while the memory of Redis is full and the worker goes on. */
  async untilTaken<T>(command: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await command();
      } catch (error) {
        if (!isFull(error) || this.fate.failure !== undefined) throw error;
        await pause(FULL_RETRY_MS);
      }
    }
  }
}
