/**
 * A redis-server of our own: on a unix socket in a temporary directory, no port, no persistence, for one run.
 *
 * A small shell script owns the server and the directory. It reads from a pipe whose write end only this process
 * holds, so the end of this process, in whatever way, ends the server and removes the directory.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { EXIT, UserError } from '../base/errors.ts';
import { Redis } from '../wire/ioredis.ts';
import { parseRedisUrl, type RedisTarget } from '../wire/redis.ts';

export interface PrivateRedis {
  readonly target: RedisTarget;
  readonly directory: string;
  /** Process id of the guarding script; the server is its child. */
  readonly guardPid: number;
  /** Resolves when the server is gone and the directory removed, asked for or not. */
  readonly ended: Promise<void>;
  /** Ends the server and removes the directory. */
  close(): Promise<void>;
}

// $1 is the directory, the rest the server's arguments. SIGKILL is right: there is nothing to save, and it ends a
// stopped process too. The reader is a child so that the script notices both the end of the pipe and a server that
// died.
const GUARD = `
trap '' HUP INT TERM
dir=$1; shift
exec 3<&0
redis-server "$@" </dev/null 3<&- &
server=$!
( while read -r _ <&3; do :; done; kill -KILL "$server" ) 2>/dev/null &
reader=$!
exec 3<&-
wait "$server"
kill -KILL "$reader" 2>/dev/null
rm -rf -- "$dir"
`;

const START_MS = 10_000;

export const REDIS_HINT = 'install it with: sudo apt-get install -y redis-server (or give --redis URL)';

/** Whether redis-server is on the PATH. */
export function redisServerInstalled(path = process.env['PATH'] ?? ''): boolean {
  return path.split(delimiter).some((dir) => {
    try {
      accessSync(join(dir, 'redis-server'), constants.X_OK);
      return dir !== '';
    } catch {
      return false;
    }
  });
}

/** Starts it and waits until it answers (about 40 ms). @throws UserError 104 when redis-server is missing or fails. */
export async function startPrivateRedis(): Promise<PrivateRedis> {
  if (!redisServerInstalled()) throw new UserError(EXIT.invalid, 'redis-server is not installed', REDIS_HINT);
  // A unix socket's path holds at most 107 bytes.
  const base = tmpdir().length <= 70 ? tmpdir() : '/tmp';
  const directory = mkdtempSync(join(base, 'pinstorm-'));
  const socket = join(directory, 'redis.sock');
  const args = ['--port', '0', '--unixsocket', socket, '--unixsocketperm', '700', '--save', '', '--appendonly', 'no'];
  args.push('--maxmemory-policy', 'noeviction', '--dir', directory, '--daemonize', 'no');
  const guard = spawn('/bin/sh', ['-c', GUARD, 'pinstorm-redis', directory, ...args], {
    // Its own session: Ctrl-C reaches only pinstorm, which still needs Redis for its graceful end.
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  let log = '';
  guard.stdout.setEncoding('utf8').on('data', (text: string) => (log = (log + text).slice(-4000)));
  guard.stdin.on('error', () => {});
  let running = true;
  let serverPid: number | undefined;
  const ended = new Promise<void>((resolve) => {
    const end = (): void => {
      running = false;
      rmSync(directory, { recursive: true, force: true });
      resolve();
    };
    guard.once('error', end).once('exit', (_code, signal) => {
      // A guard that was killed could not end the server.
      try {
        if (signal !== null && serverPid !== undefined) process.kill(serverPid, 'SIGKILL');
      } catch {
        // It was gone already.
      }
      end();
    });
  });
  const close = async (): Promise<void> => {
    guard.ref();
    guard.stdin.destroy();
    await ended;
  };
  // Neither the server nor the pipe keeps this process alive: its end is what ends them.
  guard.unref();
  for (const stream of [guard.stdin, guard.stdout]) (stream as unknown as { unref(): void }).unref();

  const giveUpAt = performance.now() + START_MS;
  const probe = new Redis({
    path: socket,
    maxRetriesPerRequest: null,
    retryStrategy: () => (running && performance.now() < giveUpAt ? 5 : null),
  });
  probe.on('error', () => {});
  try {
    serverPid = Number(/^process_id:(\d+)/m.exec(await probe.info('server'))?.[1]);
  } catch {
    await close();
    const last = log.trimEnd().split('\n').at(-1) ?? '';
    throw new UserError(
      EXIT.invalid,
      `the private redis-server did not start${last === '' ? '' : `: ${last}`}`,
      'see that redis-server runs on this machine, or use one that runs already: --redis URL',
    );
  } finally {
    probe.disconnect();
  }
  return { target: parseRedisUrl(socket), directory, guardPid: guard.pid ?? 0, ended, close };
}
