/**
 * Explore beside SPIN (Debian packages spin and gcc) on one case, cases/over-commit.yaml, in several sizes: same
 * verdict, states and time. The Promela model (bench/spin/over-commit.pml) has one statement for each step that others
 * can see; explore runs the kernel paths whole, with allocation, look-ups, GUP and the IOMMU. SPIN keeps states and so
 * visits each once; explore cannot copy a path and executes every class of interleavings from the start. Writes
 * bench/results/spin.json.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { CASE_DEFAULTS, type ExploreCase } from '../src/engine/explore/case.ts';
import { DfsStrategy } from '../src/engine/explore/dfs.ts';
import { Execution } from '../src/engine/explore/execution.ts';
import { search } from '../src/engine/explore/search.ts';
import { resolveVariant } from '../src/model/kernels/index.ts';

const SIZES = [1, 2, 3] as const;
const seconds = (start: bigint): number => Number(process.hrtime.bigint() - start) / 1e9;

/** `pages` pages under a limit of `pages` - 1, but at least one. */
const limitOf = (pages: number): number => Math.max(1, pages - 1);

function explore(pages: number, id: string): Record<string, unknown> {
  const plan: ExploreCase = {
    ...CASE_DEFAULTS,
    name: 'over-commit',
    memlockPages: limitOf(pages),
    actors: [
      { name: 'mapper', task: 'main', ops: [{ op: 'map', iova: 0, page: 0, pages, container: 0 }] },
      { name: 'reader', task: 'thread', ops: [{ op: 'hold', mode: 'read' }] },
    ],
  };
  const run = (states: boolean): [ReturnType<typeof search>, number] => {
    const start = process.hrtime.bigint();
    const result = search(new Execution(plan, resolveVariant(id)), new DfsStrategy(), {
      maxSteps: 10_000,
      maxSchedules: 1_000_000,
      expected: new Set(['limit-bypass']),
      states,
    });
    return [result, seconds(start)];
  };
  // Once for the code to be compiled, once counting states, once for time.
  run(false);
  const [{ states }] = run(true);
  const [result, time] = run(false);
  return {
    violated: [...result.failures.keys()],
    verdict: result.verdict,
    interleavings: result.interleavings,
    states,
    steps: result.steps,
    seconds: time,
    interleavingsPerSecond: Math.round(result.interleavings / time),
    stepsPerSecond: Math.round(result.steps / time),
  };
}

function spin(pages: number, defer: boolean, directory: string): Record<string, unknown> {
  const must = (command: string, ...args: string[]): string => {
    const { status, stdout, error } = spawnSync(command, args, { cwd: directory, encoding: 'utf8' });
    if (error !== undefined || status !== 0) throw new Error(`${command}: ${error?.message ?? stdout}`);
    return stdout;
  };
  const start = process.hrtime.bigint();
  const defines = [`-DDEFER=${defer ? 1 : 0}`, `-DPAGES=${pages}`, `-DLIMIT=${limitOf(pages)}`];
  must('spin', '-a', ...defines, path.resolve('bench/spin/over-commit.pml'));
  must('gcc', '-O2', '-DSAFETY', '-w', '-o', 'pan', 'pan.c');
  const compileSeconds = seconds(start);
  const ran = process.hrtime.bigint();
  const out = spawnSync('./pan', ['-c0', '-m100000'], { cwd: directory, encoding: 'utf8' }).stdout;
  const time = seconds(ran);
  const number = (pattern: RegExp): number => Number(pattern.exec(out)?.[1] ?? Number.NaN);
  return {
    violated: number(/errors: (\d+)/) > 0 ? ['limit-bypass'] : [],
    states: number(/(\d+) states, stored/),
    transitions: number(/(\d+) transitions/),
    seconds: time,
    compileSeconds,
  };
}

const directory = mkdtempSync(path.join(os.tmpdir(), 'pinstorm-spin-'));
try {
  const rows = SIZES.flatMap((pages) =>
    (['D', 'E'] as const).map((variant) => {
      const row = {
        pages,
        limitPages: limitOf(pages),
        variant,
        explore: explore(pages, variant),
        spin: spin(pages, variant === 'D', directory),
      };
      if (JSON.stringify(row.explore['violated']) !== JSON.stringify(row.spin['violated'])) {
        throw new Error(`explore and spin disagree: ${JSON.stringify(row)}`);
      }
      process.stdout.write(`${JSON.stringify(row)}\n`);
      return row;
    }),
  );
  const spinVersion = spawnSync('spin', ['-V'], { encoding: 'utf8' }).stdout.trim();
  const machine = {
    cpus: os.cpus().length,
    model: os.cpus()[0]?.model ?? 'unknown',
    node: process.version,
    spinVersion,
  };
  mkdirSync('bench/results', { recursive: true });
  writeFileSync('bench/results/spin.json', `${JSON.stringify({ machine, rows }, null, 2)}\n`);
} finally {
  rmSync(directory, { recursive: true });
}
