// needs: redis-server
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { EXIT, UserError } from '../../src/base/errors.ts';
import { redisServerInstalled, startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { awaitFound, clockOffset, openRedis, parseRedisUrl } from '../../src/wire/redis.ts';
import { isAlive, until } from './until.ts';

const invalid = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof UserError, String(error));
  assert.equal(error.exitCode, EXIT.invalid);
  assert.match(error.message, pattern);
  assert.doesNotMatch(`${error.message} ${error.hint}`, /s3cret/);
  return true;
};

describe('Redis address', () => {
  it('accepts URLs, TLS, IPv6 and socket paths, and masks the password', () => {
    const full = parseRedisUrl('redis://me:s3cret%21@db.example:7000/3');
    assert.deepEqual(full.options, { host: 'db.example', port: 7000, db: 3, username: 'me', password: 's3cret!' });
    assert.equal(full.label, 'redis://me:***@db.example:7000/3');
    assert.deepEqual(parseRedisUrl('redis://[::1]').options, { host: '::1', port: 6379, db: 0 });
    assert.deepEqual(parseRedisUrl('rediss://h').options.tls, { servername: 'h' });
    assert.equal(parseRedisUrl('redis://:s3cret@h').label, 'redis://:***@h:6379');
    for (const path of ['/run/r.sock', 'unix:/run/r.sock', 'unix:///run/r.sock']) {
      assert.deepEqual(parseRedisUrl(path).options, { path: '/run/r.sock' });
    }
  });

  for (const bad of [
    '',
    'localhost:6379',
    'http://h',
    'redis://',
    'redis://h/x',
    'redis://h?p=s3cret',
    'redis://%@h',
  ]) {
    it(`refuses ${JSON.stringify(bad)} with the accepted forms`, () => {
      assert.throws(() => parseRedisUrl(bad), invalid(/invalid Redis address/));
    });
  }
});

it('whoever waits for something in Redis bears with one that is away, and with nothing else', async () => {
  const nowhere = parseRedisUrl('/nowhere/redis.sock');
  const away = Object.assign(new Error('connect ENOENT'), { code: 'ENOENT' });
  let looks = 0;
  const found = await awaitFound(
    nowhere,
    () => {
      looks += 1;
      return looks === 1 ? Promise.reject(away) : Promise.resolve('a run');
    },
    AbortSignal.timeout(60_000),
  );
  assert.deepEqual([found, looks], ['a run', 2]);
  const bug = awaitFound(nowhere, () => Promise.reject(new Error('a bug')), AbortSignal.timeout(60_000));
  await assert.rejects(bug, /a bug/);
});

describe('private Redis', () => {
  it('answers, has no port, and leaves nothing behind', async () => {
    const redis = await startPrivateRedis();
    const client = openRedis(redis.target, 'finite');
    assert.equal((await client.config('GET', 'port'))[1], '0');
    const { skewMs, roundTripMs } = await clockOffset(client);
    assert.ok(Math.abs(skewMs) <= roundTripMs + 1, `same machine, offset ${skewMs} ms`);
    client.disconnect();
    assert.ok(existsSync(redis.directory));
    await redis.close();
    assert.ok(!existsSync(redis.directory));
    assert.ok(!(await isAlive(redis.guardPid)));
  });

  for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT'] as const) {
    it(`is gone after ${signal} of its owner, a stopped server too`, async () => {
      const owner = spawn(process.execPath, [new URL('./redis-owner.js', import.meta.url).pathname], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [line] = (await once(createInterface(owner.stdout), 'line')) as [string];
      const { directory, guardPid, serverPid } = JSON.parse(line) as {
        directory: string;
        guardPid: number;
        serverPid: number;
      };
      assert.ok((await isAlive(serverPid)) && existsSync(directory));
      process.kill(serverPid, 'SIGSTOP');
      owner.kill(signal);
      await until('server, guard and directory are gone', async () => {
        return !(await isAlive(serverPid)) && !(await isAlive(guardPid)) && !existsSync(directory);
      });
    });
  }

  it('reports its own unexpected end', async () => {
    const redis = await startPrivateRedis();
    const client = openRedis(redis.target, 'finite');
    const pid = Number(/^process_id:(\d+)/m.exec(await client.info('server'))?.[1]);
    client.disconnect();
    process.kill(pid, 'SIGKILL');
    let ended = false;
    void redis.ended.finally(() => (ended = true));
    await until('the end is reported', () => ended);
    assert.ok(!existsSync(redis.directory));
    await redis.close();
  });

  it('names the one command when redis-server is missing', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'pinstorm-path-'));
    const path = process.env['PATH'];
    assert.ok(redisServerInstalled());
    process.env['PATH'] = empty;
    try {
      await assert.rejects(startPrivateRedis(), (error: unknown) => {
        invalid(/not installed/)(error);
        assert.match((error as UserError).hint ?? '', /apt-get install -y redis-server/);
        return true;
      });
    } finally {
      process.env['PATH'] = path;
      rmSync(empty, { recursive: true });
    }
  });
});
