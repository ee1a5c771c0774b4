/** A network of its own for one process: a network namespace joined to this one by a virtual cable that can be cut. */
import { spawnSync } from 'node:child_process';

const ip = (...args: string[]): string | null => {
  const { status, stderr, error } = spawnSync('ip', args, { encoding: 'utf8' });
  return status === 0 ? null : (error?.message ?? stderr.trim());
};

/** Why there can be no network namespaces here; null when there can. */
export function noNetworks(): string | null {
  const probe = `pin-probe-${process.pid}`;
  const why =
    ip('netns', 'add', probe) ??
    ip('link', 'add', `pp${process.pid}`, 'type', 'veth', 'peer', 'name', `pq${process.pid}`);
  ip('link', 'del', `pp${process.pid}`);
  ip('netns', 'del', probe);
  return why;
}

let made = 0;

export class Network {
  readonly #name: string;
  readonly #here: string;
  /** Address at which the namespace finds this side. */
  readonly hostAddress: string;
  /** Put before a command line: the command runs in the namespace. */
  readonly wrap: readonly string[];

  constructor() {
    made += 1;
    this.#name = `pin-${process.pid}-${made}`;
    this.#here = `pv${process.pid}h${made}`;
    const there = `pv${process.pid}n${made}`;
    const net = `10.${200 + (process.pid % 50)}.${made}`;
    this.hostAddress = `${net}.1`;
    this.wrap = ['ip', 'netns', 'exec', this.#name];
    const must = (...args: string[]): void => {
      const why = ip(...args);
      if (why !== null) throw new Error(`ip ${args.join(' ')}: ${why}`);
    };
    must('netns', 'add', this.#name);
    must('link', 'add', this.#here, 'type', 'veth', 'peer', 'name', there);
    must('link', 'set', there, 'netns', this.#name);
    must('addr', 'add', `${net}.1/24`, 'dev', this.#here);
    must('link', 'set', this.#here, 'up');
    must('-n', this.#name, 'addr', 'add', `${net}.2/24`, 'dev', there);
    must('-n', this.#name, 'link', 'set', there, 'up');
  }

  cut(): void {
    ip('link', 'set', this.#here, 'down');
  }

  heal(): void {
    ip('link', 'set', this.#here, 'up');
  }

  remove(): void {
    ip('link', 'del', this.#here);
    ip('netns', 'del', this.#name);
  }
}
