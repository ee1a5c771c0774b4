/**
 * A case under the drivers that know time: many executions, each judged by the invariants and by what the case allows,
 * and their outcomes set beside those exploration finds. An outcome that no interleaving of the explored case has would
 * mean that the drivers do not run the same model.
 */
import { setImmediate } from 'node:timers/promises';
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import { SEED_MAX } from '../base/prng.ts';
import { type Interrupts, stopOnInterrupt } from '../console/interrupts.ts';
import { print, say } from '../console/output.ts';
import { runCaseOnThreads } from '../emulator/case-wall.ts';
import { DfsStrategy } from '../engine/explore/dfs.ts';
import { Execution, type Failure } from '../engine/explore/execution.ts';
import { search } from '../engine/explore/search.ts';
import { type CaseExecution, simulateCase } from '../engine/virtual/case-virtual.ts';
import type { Variant } from '../model/env.ts';
import { INVARIANTS } from '../model/oracle.ts';
import type { ParsedSource } from '../scenario/source.ts';
import { DEFAULT_MAX_STEPS, type Program, programFrom } from './explore-program.ts';
import { variantNamed } from './variant-named.ts';

export type CaseDriver = 'virtual' | 'wall';

/** Executions when the user gives no number. */
export const CASE_EXECUTIONS: Readonly<Record<CaseDriver, number>> = { virtual: 1000, wall: 200 };

/** Interleavings explored for the comparison at most. */
const EXPLORED_MAX = 20_000;

export interface CaseOutcome {
  readonly outcome: string;
  /** Executions that ended so. */
  readonly times: number;
  /** Whether some interleaving of the explored case ends so; null: not found, and not all were explored. */
  readonly explored: boolean | null;
}

/** The first failure of a kind, and how many executions failed so. */
export interface CaseFailure {
  readonly failure: Failure;
  readonly times: number;
  /** The case says that the variant fails so. */
  readonly expected: boolean;
  /** As for outcomes. */
  readonly explored: boolean | null;
}

export interface CaseRun {
  readonly variant: Variant;
  readonly executions: number;
  readonly interleavings: number;
  readonly exhausted: boolean;
  readonly outcomes: readonly CaseOutcome[];
  readonly failures: readonly CaseFailure[];
}

/** Runs a case under a driver and compares. The same seed gives the same executions under the virtual driver. */
export async function runCase(
  program: Program,
  variant: Variant,
  driver: CaseDriver,
  { executions, seed, stop }: { readonly executions: number; readonly seed: number; readonly stop?: () => boolean },
): Promise<CaseRun> {
  const { plan } = program;
  const x = new Execution(plan, variant);
  const everything = new Set<string>([...INVARIANTS, 'deadlock', 'kernel-bug', 'outcome']);
  const bounds = { maxSteps: DEFAULT_MAX_STEPS, maxSchedules: EXPLORED_MAX, expected: everything };
  const explored = search(x, new DfsStrategy(), bounds);
  const exhausted = explored.verdict === 'exhausted';
  const among = (found: boolean): boolean | null => found || (exhausted ? false : null);
  const outcomes = new Map<string, number>();
  const failures = new Map<string, { failure: Failure; times: number }>();
  const known = new Set<string>(plan.expect[variant.id] ?? []);
  let done = 0;
  const runs =
    driver === 'wall' ? runCaseOnThreads(plan, variant, { executions, seed }) : simulated(x, executions, seed);
  for await (const { outcome, failures: found } of runs) {
    done += 1;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    for (const failure of found) {
      const same = failures.get(failure.kind);
      if (same === undefined) failures.set(failure.kind, { failure, times: 1 });
      else same.times += 1;
    }
    if (stop?.() === true) break;
  }
  return {
    variant,
    executions: done,
    interleavings: explored.interleavings,
    exhausted,
    outcomes: [...outcomes]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([outcome, times]) => ({
        outcome,
        times,
        explored: among(explored.outcomes.has(outcome)),
      })),
    failures: [...failures.values()].map(({ failure, times }) => ({
      failure,
      times,
      expected: known.has(failure.kind),
      explored: among(explored.failures.has(failure.kind)),
    })),
  };
}

