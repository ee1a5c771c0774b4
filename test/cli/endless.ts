/** Commands that never end by themselves, in processes of their own, for tests that interrupt them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { until } from '../coordinator/until.ts';

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Waits until the progress line says so. */
  shows(progress: RegExp): Promise<void>;
}

/** The progress line while a single host is under way, past the first instants of simulated time. */
export const SIMULATING = /[1-9]\S* simulated in /;

/** Progress is for terminals: the process takes its standard error for one. */
const TERMINAL = 'data:text/javascript,process.stderr.isTTY=true';

/** Runs `pinstorm ARGS`. */
export function start(...args: string[]): Started {
  const argv = ['--import', TERMINAL, 'dist/src/cli/main.js', ...args];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  const ended = new Promise<Ended>((resolve) => child.once('close', (code) => resolve({ code, out, err })));
  const over = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const shows = async (progress: RegExp): Promise<void> => {
    await until(`the process shows ${progress}`, () => progress.test(err) || over());
    if (!progress.test(err)) throw new Error(`pinstorm ${args.join(' ')} ended, and had not shown ${progress}: ${err}`);
  };
  return { child, ended, shows };
}

/** Writes a scenario of one guest that is at work until it is told to stop. @returns its file. */
export function endlessScenario(directory: string): string {
  const file = path.join(directory, 'endless.yaml');
  writeFileSync(
    file,
    `name: endless
guests:
  - class: stress
    memory: { size: 64KiB, backing: anon4k }
    memlock: 64KiB
    actors:
      - { name: mapper, task: main, workload: map-unmap, options: { pages: 1 page } }
      - { name: locker, task: vm_child, workload: mlock-loop, options: { pages: 1 page } }
`,
  );
  return file;
}
