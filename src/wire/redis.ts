/**
 * Where Redis is and how to reach it: addresses, connections, what their errors mean, and clocks.
 * A password never appears in a message: `label` is the only form of the address that is printed.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT, UserError } from '../base/errors.ts';
import { monotonicMs } from '../engine/wall/clock.ts';
import { Redis, type RedisOptions } from './ioredis.ts';

export interface RedisTarget {
  /** What was given, secrets included: handed to worker processes by environment, never printed. */
  readonly url: string;
  /** The address with the password masked, for messages. */
  readonly label: string;
  /** First part of the name of every key. */
  readonly prefix: string;
  /** The file with the certificates to trust, or undefined for those of the system. */
  readonly tlsCa?: string | undefined;
  readonly options: RedisOptions;
}

export interface RedisSettings {
  readonly prefix?: string | undefined;
  readonly tlsCa?: string | undefined;
}

export const DEFAULT_PREFIX = 'pinstorm';

const FORMS = 'redis://[user:password@]host[:port][/db], rediss://... for TLS, or the path of a unix socket';

/** Parses a Redis address. @throws UserError 104 naming the accepted forms, or what is wrong with the settings. */
export function parseRedisUrl(text: string, settings: RedisSettings = {}): RedisTarget {
  const { prefix = DEFAULT_PREFIX, tlsCa } = settings;
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(prefix)) {
    throw new UserError(
      EXIT.invalid,
      '--prefix: expected 1 to 64 letters, digits, dots, underscores and hyphens',
      'for example --prefix team-a',
    );
  }
  const invalid = (why: string): UserError =>
    new UserError(EXIT.invalid, `invalid Redis address: ${why}`, `expected ${FORMS}`);
  const socket = text.startsWith('unix:') ? text.slice(text.startsWith('unix://') ? 7 : 5) : text;
  if (socket.startsWith('/')) return { url: text, label: socket, prefix, options: { path: socket } };
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw invalid('it is neither a URL nor an absolute path');
  }
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') throw invalid(`unknown scheme ${url.protocol}//`);
  if (url.hostname === '') throw invalid('the host is missing');
  if (url.search !== '' || url.hash !== '') throw invalid('query parameters are not supported');
  const db = url.pathname.replace(/^\//, '');
  if (!/^\d{0,5}$/.test(db)) throw invalid('the path must be a database number');
  const port = url.port === '' ? 6379 : Number(url.port);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const options: RedisOptions = { host, port, db: Number(db) };
  try {
    if (url.username !== '') options.username = decodeURIComponent(url.username);
    if (url.password !== '') options.password = decodeURIComponent(url.password);
  } catch {
    throw invalid('user or password is not percent-encoded correctly');
  }
  if (url.protocol === 'rediss:') {
    // The server name of TLS is a host name, never an address.
    options.tls = { ...(isIP(host) === 0 ? { servername: host } : {}), ...(tlsCa === undefined ? {} : readCa(tlsCa)) };
  } else if (tlsCa !== undefined) {
    throw new UserError(EXIT.invalid, '--tls-ca is for TLS only', 'use rediss:// or leave it out');
  }
  const user = url.password === '' ? url.username : `${url.username}:***`;
  const label = `${url.protocol}//${user === '' ? '' : `${user}@`}${url.hostname}:${port}${db === '' ? '' : `/${db}`}`;
  return { url: text, label, prefix, tlsCa, options };
}

function readCa(file: string): { ca: Buffer } {
  try {
    return { ca: readFileSync(file) };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    throw new UserError(
      EXIT.invalid,
      `--tls-ca: cannot read ${file} (${code})`,
      'give a file of certificates in PEM form',
    );
  }
}

/** How a connection behaves when Redis is away. */
export type Patience =
  /** Commands fail after a few attempts: for those who must notice. */
  | 'finite'
  /** Commands wait until Redis is back: for BullMQ workers and blocking reads. */
  | 'endless';

/** Attempts to reconnect before a command fails: about 16 s when the connection is refused, time for a restart. */
const RETRIES = 20;

/** A connection that owes an answer for this long is closed and opened again, ms: the network may have been cut. */
const ANSWER_MS = 8000;

/** A connection that reconnects by itself. Errors of the connection surface through its commands. */
export function openRedis(target: RedisTarget, patience: Patience): Redis {
  const redis = new Redis({
    ...target.options,
    connectTimeout: 5000,
    maxRetriesPerRequest: patience === 'endless' ? null : RETRIES,
    // BullMQ's blocking reads may take longer.
    ...(patience === 'endless' ? {} : { socketTimeout: ANSWER_MS }),
    retryStrategy: (attempt) => Math.min(20 * 2 ** Math.min(attempt, 6), 1000),
  });
  // Without a listener ioredis prints each failed attempt.
  redis.on('error', () => {});
  return redis;
}

/** Whether Redis refused a command because its memory is full. */
export const isFull = (error: unknown): boolean => error instanceof Error && /\bOOM\b|maxmemory/.test(error.message);

/** Whether a command failed because Redis was out of reach, and not because Redis refused it. */
export function isConnectionError(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return (
    LOST.has(error.name) ||
    /^(Connection is closed|Socket timeout|Command timed out|Stream isn't writeable|Unknown RESP type)/.test(
      error.message,
    ) ||
    (error.name === 'AbortError' && code !== 'ABORT_ERR') ||
    /^E[A-Z]+$/.test(code ?? '')
  );
}
const LOST = new Set(['MaxRetriesPerRequestError', 'InterruptError', 'ParserError']);

