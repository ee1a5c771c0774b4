/**
 * Runs a command line in this process, as src/cli/main.ts would in one of its own: a new process costs a second of CPU.
 * What only a process shows (signals, pipes, the end of the process) is tested with processes.
 */
import { tmpdir } from 'node:os';
import { runCommandLine } from '../../src/cli/frame.ts';
import { type Output, stderr, stdout } from '../../src/console/output.ts';

export interface Ended {
  readonly status: number;
  readonly out: string;
  readonly err: string;
  /** Both, in the order in which they were written. */
  readonly both: string;
}

/** Output, arguments and environment belong to the whole process: one command at a time. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Runs `pinstorm ARGS` in an environment of `env`, PATH and TMPDIR alone. @returns the exit status and what a pipe, or
 * a terminal, would have received.
 */
export function pinstorm(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  terminal = false,
): Promise<Ended> {
  const ended = last.then(() => runAlone(args, env, terminal));
  last = ended.catch(() => {});
  return ended;
}

async function runAlone(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  terminal: boolean,
): Promise<Ended> {
  let both = '';
  const add = (more: string): void => void (both += more);
  const [out, err] = [collect(stdout, terminal, add), collect(stderr, terminal, add)];
  const { argv, env: before } = process;
  process.argv = [argv[0] ?? '', 'dist/src/cli/main.js', ...args];
  const { PATH, TMPDIR = tmpdir() } = before;
  process.env = { PATH, TMPDIR, ...env };
  try {
    const status = await runCommandLine(args, process.env);
    return { status, out: out.text(), err: err.text(), both };
  } finally {
    process.argv = argv;
    process.env = before;
    out.release();
    err.release();
  }
}

/** Takes all that goes to `output` until released. It looks like a pipe or a terminal, wherever the test runs. */
function collect(output: Output, terminal: boolean, add: (more: string) => void): { text(): string; release(): void } {
  let text = '';
  const take = (more: string): void => {
    text += more;
    add(more);
  };
  const looks = {
    raw: { configurable: true, value: take },
    isTTY: { configurable: true, value: terminal },
    columns: { configurable: true, value: undefined },
  };
  Object.defineProperties(output, looks);
  return {
    text: () => text,
    release: () => {
      for (const name of Object.keys(looks)) Reflect.deleteProperty(output, name);
    },
  };
}
