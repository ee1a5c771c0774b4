/** `run` and `simulate` given a case instead of a scenario. */
import { EXIT, UserError, type ExitCode } from '../base/errors.ts';
import type { Interrupts } from './interrupts.ts';

export async function isCaseFile(file: string): Promise<boolean> {
  const [{ isCase }, { parseSource }, { readScenarioText }] = await Promise.all([
    import('../scenario/case.ts'),
    import('../scenario/source.ts'),
    import('../scenario/validate.ts'),
  ]);
  return isCase(parseSource(file, readScenarioText(file)).root);
}

/** Runs a case; of the options of a scenario only the variant and the seed mean something to it. */
export async function caseFromScenarioOptions(
  file: string,
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
    throw new UserError(EXIT.invalid, `${file} is a case: it has no pace, duration or keys to set`, 'edit the file');
  }
  const seed = o.seed === undefined ? 1 : Number(o.seed);
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffff_ffff) {
    throw new UserError(EXIT.invalid, `--seed: expected a whole number, got ${JSON.stringify(o.seed)}`);
  }
  const { caseCommand } = await import('./case-run.ts');
  return caseCommand(file, driver, { variant: o.variant, executions: undefined, seed, json: o.json }, interrupts);
}
