// needs: openssl redis-server
/** A Redis that wants TLS, a user with few rights and a key prefix: whole runs against a real one. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import { TRIED } from '../../src/coordinator/redis-check.ts';
import type { RunResults } from '../../src/report/results.ts';
import { openRedis, parseRedisUrl } from '../../src/wire/redis.ts';
import { CONTENTION, inDirectory, LiveRun } from '../worker/live-run.ts';
import { until } from './until.ts';

it('a run works with TLS, an ACL user and a key prefix, and touches no other key', async () => {
  await inDirectory(CONTENTION(1), async (directory) => {
    const at = (name: string): string => join(directory, name);
    const openssl = (...args: string[]): void => {
      execFileSync('openssl', args, { stdio: 'pipe', env: { ...process.env, RANDFILE: at('rnd') } });
    };
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=test authority', '-keyout', at('ca.key'), '-out', at('ca.crt')); // prettier-ignore
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', at('key.pem'), '-out', at('csr.pem')); // prettier-ignore
    openssl('x509', '-req', '-in', at('csr.pem'), '-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '2', '-copy_extensions', 'copy', '-out', at('crt.pem')); // prettier-ignore
    const port = await freePort();
    const acl = ['user', 'storm', 'on', '>s3cret', '~{staging*', '+@all', '-@dangerous', '+info'];
    const tls = [
      '--tls-port',
      `${port}`,
      '--port',
      '0',
      '--tls-cert-file',
      at('crt.pem'),
      '--tls-key-file',
      at('key.pem'),
    ];
    const server = spawn(
      'redis-server',
      [
        ...tls,
        '--tls-auth-clients',
        'no',
        '--bind',
        '127.0.0.1',
        '--save',
        '',
        '--dir',
        directory,
        '--user',
        ...acl.slice(1),
      ],
      { stdio: 'ignore' },
    );
    const trusted = parseRedisUrl(`rediss://127.0.0.1:${port}`, { tlsCa: at('ca.crt') });
    const admin = openRedis(trusted, 'endless');
    try {
      const url = `rediss://storm:s3cret@127.0.0.1:${port}`;
      await until('redis-server answers', async () => (await admin.ping()) === 'PONG');
      await admin.set('somebody else', '1');
      const env = { PINSTORM_REDIS: url, PINSTORM_TLS_CA: at('ca.crt') };
      const ended = async (args: string[], more: NodeJS.ProcessEnv = env) => new LiveRun(directory, args, more).ended;

      const untrusted = await ended(['worker'], { PINSTORM_REDIS: url });
      assert.equal(untrusted.code, EXIT.invalid);
      assert.match(
        untrusted.stderr,
        /the certificate of Redis at rediss:\/\/storm:\*\*\*@127\.0\.0\.1:\d+ is not trusted/,
      );
      const noRights = await ended(['run', 'scenario.yaml', '--prefix', 'production']);
      assert.equal(noRights.code, EXIT.invalid, noRights.stderr);
      assert.match(noRights.stderr, /the user lacks permission for SET, .*\nhint: .* ~\{production\*/);

      const worker = new LiveRun(
        directory,
        ['worker', '--capacity', '6', '--threads', '2', '--prefix', 'staging'],
        env,
      );
      const { code, stdout, stderr } = await ended(['coordinator', 'scenario.yaml', '--prefix', 'staging', '--json']);
      assert.notEqual(stdout, '', stderr);
      const results = JSON.parse(stdout) as RunResults;
      assert.equal(code, results.verdict.exitCode);
      assert.equal(results.accounting.balance, 'exact');
      assert.equal((await worker.ended).code, EXIT.ok);
      assert.doesNotMatch(stdout + stderr, /s3cret/);
      // The workers that `run` starts itself are told all of it.
      const run = await ended(['run', 'scenario.yaml', '--prefix', 'staging', '--threads', '2', '--quiet']);
      assert.ok(run.code === EXIT.ok || run.code === EXIT.saturated, run.stderr);
      // The check tries all that a run needs; of these the connection itself has need.
      const ofConnections = new Set(['HELLO', 'AUTH', 'SELECT', 'CLIENT|SETNAME', 'KEYS']);
      const sent = [...(await admin.info('commandstats')).matchAll(/^cmdstat_([^:]+):/gm)]
        .map(([, name = '']) => name.toUpperCase())
        .filter((name) => !ofConnections.has(name));
      assert.deepEqual(
        sent.filter((name) => !TRIED.includes(name.split('|', 1)[0] ?? '')),
        [],
      );
      const keys = (await admin.keys('*')).filter((key) => !key.endsWith(':control'));
      assert.deepEqual(keys, ['somebody else']);
    } finally {
      admin.disconnect();
      server.kill('SIGKILL');
      await once(server, 'exit');
    }
  });
});

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return port;
}
