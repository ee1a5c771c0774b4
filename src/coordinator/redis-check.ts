/**
 * Whether a Redis can serve pinstorm: one bounded look before anything starts, and one message with the remedy for each
 * way in which it cannot.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT, UserError } from '../base/errors.ts';
import { Redis } from '../wire/ioredis.ts';
import { infoField, isFull, type RedisTarget, whyRefused } from '../wire/redis.ts';

/** How long all of it may take, ms. */
const CHECK_MS = 4000;

/** Between looks at a Redis that still loads its data, ms. */
const LOADING_MS = 100;

/** @throws UserError 104 when this Redis cannot serve a run; takes at most about 4 s. */
export async function checkRedis(target: RedisTarget): Promise<void> {
  const { db = 0, ...options } = target.options;
  const redis = new Redis({
    ...options,
    lazyConnect: true,
    // A cluster, a sentinel and a Redis that loads its data are to be told apart here.
    enableReadyCheck: false,
    connectTimeout: CHECK_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  let cause: Error | undefined;
  redis.on('error', (error: Error) => (cause ??= error));
  const ended = new AbortController();
  const late = pause(CHECK_MS, undefined, { signal: ended.signal }).then(() => {
    throw new Error(`no answer within ${CHECK_MS / 1000} s`);
  });
  try {
    await Promise.race([look(redis, target, db), late]);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw unusable(target, cause ?? (error instanceof Error ? error : new Error(String(error))));
  } finally {
    ended.abort();
    redis.disconnect();
  }
}

async function look(redis: Redis, target: RedisTarget, db: number): Promise<void> {
  await redis.connect();
  let info = await redis.info();
  while (infoField(info, 'loading') === '1') {
    await pause(LOADING_MS);
    info = await redis.info();
  }
  checkServer(target, info);
  if (db !== 0) await selectDatabase(redis, target, db);
  await tryCommands(redis, target);
}

function checkServer({ label }: RedisTarget, info: string): void {
  const field = (name: string): string => infoField(info, name);
  const refuse = (what: string, hint: string): never => {
    throw new UserError(EXIT.invalid, `Redis at ${label} ${what}`, hint);
  };
  const version = field('redis_version');
  if (version === '') throw noRedis(label);
  const mode = field('redis_mode');
  if (mode === 'cluster') refuse('is a node of a Redis Cluster, which is not supported', OWN_HINT);
  if (mode === 'sentinel') refuse('is a Sentinel, which keeps no data', 'give the address of the primary it watches');
  const role = field('role');
  if (role === 'slave' || role === 'replica') {
    const primary = field('master_host');
    const where = primary === '' ? '' : `: ${primary}:${field('master_port')}`;
    refuse('is a replica, which takes no writes', `give the address of its primary${where}`);
  }
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < 6 || (major === 6 && minor < 2)) refuse(`is version ${version}`, 'pinstorm needs 6.2 or newer');
  const policy = field('maxmemory_policy');
  if (field('maxmemory') !== '0' && policy !== '' && policy !== 'noeviction') {
    const what = `may drop jobs when its memory is full (maxmemory-policy ${policy})`;
    refuse(what, 'set maxmemory-policy noeviction');
  }
}

const OWN_HINT = 'use a Redis that is no cluster, or leave --redis out for a private one';

async function selectDatabase(redis: Redis, target: RedisTarget, db: number): Promise<void> {
  try {
    await redis.select(db);
  } catch (error) {
    if (!(error instanceof Error) || !/out of range/i.test(error.message)) throw error;
    throw new UserError(
      EXIT.invalid,
      `Redis at ${target.label} has no database ${db}`,
      'give a smaller number (most have 0 to 15), or raise databases in its configuration',
    );
  }
}

/**
 * Every command that a run sends, BullMQ's scripts included, with what follows the key. The key holds a text that is no
 * number, so that nearly all of them fail on it and none leaves anything; what counts is whether Redis lets the user
 * try.
 */
const ON_A_KEY: readonly (readonly string[])[] = [
  ['EXISTS'],
  ['GET'],
  ['INCR'],
  ['PTTL'],
  ['TYPE'],
  ['HDEL', 'f'],
  ['HEXISTS', 'f'],
  ['HGET', 'f'],
  ['HGETALL'],
  ['HINCRBY', 'f', '1'],
  ['HLEN'],
  ['HMGET', 'f'],
  ['HMSET', 'f', '1'],
  ['HSET', 'f', '1'],
  ['HSETNX', 'f', '1'],
  ['LINDEX', '0'],
  ['LLEN'],
  ['LPOP'],
  ['LPOS', 'x'],
  ['LPUSH', 'x'],
  ['LRANGE', '0', '0'],
  ['LREM', '0', 'x'],
  ['LTRIM', '0', '0'],
  ['RPOP'],
  ['SADD', 'x'],
  ['SCARD'],
  ['SMEMBERS'],
  ['SREM', 'x'],
  ['XADD', 'NOMKSTREAM', '*', 'm', 'x'],
  ['XRANGE', '-', '+', 'COUNT', '1'],
  ['XTRIM', 'MAXLEN', '1'],
  ['ZADD', '1', 'x'],
  ['ZCARD'],
  ['ZCOUNT', '0', '1'],
  ['ZPOPMIN'],
  ['BZPOPMIN', '1'],
  ['ZRANGE', '0', '0'],
  ['ZRANGEBYSCORE', '0', '1'],
  ['ZREM', 'x'],
  ['ZREMRANGEBYRANK', '0', '0'],
  ['ZREMRANGEBYSCORE', '0', '1'],
  ['ZREVRANGE', '0', '0'],
  ['ZREVRANGEBYSCORE', '1', '0'],
  ['ZSCORE', 'x'],
  ['PERSIST'],
  ['EXPIRE', '60'],
  ['PEXPIRE', '60000'],
];
const KEPT_MS = 60_000;

/** The names of the commands that are tried, for the test that compares them with those of a run. */
export const TRIED: readonly string[] = [
  ...ON_A_KEY.map(([name]) => name as string),
  'SET',
  'DEL',
  'UNLINK',
  'EVAL',
  'EVALSHA',
  'RPOPLPUSH',
  'XREAD',
  'MEMORY',
  'TIME',
  'SCAN',
  'PING',
  'INFO',
];

async function tryCommands(redis: Redis, target: RedisTarget): Promise<void> {
  const key = `{${target.prefix}}:check:${randomUUID()}`;
  const trials: readonly (readonly string[])[] = [
    ['SET', key, 'x', 'PX', String(KEPT_MS)],
    ...ON_A_KEY.map(([name, ...rest]) => [name as string, key, ...rest]),
    ['RPOPLPUSH', key, key],
    ['XREAD', 'COUNT', '1', 'STREAMS', key, '0'],
    ['MEMORY', 'USAGE', key],
    ['TIME'],
    ['SCAN', '0', 'COUNT', '1'],
    ['PING'],
    ['EVALSHA', '0'.repeat(40), '1', key],
    ['EVAL', "return redis.call('EXISTS', KEYS[1])", '1', key],
    ['DEL', key],
    ['UNLINK', key],
  ];
  const answers = await Promise.allSettled(trials.map(([name, ...rest]) => redis.call(name as string, ...rest)));
  const errors = answers.flatMap((answer, i) =>
    answer.status === 'rejected' ? [[trials[i]?.[0] ?? '', answer.reason as Error] as const] : [],
  );
  const named = (pattern: RegExp): string =>
    shortList(errors.filter(([, { message }]) => pattern.test(message)).map(([name]) => name));
  const lost = errors.find(([, { name }]) => name !== 'ReplyError');
  if (lost !== undefined) throw lost[1];
  const denied = named(/^NOPERM|^ERR ACL failure/);
  if (denied !== '') throw lacksPermission(target, denied);
  const unknown = named(/^ERR unknown command/i);
  if (unknown !== '') {
    const hint = 'it is disabled or renamed there (rename-command), and pinstorm needs it';
    throw new UserError(EXIT.invalid, `Redis at ${target.label} does not know ${unknown}`, hint);
  }
  // Runs wait while the memory is full, and cleaning makes room.
  const write = errors.find(([name]) => name === 'SET')?.[1];
  if (write === undefined || isFull(write)) return;
  throw new UserError(EXIT.invalid, `Redis at ${target.label} refuses SET: ${whyRefused(write)}`, OWN_HINT);
}

const NAMED = 6;
function shortList(names: readonly string[]): string {
  const more = names.length - NAMED;
  return names.slice(0, NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

const lacksPermission = ({ label, prefix }: RedisTarget, what: string): UserError =>
  new UserError(
    EXIT.invalid,
    `Redis at ${label}: the user lacks permission for ${what}`,
    `pinstorm needs the commands on keys that begin with {${prefix}, and INFO: ACL rules ~{${prefix}* +@all -@dangerous +info`,
  );

const noRedis = (label: string): UserError =>
  new UserError(EXIT.invalid, `what answers at ${label} is no Redis`, 'correct the address; for TLS write rediss://');

/** What a connection that failed, or a first command that was refused, means. */
function unusable(target: RedisTarget, cause: Error): UserError {
  const { label } = target;
  const text = cause.message;
  const refuse = (what: string, hint: string): UserError => new UserError(EXIT.invalid, what, hint);
  if (/WRONGPASS|NOAUTH|invalid password|without any password/i.test(text)) {
    const hint = 'give user and password in the address: redis://user:password@host';
    return refuse(`Redis at ${label} refused the login`, hint);
  }
  if (text.includes('NOPERM')) {
    const { command } = cause as { command?: { name?: string } };
    return lacksPermission(target, command?.name?.toUpperCase() ?? 'INFO');
  }
  const { code = '' } = cause as NodeJS.ErrnoException;
  if (/CERT|SIGNATURE|ALTNAME/.test(code)) {
    const hint = 'name the file of its authority with --tls-ca, and the host as the certificate does';
    return refuse(`the certificate of Redis at ${label} is not trusted (${code})`, hint);
  }
  if (/RESP type|Protocol error/i.test(text)) return noRedis(label);
  if (text.startsWith('DENIED')) {
    const hint = 'give it a password and a bind address, or use it from its own machine';
    return refuse(`Redis at ${label} takes no clients of other machines (protected mode)`, hint);
  }
  if (text.includes('max number of clients')) {
    return refuse(`Redis at ${label} has as many clients as it takes`, 'raise its maxclients');
  }
  if (cause.name === 'ReplyError') return refuse(`Redis at ${label} refuses its use: ${whyRefused(cause)}`, OWN_HINT);
  const why =
    WHY[code] ?? (/^E[A-Z]+$/.test(code) ? code : text.startsWith('no answer') ? text : 'it ends the connection');
  const hint = 'start it, correct --redis (rediss:// for TLS), or leave --redis out for a private one';
  return refuse(`cannot reach Redis at ${label}: ${why}`, hint);
}

const WHY: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'it ends the connection',
  EPIPE: 'it ends the connection',
  ENOENT: 'no such socket',
  ENOTFOUND: 'the host name does not resolve',
  EAI_AGAIN: 'the host name does not resolve',
  EACCES: 'its socket may not be opened by this user',
  EHOSTUNREACH: 'the host is unreachable',
  ENETUNREACH: 'the network is unreachable',
};
