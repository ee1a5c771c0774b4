/** The options of every command that reads a scenario: they set keys of it, before the environment and the file. */
import { EXIT, UserError } from '../base/errors.ts';
import { OVERRIDE_OPTIONS, parseSet, type Override } from '../scenario/overrides.ts';
import { flagName, repeated, text, variableName } from './command.ts';

export const SCENARIO_OPTIONS = {
  variant: text({
    placeholder: 'v',
    help: 'accounting policy: a variant A to J, or a kernel version',
    names: ['variant'],
  }),
  seed: text({ placeholder: 'n', help: 'seed of every random draw' }),
  pace: text({ placeholder: 'x', help: 'model time per real time; 0: as fast as possible' }),
  duration: text({ placeholder: 't', help: 'length of the run, for example 30s' }),
  set: repeated({
    placeholder: 'key=value',
    help: 'set a key of the scenario, for example memory.backing=anon4k or guests.small.count=10; repeatable',
    parse(given): Override {
      const override = parseSet(given);
      if (override !== null) return override;
      throw new UserError(
        EXIT.invalid,
        `expected key=value, got ${JSON.stringify(given)}`,
        'for example --set memory.size=4GiB',
      );
    },
  }),
};

type ScenarioOptionValues = { readonly set: readonly Override[] } & {
  readonly [K in (typeof OVERRIDE_OPTIONS)[number]]: string | undefined;
};

/** The overrides that the options of a command mean, weakest first. */
export function overridesOf(
  options: ScenarioOptionValues,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Override[] {
  const named = OVERRIDE_OPTIONS.flatMap((key): Override[] => {
    const value = options[key];
    if (value === undefined) return [];
    // The frame has already put flag before environment; this only recovers which of the two it was.
    const variable = variableName(key);
    if (env[variable] === value)
      return [{ path: key, value, origin: { kind: 'environment', text: `${variable}=${value}` } }];
    return [{ path: key, value, origin: { kind: 'flag', text: `${flagName(key)} ${value}` } }];
  });
  // What is from the environment is weaker than any flag, --set included; a named flag is as strong as --set and wins.
  const isFlag = (override: Override): boolean => override.origin.kind === 'flag';
  return [...named.filter((o) => !isFlag(o)), ...options.set, ...named.filter(isFlag)];
}
