/** Worker processes on this machine, started by the coordinator's process and never outliving it. */
import { type ChildProcess, spawn } from 'node:child_process';
import type { RedisTarget } from '../wire/redis.ts';

export interface ChildOptions {
  /** The script of the command line, which knows `worker`. */
  readonly main: string;
  readonly target: RedisTarget;
  readonly runId: string;
  readonly count: number;
  readonly threads: number;
  /** Guests each may run at a time. */
  readonly capacity: number;
}

export interface ChildListener {
  /** A child ended before `finish` was called. `why` is one line. */
  gone(worker: string, why: string): void;
  /** A line a child wrote to its stderr. */
  said(worker: string, line: string): void;
}

export class WorkerProcesses {
  readonly #children = new Map<string, { process: ChildProcess; exited: Promise<void> }>();
  #finishing = false;

  constructor(options: ChildOptions, listener: ChildListener) {
    const { main, target, runId, count, threads, capacity } = options;
    // The user's variables are meant for the coordinator: one port for metrics cannot serve two processes. The address
    // goes by environment because it may hold a password, and argument lists are public.
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('PINSTORM_'));
    const env = {
      ...Object.fromEntries(inherited),
      PINSTORM_REDIS: target.url,
      PINSTORM_PREFIX: target.prefix,
      ...(target.tlsCa === undefined ? {} : { PINSTORM_TLS_CA: target.tlsCa }),
    };
    for (let i = 1; i <= count; i += 1) {
      const worker = `w${i}`;
      const args = [main, 'worker', '--run', runId, '--name', worker, '--supervised'];
      args.push('--threads', `${threads}`, '--capacity', `${capacity}`);
      const child = spawn(process.execPath, args, {
        env,
        // A session of its own: Ctrl-C reaches only the coordinator, which ends the workers in order. Its stdin is a
        // pipe that closes with this process, however that ends.
        detached: true,
        stdio: ['pipe', 'ignore', 'pipe'],
      });
      let last = '';
      let rest = '';
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line.startsWith('pinstorm: ')) last = line;
          // The last words of the engine.
          else if (/out of memory|Fatal process OOM/.test(line)) last = 'it ran out of memory';
          listener.said(worker, line);
        }
      });
      child.stdin?.on('error', () => {});
      const exited = new Promise<void>((resolve) => {
        child.once('error', (error) => {
          resolve();
          if (!this.#finishing) listener.gone(worker, `it could not be started: ${error.message}`);
        });
        child.once('close', (code, signal) => {
          resolve();
          const how = signal === null ? `exit status ${code}` : `ended by ${signal}`;
          const said = last.replace(/^pinstorm: (error: )?/, '');
          if (!this.#finishing) listener.gone(worker, `its process ended, ${how}${said === '' ? '' : `: ${said}`}`);
        });
      });
      this.#children.set(worker, { process: child, exited });
    }
  }

  get pids(): number[] {
    return [...this.#children.values()].flatMap(({ process: { pid } }) => (pid === undefined ? [] : [pid]));
  }

  /** Waits for the children to end by themselves, kills those that do not within `graceMs`. */
  async finish(graceMs: number): Promise<void> {
    this.#finishing = true;
    const all = Promise.all([...this.#children.values()].map(({ exited }) => exited));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, graceMs)));
    if (graceMs > 0) await Promise.race([all, late]);
    clearTimeout(timer);
    for (const { process: child } of this.#children.values()) child.kill('SIGKILL');
    await all;
  }
}
