/** `run` and `simulate` given a case instead of a scenario. */
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import { SEED_MAX } from '../base/prng.ts';
import type { Interrupts } from '../console/interrupts.ts';
import type { ParsedSource } from '../scenario/source.ts';

/** Runs a case; of the options of a scenario only the variant and the seed mean something to it. */
export async function caseFromScenarioOptions(
  parsed: ParsedSource,
  driver: 'virtual' | 'wall',
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
  const { caseCommand } = await import('../run/case-run.ts');
  return caseCommand(parsed, driver, { variant: o.variant, executions: undefined, seed, json: o.json }, interrupts);
}
