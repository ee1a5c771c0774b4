// needs: redis-server
/**
 * What a Redis must be: each server that cannot serve a run is refused before the start, in one message with the
 * remedy.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { EXIT, UserError } from '../../src/base/errors.ts';
import { type PrivateRedis, startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { checkRedis } from '../../src/coordinator/redis-check.ts';
import { openRedis, parseRedisUrl, type RedisTarget } from '../../src/wire/redis.ts';
import { until } from './until.ts';

/** Nothing of what Redis or a library says, and no secret. */
const FOREIGN = /s3cret|MOVED|READONLY|NOPERM|WRONGPASS|NOAUTH|MISCONF|ERR |unknown command|Protocol error|reply type/;

async function refused(target: RedisTarget, message: RegExp, hint: RegExp): Promise<void> {
  await assert.rejects(checkRedis(target), (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.exitCode, EXIT.invalid);
    assert.match(error.message, message);
    assert.match(error.hint ?? '', hint);
    assert.doesNotMatch(`${error.message} ${error.hint}`, FOREIGN);
    return true;
  });
}

const listening = async <T extends NetServer>(server: T): Promise<RedisTarget> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return parseRedisUrl(`redis://u:s3cret@127.0.0.1:${(server.address() as AddressInfo).port}`);
};

describe('a Redis of one of these kinds is refused', () => {
  let directory: string;
  const processes: ChildProcess[] = [];
  before(() => (directory = mkdtempSync(join(tmpdir(), 'pin-check-'))));
  after(async () => {
    for (const server of processes) {
      server.kill('SIGKILL');
      await once(server, 'exit');
    }
    rmSync(directory, { recursive: true });
  });

  /** A server on a free port, started with these arguments or this configuration. */
  async function start(args: readonly string[]): Promise<RedisTarget> {
    const probe = createServer();
    const { options } = await listening(probe);
    probe.close();
    await once(probe, 'close');
    const target = parseRedisUrl(`redis://127.0.0.1:${options.port}`);
    const own = ['--port', `${options.port}`, '--bind', '127.0.0.1', '--dir', directory, '--save', ''];
    const server = spawn('redis-server', [...args, ...own], { stdio: 'ignore' });
    processes.push(server);
    const client = openRedis(target, 'endless');
    client.options.enableReadyCheck = false;
    await until('redis-server answers', async () => (await client.ping()) === 'PONG');
    client.disconnect();
    return target;
  }

  it('a node of a cluster', async () => {
    const target = await start(['--cluster-enabled', 'yes', '--cluster-port', '0']).catch(() => undefined);
    assert.ok(target !== undefined);
    await refused(target, /^Redis at redis:.* is a node of a Redis Cluster, which is not supported$/, /no cluster/);
  });

  it('a Sentinel', async () => {
    const file = join(directory, 'sentinel.conf');
    writeFileSync(file, '');
    await refused(await start([file, '--sentinel']), /is a Sentinel/, /address of the primary/);
  });

  it('a replica', async () => {
    const target = await start(['--replicaof', '127.0.0.1 1']);
    await refused(target, /is a replica/, /address of its primary: 127\.0\.0\.1:1$/);
  });
});

describe('what is no Redis, or does not answer, is refused', () => {
  it('a closed port and a missing socket', async () => {
    const server = createServer();
    const target = await listening(server);
    server.close();
    await once(server, 'close');
    await refused(target, /cannot reach Redis at redis:\/\/u:\*\*\*@.*: connection refused$/, /start it/);
    await refused(parseRedisUrl('/nonexistent/redis.sock'), /no such socket$/, /start it/);
  });

  it('a server of HTTP, one that only closes, and one that never answers', async () => {
    const http = createHttpServer((_, response) => response.end('no'));
    const closing = createServer((socket) => socket.destroy());
    const mute = createServer(() => {});
    const targets = await Promise.all([http, closing, mute].map(listening));
    try {
      await refused(targets[0] as RedisTarget, /what answers at redis:.* is no Redis$/, /correct the address/);
      await refused(targets[1] as RedisTarget, /it ends the connection$/, /rediss:/);
      await refused(targets[2] as RedisTarget, /no answer within 4 s$/, /start it/);
    } finally {
      for (const server of [http, closing, mute]) server.close();
    }
  });
});

describe('a Redis that a run may not use as it is', () => {
  let redis: PrivateRedis;
  let admin: ReturnType<typeof openRedis>;
  before(async () => {
    redis = await startPrivateRedis();
    admin = openRedis(redis.target, 'finite');
  });
  after(async () => {
    admin.disconnect();
    await redis.close();
  });
  const as = (options: RedisTarget['options']): RedisTarget => ({
    ...redis.target,
    options: { ...redis.target.options, ...options },
  });

  it('passes when it is good, and leaves nothing there', async () => {
    await checkRedis(redis.target);
    await checkRedis(as({ db: 15 }));
    assert.equal(await admin.dbsize(), 0);
  });

  it('has no such database', async () => {
    await refused(as({ db: 99 }), /has no database 99$/, /0 to 15/);
    assert.equal(await admin.dbsize(), 0);
  });

  it('drops jobs when its memory is full', async () => {
    await admin.config('SET', 'maxmemory', '100mb');
    await admin.config('SET', 'maxmemory-policy', 'allkeys-lru');
    await refused(redis.target, /may drop jobs .*allkeys-lru/, /noeviction/);
    await admin.config('SET', 'maxmemory-policy', 'noeviction');
    await admin.config('SET', 'maxmemory', '0');
  });

  it('takes no writes', async () => {
    await admin.config('SET', 'min-replicas-to-write', '1');
    await refused(redis.target, /refuses SET: it has too few replicas/, /.+/);
    await admin.config('SET', 'min-replicas-to-write', '0');
  });

  const RULES = ['on', 'nopass', 'resetkeys', '~{pinstorm*', '+@all', '-@dangerous', '+info'];
  for (const [what, rules, message] of [
    ['EVAL', ['-eval'], /lacks permission for EVAL$/],
    ['TIME and XADD', ['-time', '-xadd'], /lacks permission for XADD, TIME$/],
    ['INFO', ['-info'], /lacks permission for INFO$/],
    ['SELECT', ['-select'], /lacks permission for SELECT$/],
    ['our keys', ['resetkeys', '~other*'], /lacks permission for SET, EXISTS, GET.* more$/],
    ['scripts and writes', ['-@scripting', '-@write'], /lacks permission for SET.* more$/],
  ] as const) {
    it(`lets its user not use ${what}`, async () => {
      await admin.acl('SETUSER', 'storm', 'reset', ...RULES);
      await checkRedis(as({ username: 'storm', password: 'any', db: 1 }));
      await admin.acl('SETUSER', 'storm', ...rules);
      await refused(as({ username: 'storm', password: 'any', db: 1 }), message, /ACL rules ~\{pinstorm\*/);
    });
  }

  it('refuses the login', async () => {
    await admin.config('SET', 'requirepass', 's3cret');
    await refused(redis.target, /refused the login$/, /user:password@host/);
    await refused(as({ password: 's3cret-no' }), /refused the login$/, /user:password@host/);
    await checkRedis(as({ password: 's3cret' }));
  });
});
