/**
 * Where Redis is and how to reach it: address parsing, one bounded check before anything starts, and connections.
 * A password never appears in a message: `label` is the only form of the address that is printed.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { Redis, type RedisOptions } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';

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

/** Parses a Redis address. Throws UserError 104 naming the accepted forms, or what is wrong with the settings. */
export function parseRedisUrl(text: string, settings: RedisSettings = {}): RedisTarget {
  const { prefix = DEFAULT_PREFIX, tlsCa } = settings;
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(prefix)) {
    throw new UserError(EXIT.invalid, '--prefix: expected 1 to 64 letters, digits, dots, underscores and hyphens');
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
/** A connection that owes an answer for this long is given up and made anew, ms: the network may have been cut. */
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
    error.name === 'MaxRetriesPerRequestError' ||
    error.message.startsWith('Connection is closed') ||
    /^E[A-Z]+$/.test(code ?? '')
  );
}

const LOOK_MS = 500;

/**
 * Looks twice a second until there is something. While Redis is away it waits: that comes back, or whoever waits is ended. Rejects
 * when `signal` is aborted.
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

const CHECK_MS = 4000;

/** One bounded attempt to use Redis. Throws UserError 104 when it cannot serve a run; takes at most about 4 s. */
export async function checkRedis(target: RedisTarget): Promise<void> {
  const redis = new Redis({
    ...target.options,
    lazyConnect: true,
    connectTimeout: CHECK_MS,
    commandTimeout: CHECK_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  let cause: Error | undefined;
  redis.on('error', (error: Error) => (cause ??= error));
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${CHECK_MS / 1000} s`)), CHECK_MS);
  });
  try {
    const look = async (): Promise<string> => {
      await redis.connect();
      // Whether the user may touch our keys shows only by touching one.
      await redis.exists(`{${target.prefix}}:runs`);
      return redis.info();
    };
    const info = await Promise.race([look(), late]);
    checkServer(target, info);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw unreachable(target, cause ?? (error instanceof Error ? error : new Error(String(error))));
  } finally {
    clearTimeout(timer);
    redis.disconnect();
  }
}

function unreachable(target: RedisTarget, cause: Error): UserError {
  const text = cause.message;
  if (/WRONGPASS|NOAUTH|invalid password|without any password/i.test(text)) {
    return new UserError(
      EXIT.invalid,
      `Redis at ${target.label} refused the login`,
      'give user and password in the address: redis://user:password@host',
    );
  }
  if (/NOPERM/.test(text)) {
    return new UserError(
      EXIT.invalid,
      `Redis at ${target.label}: the user lacks permissions`,
      `pinstorm needs the commands on keys that begin with {${target.prefix}, and INFO: ACL rules ~{${target.prefix}* +@all -@dangerous +info`,
    );
  }
  const code = (cause as NodeJS.ErrnoException).code;
  if (/CERT|SIGNATURE|ALTNAME/.test(code ?? '')) {
    return new UserError(
      EXIT.invalid,
      `the certificate of Redis at ${target.label} is not trusted (${code})`,
      'name the file of its authority with --tls-ca, and the host as the certificate does',
    );
  }
  const why =
    code === 'ECONNREFUSED'
      ? 'connection refused'
      : code === 'ENOENT'
        ? 'no such socket'
        : code === 'ENOTFOUND' || code === 'EAI_AGAIN'
          ? 'the host name does not resolve'
          : (code ?? withoutSecrets(target, text.split('\n', 1)[0] ?? ''));
  return new UserError(
    EXIT.invalid,
    `cannot reach Redis at ${target.label}: ${why}`,
    'start it, correct --redis, or leave --redis out for a private one',
  );
}

/** A server's own words can repeat what was sent to it, the login too. */
function withoutSecrets({ options: { password } }: RedisTarget, text: string): string {
  return password === undefined || password === '' ? text : text.replaceAll(password, '***');
}

function checkServer(target: RedisTarget, info: string): void {
  const field = (name: string): string => infoField(info, name);
  const version = field('redis_version');
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (version !== '' && (major < 6 || (major === 6 && minor < 2))) {
    throw new UserError(EXIT.invalid, `Redis at ${target.label} is version ${version}`, 'pinstorm needs 6.2 or newer');
  }
  const policy = field('maxmemory_policy');
  if (field('maxmemory') !== '0' && policy !== '' && policy !== 'noeviction') {
    throw new UserError(
      EXIT.invalid,
      `Redis at ${target.label} may drop jobs when its memory is full (maxmemory-policy ${policy})`,
      'set maxmemory-policy noeviction',
    );
  }
}

const infoField = (info: string, name: string): string => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';

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

/** This machine's monotonic clock, the same in all threads, ms. It never jumps. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

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
  for (let i = 0; i < 5; i++) {
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
