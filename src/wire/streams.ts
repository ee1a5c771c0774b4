import type { Redis } from 'ioredis';
import type { z } from 'zod';
import { MAX_SNAPSHOT_CHARS } from '../metrics/read-snapshot.ts';
import type { RunKeys } from './keys.ts';
import type { ControlMessage, WorkerMessage } from './messages.ts';

/** Intervals kept, of all workers together: enough for a reader that is a few seconds behind. */
export const INTERVALS_KEPT = 4000;

/** @returns the entry's id in the stream. */
export async function tell(redis: Redis, keys: RunKeys, message: ControlMessage): Promise<string> {
  // Without NOMKSTREAM there always is one.
  return (await redis.xadd(keys.control, '*', 'm', JSON.stringify(message))) as string;
}

/** Posts what a worker says. @returns its id; null when the run is gone from Redis: nothing is created again there. */
export async function post(redis: Redis, keys: RunKeys, message: WorkerMessage): Promise<string | null> {
  const text = JSON.stringify(message);
  return message.t === 'interval'
    ? redis.xadd(keys.intervals, 'NOMKSTREAM', 'MAXLEN', '~', INTERVALS_KEPT, '*', 'm', text)
    : redis.xadd(keys.events, 'NOMKSTREAM', '*', 'm', text);
}

/** Longest message, characters: an interval's statistics, as JSON within JSON, and 100 000 outcomes fit. */
export const MAX_MESSAGE_CHARS = 4 * MAX_SNAPSHOT_CHARS;

/** Reads streams from their beginning, in order, on a connection of its own. */
export class StreamReader<T> {
  /** Entries that did not fit the schema. */
  refused = 0;
  readonly #redis: Redis;
  readonly #keys: readonly string[];
  readonly #ids: string[];
  readonly #schema: z.ZodType<T>;

  constructor(redis: Redis, keys: readonly string[], schema: z.ZodType<T>) {
    this.#redis = redis;
    this.#keys = keys;
    this.#ids = keys.map(() => '0');
    this.#schema = schema;
  }

  /** The last entry of a stream that was read. */
  last(key: string): string {
    return this.#ids[this.#keys.indexOf(key)] ?? '0';
  }

  /**
   * The next messages, or none after `blockMs`. Rejects when Redis is away for long.
   */
  async read(blockMs: number): Promise<T[]> {
    const reply = await this.#redis.xread('COUNT', 500, 'BLOCK', blockMs, 'STREAMS', ...this.#keys, ...this.#ids);
    const messages: T[] = [];
    for (const [key, entries] of reply ?? []) {
      for (const [entryId, fields] of entries) {
        this.#ids[this.#keys.indexOf(key)] = entryId;
        const message = decodeEntry(fields?.[1], this.#schema);
        if (message === null) this.refused += 1;
        else messages.push(message);
      }
    }
    return messages;
  }

  /** Goes on after this entry of a stream. */
  skipTo(key: string, entry: string): void {
    this.#ids[this.#keys.indexOf(key)] = entry;
  }

  close(): void {
    this.#redis.disconnect();
  }
}

/** All entries of a stream, in order; null for those that do not fit the schema. */
export async function readWhole<T>(redis: Redis, key: string, schema: z.ZodType<T>): Promise<[string, T | null][]> {
  const all: [string, T | null][] = [];
  for (let from = '-'; ;) {
    const page = await redis.xrange(key, from, '+', 'COUNT', 500);
    for (const [entry, fields] of page) all.push([entry, decodeEntry(fields[1], schema)]);
    const last = page.at(-1);
    if (last === undefined || page.length < 500) return all;
    from = `(${last[0]}`;
  }
}

export function decodeEntry<T>(text: string | undefined, schema: z.ZodType<T>): T | null {
  if (text === undefined || text.length > MAX_MESSAGE_CHARS) return null;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Whether stream entry `a` comes before `b`. */
export function isBefore(a: string, b: string): boolean {
  const [aMs = 0, aSeq = 0] = a.split('-').map(Number);
  const [bMs = 0, bSeq = 0] = b.split('-').map(Number);
  return aMs < bMs || (aMs === bMs && aSeq < bSeq);
}