/** Whether Redis answered with a refusal that will not go away by itself, as a full memory or a restart does. */
export function isRefusal(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError' && !isFull(error) && !/\bLOADING\b/.test(error.message);
}

/** Why Redis refuses a command, by the code of its answer. */
const REFUSALS: Readonly<Record<string, string>> = {
  WRONGTYPE: 'a key of the run holds something else than pinstorm wrote',
  NOPERM: 'the user lacks permission',
  NOAUTH: 'it wants a login',
  READONLY: 'it is a replica',
  MISCONF: 'it cannot save its data to disk',
  NOREPLICAS: 'it has too few replicas to take a write',
  MASTERDOWN: 'it is a replica that has lost its primary',
  CLUSTERDOWN: 'it is a node of a cluster',
  CROSSSLOT: 'it is a node of a cluster',
  MOVED: 'it is a node of a cluster',
  ASK: 'it is a node of a cluster',
  BUSY: 'a script of somebody else keeps it busy',
  LOADING: 'it is loading its data',
};

/** Why Redis refused, in words of ours. A script's error names the code further on. */
export function whyRefused(error: Error): string {
  if (/ACL failure|no permission/i.test(error.message)) return REFUSALS['NOPERM'] as string;
  const codes = error.message.match(/\b[A-Z]{3,}\b/g) ?? [];
  const known = codes.find((code) => Object.hasOwn(REFUSALS, code));
  return (known === undefined ? undefined : REFUSALS[known]) ?? `it answered ${codes[0] ?? 'with an error'}`;
}

/**
 * What an error of a command says of Redis, for users, status 113, with a hint of the caller. Undefined: it is not
 * about Redis.
 */
export function redisFailure(
  { label }: RedisTarget,
  error: unknown,
  hint: string | null = null,
): UserError | undefined {
  if (!(error instanceof Error)) return undefined;
  if (isConnectionError(error)) return new UserError(EXIT.inconclusive, `Redis at ${label} was lost`, hint);
  if (isFull(error)) return new UserError(EXIT.inconclusive, `the memory of Redis at ${label} is full`, FULL_HINT);
  if (error.name !== 'ReplyError') return undefined;
  const { command } = error as { command?: { name?: string } };
  const name = command?.name?.toUpperCase() ?? 'a command';
  const what = name.startsWith('EVAL') ? 'a script' : name;
  return new UserError(EXIT.inconclusive, `Redis at ${label} refused ${what}: ${whyRefused(error)}`, hint);
}
export const FULL_HINT = 'raise its maxmemory, or use one of your own for the run';

const LOOK_MS = 500;

/**
 * Looks twice a second until there is something. While Redis is away it waits: that comes back, or whoever waits is
 * ended. Rejects when `signal` is aborted.
 */
export async function awaitFound<T>(
  target: RedisTarget,
  look: (redis: Redis) => Promise<T | null>,
  signal: AbortSignal,
): Promise<T> {
  const redis = openRedis(target, 'finite');
  try {
    for (;;) {
      try {
        const found = await look(redis);
        if (found !== null) return found;
      } catch (error) {
        if (!(error instanceof Error && isConnectionError(error))) throw error;
      }
      await pause(LOOK_MS, undefined, { signal });
    }
  } finally {
    redis.disconnect();
  }
}

/** The value of a field of INFO; empty when there is none. */
export const infoField = (info: string, name: string): string =>
  new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';

/** Memory and commands of the whole server, and how long the answer took. */
export async function serverLoad(
  redis: Redis,
): Promise<{ roundTripSeconds: number; usedMemoryBytes: number; commands: number }> {
  const before = performance.now();
  await redis.ping();
  const roundTripSeconds = (performance.now() - before) / 1000;
  const info = await redis.info();
  const usedMemoryBytes = Number(infoField(info, 'used_memory'));
  return { roundTripSeconds, usedMemoryBytes, commands: Number(infoField(info, 'total_commands_processed')) };
}

/** The Redis clock in epoch milliseconds, with microseconds as fraction. */
export async function redisTimeMs(redis: Redis): Promise<number> {
  const [seconds, micros] = await redis.time();
  return Number(seconds) * 1000 + Number(micros) / 1000;
}

export interface ClockOffset {
  /** What to add to the monotonic clock to get the Redis clock, ms. */
  readonly toRedisMs: number;
  /** What to add to this machine's epoch milliseconds to get the Redis clock: its skew. */
  readonly skewMs: number;
  /** Bounds the error of both, ms. */
  readonly roundTripMs: number;
}

/** Compares the clocks, by the fastest of a few round trips. */
export async function clockOffset(redis: Redis): Promise<ClockOffset> {
  let best: ClockOffset = { toRedisMs: 0, skewMs: 0, roundTripMs: Infinity };
  for (let i = 0; i < 5; i += 1) {
    const before = monotonicMs();
    const there = await redisTimeMs(redis);
    const after = monotonicMs();
    const toRedisMs = there - (before + after) / 2;
    if (after - before < best.roundTripMs) {
      best = { toRedisMs, skewMs: toRedisMs + monotonicMs() - Date.now(), roundTripMs: after - before };
    }
  }
  return best;
}
