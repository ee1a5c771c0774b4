/**
 * Fuzzes every parser of foreign text. Each input is a function of the seed, the target and its number alone.
 *
 *     node dist/test/security/fuzz.js [--inputs N] [--seed S] [--target NAME] [--only I]
 *
 * Properties: a parser returns, or refuses in its documented way; errors of files have line and column; an input takes
 * a bounded time; no prototype changes. Exits 1 with the input and the command that repeats it when one does not hold.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { stream } from '../../src/base/prng.ts';
import { TARGETS, Violation, type Target } from './fuzz-targets.ts';

/** No input, at most 60 000 characters long, may take longer. CPU time: other programs do not count. */
const LIMIT_MS = 2000;

const PROTOTYPES = [Object.prototype, Array.prototype, Function.prototype, String.prototype, Map.prototype];
const fingerprint = (): string => PROTOTYPES.map((p) => Reflect.ownKeys(p).map(String).join()).join(';');

export interface TargetReport {
  readonly target: string;
  readonly inputs: number;
  readonly accepted: number;
  /** Different kinds of answers: a measure of how far inside the inputs got. */
  readonly kinds: number;
  /** CPU milliseconds of the slowest input, and its number. */
  readonly worstMs: number;
  readonly worst: number;
}

export function inputOf(target: Target, seed: number, index: number): string {
  const asIs = target.corpus[index];
  if (asIs !== undefined) return asIs;
  const random = stream(seed, `${target.name}/${index}`);
  const entry = (): string => target.corpus[random.below(target.corpus.length)] ?? '';
  return target.mutate(random, entry(), entry());
}

/** Runs inputs 0 to `inputs` - 1 of a target. @throws {Violation} naming the first input that breaks a property. */
export function fuzzTarget(target: Target, seed: number, inputs: number, from = 0): TargetReport {
  const before = fingerprint();
  const kinds = new Set<string>();
  let accepted = 0;
  let [worstMs, worst] = [0, 0];
  for (let index = from; index < from + inputs; index++) {
    const input = inputOf(target, seed, index);
    const broken = (why: string): Violation =>
      new Violation(
        `${target.name}, input ${index}: ${why}\nthe input: ${JSON.stringify(input).slice(0, 2000)}\n` +
          `repeat with: node dist/test/security/fuzz.js --seed ${seed} --target '${target.name}' --only ${index}`,
      );
    const started = process.cpuUsage();
    let kind: string;
    try {
      kind = target.run(input);
    } catch (error) {
      throw broken(
        error instanceof Violation ? error.message : `threw ${error instanceof Error ? error.stack : String(error)}`,
      );
    }
    const { user, system } = process.cpuUsage(started);
    const ms = (user + system) / 1000;
    kinds.add(kind);
    if (kind === 'accepted') accepted++;
    if (ms > worstMs) [worstMs, worst] = [ms, index];
    if (ms > LIMIT_MS) throw broken(`took ${ms} ms`);
    if (index % 64 === 0 && fingerprint() !== before)
      throw broken('a prototype changed here or up to 63 inputs earlier');
  }
  if (fingerprint() !== before) throw new Violation(`${target.name}: a prototype changed`);
  return { target: target.name, inputs, accepted, kinds: kinds.size, worstMs, worst };
}

/** All targets, by their weights. */
export function fuzz(seed: number, inputs: number): TargetReport[] {
  const weights = TARGETS.reduce((sum, { weight }) => sum + weight, 0);
  return TARGETS.map((target) => fuzzTarget(target, seed, Math.ceil((inputs * target.weight) / weights)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      inputs: { type: 'string', default: '100000' },
      seed: { type: 'string', default: '1' },
      target: { type: 'string' },
      only: { type: 'string' },
    },
  });
  const seed = Number(values.seed);
  try {
    if (values.target !== undefined && values.only !== undefined) {
      const target = TARGETS.find(({ name }) => name === values.target);
      if (target === undefined) throw new Violation(`targets: ${TARGETS.map(({ name }) => name).join(', ')}`);
      process.stdout.write(`${inputOf(target, seed, Number(values.only))}\n`);
      console.table([fuzzTarget(target, seed, 1, Number(values.only))]);
    } else {
      const started = performance.now();
      const reports = fuzz(seed, Number(values.inputs));
      console.table(reports.map((r) => ({ ...r, worstMs: Math.round(r.worstMs) })));
      const total = reports.reduce((sum, r) => sum + r.inputs, 0);
      process.stdout.write(
        `${total} inputs, seed ${seed}, ${Math.round((performance.now() - started) / 1000)} s: all properties hold\n`,
      );
    }
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  }
}
