/** Starts pinstorm as a user would, in a temporary directory of its own, for tests of whole runs. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RunResults } from '../../src/report/results.ts';
import { until } from '../coordinator/until.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/**
 * Guests whose two threads map and unmap through containers of their own: trylocks fail, updates are deferred. Light
 * enough for a busy machine.
 */
export const CONTENTION = (seconds: number, guests = 6): string => `
name: contention
seed: 20170322
variant: D
pace: 1
guests:
  - class: busy
    count: ${guests}
    containers: 2
    memory: { size: 16MiB, backing: anon4k }
    cap_ipc_lock: true
    start: { spread: 200ms }
    duration: ${seconds}s
    actors:
${[0, 1]
  .map(
    (container) => `
      - name: mapper-${container}
        task: thread
        workload: map-unmap
        options: { pages: 64 pages, slots: 4, container: ${container} }
        arrival: { kind: burst, operations: 4, every: 50ms }`,
  )
  .join('')}
# Deferred updates may pass each other, so locked_vm can dip below zero on the way.
expect: [wrap]
`;

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class LiveRun {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  /** What it has said so far. */
  stderr = '';
  readonly #directory: string;

  /** `wrap`: a command that starts it, for example in another network namespace. */
  constructor(directory: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, wrap: readonly string[] = []) {
    this.#directory = directory;
    const [command = '', ...rest] = [...wrap, process.execPath, MAIN, ...args];
    this.process = spawn(command, rest, {
      cwd: directory,
      env: { ...process.env, TMPDIR: join(directory, 'tmp'), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.ended = new Promise((resolve, reject) => {
      this.process.once('error', reject);
      this.process.once('close', (code, signal) => resolve({ code, signal, stdout, stderr: this.stderr }));
    });
  }

  /** Resolves when guests run and trylocks have failed; rejects if the run ends before. */
  async loaded(): Promise<void> {
    const early = this.ended.then(({ code, stderr }) => {
      throw new Error(`ended with ${code} before guests ran: ${stderr}`);
    });
    const file = join(this.#directory, 'runs', 'latest', 'intervals.jsonl');
    const busy = until(
      'deferred updates are queued',
      () => {
        try {
          return readFileSync(file, 'utf8').includes('"deferred_queued"');
        } catch {
          return false;
        }
      },
      150_000,
    );
    await Promise.race([busy, early]);
  }

  /** Processes of this run, by a part of their command line. */
  pids(part: string): number[] {
    return processesOf(this.#directory, part);
  }
}

/** Live processes whose command line or environment names the test's directory, and whose command line has a part. */
export function processesOf(directory: string, part: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        // redis-server overwrites its environment with its title, which names the socket.
        const own = commandLine.includes(directory) || readFileSync(`/proc/${pid}/environ`, 'utf8').includes(directory);
        return own && commandLine.includes(part);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/**
 * Gives `body` a fresh directory with `scenario.yaml`; afterwards nothing of the run may be left, and it is removed.
 */
export async function inDirectory(scenario: string, body: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'pin-test-'));
  writeFileSync(join(directory, 'scenario.yaml'), scenario);
  const temporary = join(directory, 'tmp');
  mkdirSync(temporary);
  try {
    await body(directory);
    await until('no process of the run is left', () => processesOf(directory, '').length === 0);
    await until('no temporary file is left', () => readdirSync(temporary).length === 0);
  } finally {
    for (const pid of processesOf(directory, '')) process.kill(pid, 'SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What the run left in its run directory. */
export function resultsOf(directory: string): RunResults {
  return JSON.parse(readFileSync(join(directory, 'runs', 'latest', 'results.json'), 'utf8')) as RunResults;
}

/** Tests that are about deferred updates wait for `loaded()` first: then there were some. */
export function assertExact({ accounting, coverage }: RunResults, stopped = false): void {
  assert.equal(accounting.balance, 'exact');
  assert.equal(accounting.deferred.applied, accounting.deferred.queued);
  const { guestsPlanned, guestsFinished, guestsStopped = 0 } = coverage;
  assert.equal(guestsFinished + guestsStopped, guestsPlanned);
  assert.equal(guestsStopped > 0, stopped);
}
