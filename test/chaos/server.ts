/** A real redis-server of a test's own, which can be stopped, killed and started again with what it kept. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { parseRedisUrl, type RedisTarget } from '../../src/wire/redis.ts';
import { until } from '../coordinator/until.ts';

export class Server {
  readonly url: string;
  readonly target: RedisTarget;
  /** For looking and for commands of the test. */
  readonly admin: Redis;
  readonly #directory: string;
  readonly #args: readonly string[];
  #process: ChildProcess | undefined;

  /** On a unix socket in `directory`, with an append-only file there. `args` come last. */
  constructor(directory: string, args: readonly string[] = []) {
    this.#directory = directory;
    this.url = join(directory, 'redis.sock');
    this.target = parseRedisUrl(this.url);
    this.#args = [
      '--port',
      '0',
      '--unixsocket',
      this.url,
      '--dir',
      directory,
      '--save',
      '',
      '--appendonly',
      'yes',
      ...args,
    ];
    this.admin = new Redis({ path: this.url, lazyConnect: true, maxRetriesPerRequest: null, retryStrategy: () => 20 });
    this.admin.on('error', () => {});
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  async start(): Promise<this> {
    const server = spawn('redis-server', this.#args, { stdio: 'ignore' });
    this.#process = server;
    await until('redis-server answers', async () => {
      if (server.exitCode !== null) throw new Error(`redis-server ended with ${server.exitCode}`);
      const probe = new Redis({
        path: this.url,
        lazyConnect: true,
        maxRetriesPerRequest: 0,
        retryStrategy: () => null,
      });
      probe.on('error', () => {});
      try {
        await probe.connect();
        return (await probe.ping()) === 'PONG';
      } catch {
        return false;
      } finally {
        probe.disconnect();
      }
    });
    return this;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const server = this.#process;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    server.kill(signal);
    await once(server, 'exit');
  }

  /**
   * What would be on the disk now. The function it returns puts that back while the server is down: as after a power
   * failure that took everything since.
   */
  remember(): () => void {
    const [log, copy] = ['appendonlydir', 'remembered'].map((name) => join(this.#directory, name)) as [string, string];
    rmSync(copy, { recursive: true, force: true });
    cpSync(log, copy, { recursive: true });
    return () => {
      rmSync(log, { recursive: true });
      renameSync(copy, log);
    };
  }

  async close(): Promise<void> {
    this.admin.disconnect();
    await this.kill();
  }
}
