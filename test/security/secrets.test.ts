// needs: redis-server
/**
 * A password of Redis must never be seen: not in argument lists, not on the terminal, not in what a run leaves behind.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { withoutPasswords } from '../../src/base/errors.ts';
import { startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { checkRedis } from '../../src/coordinator/redis-check.ts';
import { openRedis, parseRedisUrl } from '../../src/wire/redis.ts';
import { until } from '../coordinator/until.ts';
import { CONTENTION, inDirectory, LiveRun } from '../worker/live-run.ts';
import { argumentsOf } from './sockets.ts';

const PASSWORD = 'hunter2-s3cret';

/** What docs/security.md says a user of Redis needs. */
const RIGHTS = ['resetkeys', '~{pinstorm*', 'resetchannels', '+@all', '-@dangerous', '+info'];

/** A port of the loopback interface that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A Redis on the loopback interface whose only user is `storm`; its URL holds the password. */
async function withPasswordRedis(body: (url: string) => Promise<void>): Promise<void> {
  const redis = await startPrivateRedis();
  const admin = openRedis(redis.target, 'finite');
  try {
    const port = await freePort();
    await admin.config('SET', 'port', port);
    await admin.acl('SETUSER', 'storm', 'on', `>${PASSWORD}`, ...RIGHTS);
    await admin.acl('SETUSER', 'default', 'off');
    await body(`redis://storm:${PASSWORD}@127.0.0.1:${port}`);
  } finally {
    admin.disconnect();
    await redis.close();
  }
}

/** Files below a directory, links not followed. */
function filesOf(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? filesOf(path) : entry.isFile() ? [path] : [];
  });
}

describe('the password of Redis', { concurrency: 1 }, () => {
  for (const [how, byEnvironment] of [
    ['given by environment', true],
    ['given as an argument', false],
  ] as const) {
    it(`${how} is seen nowhere: argument lists, output, run directory`, async () => {
      await withPasswordRedis(async (url) => {
        await inDirectory(CONTENTION(60), async (directory) => {
          const args = ['run', 'scenario.yaml', '--threads', '2', '--workers', '2', '--metrics-port', '0'];
          const run = byEnvironment
            ? new LiveRun(directory, args, { PINSTORM_REDIS: url, PINSTORM_DEBUG: '1' })
            : new LiveRun(directory, [...args, '--redis', url], { PINSTORM_DEBUG: '1' });
          await until('both workers are there', () => run.pids('--supervised').length === 2);
          // From here on the argument list has been overwritten, where there was something in it.
          const pids = run.pids('');
          assert.ok(pids.length >= 3, `processes: ${pids.join(' ')}`);
          for (const pid of pids) assert.ok(!argumentsOf(pid).includes(PASSWORD), argumentsOf(pid));
          await run.loaded();
          for (const pid of run.pids('')) assert.ok(!argumentsOf(pid).includes(PASSWORD), argumentsOf(pid));
          run.process.kill('SIGINT');
          const { code, stdout, stderr } = await run.ended;
          assert.ok(code !== null && code !== 70, stderr);
          assert.ok(!(stdout + stderr).includes(PASSWORD));
          const files = filesOf(directory);
          assert.ok(files.some((file) => file.endsWith('results.json')));
          for (const file of files) assert.ok(!readFileSync(file, 'utf8').includes(PASSWORD), file);
        });
      });
    });
  }

  it('is not in the messages of a refused login, a lost server or a misspelt option', async () => {
    await withPasswordRedis(async (url) => {
      await inDirectory(CONTENTION(1), async (directory) => {
        const wrong = url.replace('storm:', 'nobody:');
        for (const args of [
          ['run', 'scenario.yaml', '--redis', wrong],
          ['worker', '--redis', wrong],
          ['run', 'scenario.yaml', '--redis', url.replace('redis:', 'http:')],
          ['run', 'scenario.yaml', '--redis', `${url}?password=${PASSWORD}`],
          ['run', 'scenario.yaml', `--reddis=${url}`],
          ['run', url],
          [url],
        ]) {
          const { code, stdout, stderr } = await new LiveRun(directory, args).ended;
          assert.equal(code, 104, stderr);
          assert.ok(!(stdout + stderr).includes(PASSWORD), stderr);
        }
      });
    });
  });

  it('is masked when a server repeats what was sent to it', async () => {
    const parrot = createServer((socket) => {
      socket.on('error', () => {});
      socket.on('data', (sent) => {
        const words = sent
          .toString()
          .split('\r\n')
          .filter((word) => word !== '' && !/^[*$]/.test(word));
        socket.write(`-ERR unknown command, with args beginning with: ${words.join(' ')}\r\n`.repeat(4));
      });
    }).listen(0, '127.0.0.1');
    await once(parrot, 'listening');
    const { port } = parrot.address() as AddressInfo;
    try {
      const target = parseRedisUrl(`redis://storm:${PASSWORD}@127.0.0.1:${port}`);
      await assert.rejects(checkRedis(target), (error: Error & { hint?: string }) => {
        assert.ok(!`${error.message} ${error.hint} ${error.stack}`.includes(PASSWORD), error.message);
        return true;
      });
    } finally {
      parrot.close();
    }
  });

  it('is masked in any URL, whatever stands around it', () => {
    for (const [text, masked] of [
      ['redis://u:p@h', 'redis://u:***@h'],
      ['redis://:p@h:1/2', 'redis://:***@h:1/2'],
      ["unknown option '--x=rediss://u:p:q@h'", "unknown option '--x=rediss://u:***@h'"],
      ['redis://u:p@q@h', 'redis://u:***@h'],
      ['a http://h:80/x@y b', 'a http://h:80/x@y b'],
      ['no url: x@y', 'no url: x@y'],
    ] as const) {
      assert.equal(withoutPasswords(text), masked);
    }
  });
});