async function* simulated(x: Execution, executions: number, seed: number): AsyncGenerator<CaseExecution, void, void> {
  for (let n = 0; n < executions; n += 1) {
    // Signals get their turn.
    if (n % 32 === 0) await setImmediate();
    yield simulateCase(x, (seed + n) % 2 ** 32);
  }
}

export interface CaseCommand {
  readonly variant: string | undefined;
  readonly executions: number | undefined;
  readonly seed: number;
  readonly json: boolean;
}

/** What the commands do with a case under a driver that knows time. @throws UserError for a scenario. */
export async function caseCommand(
  parsed: ParsedSource,
  driver: CaseDriver,
  o: CaseCommand,
  interrupts: Interrupts,
): Promise<ExitCode> {
  const program = programFrom(parsed);
  const { file } = program;
  if (program.guest !== null) {
    const command = driver === 'wall' ? 'run' : 'simulate';
    throw new UserError(EXIT.invalid, `${file} is a scenario, not a case`, `pinstorm ${command} ${file}`);
  }
  const variant = variantNamed(o.variant ?? program.plan.variant);
  const executions = o.executions ?? CASE_EXECUTIONS[driver];
  const stop = stopOnInterrupt(interrupts);
  say(`running ${program.plan.name} on variant ${variant.id}: ${driver} driver, seed ${o.seed}\n`);
  const run = await runCase(program, variant, driver, { executions, seed: o.seed, stop: () => stop.isSet });
  const wrong =
    run.failures.some((f) => !f.expected || f.explored === false) ||
    run.outcomes.some((known) => known.explored === false);
  if (o.json) {
    const { variant: v, ...rest } = run;
    const verdict = wrong ? 'violated' : 'bounded';
    const document = { case: program.plan.name, variant: v.id, driver, seed: o.seed, verdict, ...rest };
    print(`${JSON.stringify(document)}\n`);
  } else {
    print(caseText(program.plan.name, run, driver, o.seed, wrong));
  }
  if (wrong) return EXIT.violated;
  return stop.isSet ? EXIT.stopped : EXIT.ok;
}

function caseText(name: string, run: CaseRun, driver: CaseDriver, seed: number, wrong: boolean): string {
  const explored = `${run.interleavings} interleavings explored${run.exhausted ? ', all there are' : ', not all'}`;
  const seen = { true: 'explored', false: 'NEVER EXPLORED', null: 'not among those explored' };
  return [
    `${name}: variant ${run.variant.id} (${run.variant.kernels}), ${driver} driver, seed ${seed}`,
    `verdict: ${wrong ? 'violated' : `bounded by ${run.executions} executions`}: ${run.executions} executions, ${explored}`,
    'outcomes:',
    ...run.outcomes.map((o) => `  ${String(o.times).padStart(8)}  ${o.outcome} (${seen[`${o.explored}`]})`),
    ...run.failures.map(
      ({ failure, times, expected, explored: known }) =>
        `${expected ? 'expected ' : ''}${failure.kind} in ${times} executions (${seen[`${known}`]}), first: ${failure.detail}`,
    ),
    '',
  ].join('\n');
}

/**
 * Runs a case that `run` or `simulate` was given; of the options of a scenario only the variant and the seed mean
 * something to it.
 */
export async function caseFromScenarioOptions(
  parsed: ParsedSource,
  driver: CaseDriver,
  o: {
    readonly variant: string | undefined;
    readonly seed: string | undefined;
    readonly pace: string | undefined;
    readonly duration: string | undefined;
    readonly set: readonly unknown[];
    readonly json: boolean;
  },
  interrupts: Interrupts,
): Promise<ExitCode> {
  if (o.set.length > 0 || o.pace !== undefined || o.duration !== undefined) {
    throw new UserError(
      EXIT.invalid,
      `${parsed.source.file} is a case: it has no pace, duration or keys to set`,
      'edit the file',
    );
  }
  const given = o.seed ?? '1';
  const seed = /^\d+$/.test(given) ? Number(given) : NaN;
  if (!(seed <= SEED_MAX)) {
    const hint = `for example --seed 7`;
    throw new UserError(EXIT.invalid, `--seed: expected a whole number from 0 to ${SEED_MAX}, got '${given}'`, hint);
  }
  return caseCommand(parsed, driver, { variant: o.variant, executions: undefined, seed, json: o.json }, interrupts);
}
