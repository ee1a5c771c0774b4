/**
 * How a command describes itself. The parser, `--help`, docs/commands, shell completion and the environment variables
 * are all derived from this one description, so that they cannot disagree.
 *
 * A command is a file src/cli/commands/NAME.ts that exports `command = defineCommand({...})`, plus its row in
 * src/cli/commands/index.ts. Only the command that was asked for is imported; a library that takes long to load is
 * imported inside `run`, so that `--help` stays fast.
 */
import { EXIT, type ExitCode, UserError } from '../base/errors.ts';
import type { Interrupts } from '../console/interrupts.ts';

/** What a value may name besides files, for completion. */
export type Names = 'scenario' | 'case' | 'defect' | 'rows' | 'recordings' | 'variant';

/** A positional argument; positions follow the order of the keys. */
export interface ArgumentSpec<T> {
  readonly kind: 'required' | 'optional' | 'several' | 'severalOrNone';
  readonly help: string;
  /** The only values allowed, for completion. */
  readonly choices: readonly string[] | undefined;
  /** What it may name, for completion. */
  readonly names?: readonly Names[] | undefined;
  /** Checks one value. @throws UserError that says what was expected. */
  parse(given: string): string;
  /** Never set: carries the type of the value (of all values where there may be several). */
  readonly type?: T;
}

/** An option. Its key `metricsPort` makes the flag `--metrics-port` and the variable `PINSTORM_METRICS_PORT`. */
export interface OptionSpec<T> {
  /** What stands for the value in the help, or null for a flag that takes none. */
  readonly placeholder: string | null;
  readonly help: string;
  /**
   * Used when neither flag nor variable is given. Leave it out when the scenario can set it: then the value is
   * undefined.
   */
  readonly default: T | undefined;
  /** The only values allowed, for completion. */
  readonly choices: readonly string[] | undefined;
  /** What it may name, for completion. */
  readonly names?: readonly Names[] | undefined;
  /** May be given several times; `parse` gets each value and returns a list of one, and the frame joins the lists. */
  readonly repeated?: boolean;
  /** What it allows must be asked for where it happens: no variable of the environment sets it. */
  readonly commandLineOnly?: boolean;
  /** @throws UserError or UnitTextError that says what was expected; the frame puts the option's name before it. */
  parse(given: string): T;
}

export interface Example {
  readonly command: string;
  /** What it does, in a few words. */
  readonly what: string;
}

export interface Command<A, O> {
  /** A paragraph or two: what it does and what it is for. */
  readonly description: string;
  readonly arguments: { readonly [K in keyof A]: ArgumentSpec<A[K]> };
  readonly options: { readonly [K in keyof O]: OptionSpec<O[K]> };
  /** At least one; each must work as it stands in a fresh clone. */
  readonly examples: readonly Example[];
  /** Exit statuses besides those of EVERY_COMMAND. */
  readonly exits: readonly ExitCode[];
  /**
   * @param interrupts the command says there how it ends in order; one that does not is ended at once.
   * @returns the exit status. @throws UserError for everything the user can mend.
   */
  run(args: A, options: O, interrupts: Interrupts): Promise<ExitCode> | ExitCode;
}

/** Exit statuses that every command has: done, invalid, stopped by the user, results that could not be written. */
export const EVERY_COMMAND: readonly ExitCode[] = [EXIT.ok, EXIT.invalid, EXIT.stopped, EXIT.inconclusive];

export type AnyCommand = Command<Record<string, unknown>, Record<string, unknown>>;

/** Gives `run` the types that the descriptions of arguments and options imply. */
export function defineCommand<A, O>(command: Command<A, O>): Command<A, O> {
  return command;
}

function notEmpty(given: string): string {
  if (given !== '') return given;
  throw new UserError(EXIT.invalid, 'expected a value, got nothing', null);
}

const anyText = { choices: undefined, parse: notEmpty };
export const required = (help: string, names?: readonly Names[]): ArgumentSpec<string> => ({
  kind: 'required',
  help,
  names,
  ...anyText,
});
export const optional = (help: string, names?: readonly Names[]): ArgumentSpec<string | undefined> => ({
  kind: 'optional',
  help,
  names,
  ...anyText,
});

/** One or more values; only as the last argument. */
export const several = (help: string, names?: readonly Names[]): ArgumentSpec<readonly string[]> => ({
  kind: 'several',
  help,
  names,
  ...anyText,
});

/** Any number of values; only as the last argument. */
export const severalOrNone = (help: string, names?: readonly Names[]): ArgumentSpec<readonly string[]> => ({
  ...several(help, names),
  kind: 'severalOrNone',
});

/** The scenario of a command that runs, simulates or plans one. */
export const scenarioFile = (also = ''): ArgumentSpec<string> =>
  required(`scenario${also}: a file, - for standard input, or a name from pinstorm scenarios`, ['scenario']);

/** A required argument that is one of a few words. */
export const oneOf = <const C extends string>(help: string, choices: readonly C[]): ArgumentSpec<C> => ({
  kind: 'required',
  help,
  choices,
  parse: (given) => parseChoice(choices, given),
});

/** An option without a value. In the environment 1, true and yes switch it on; 0, false and no switch it off. */
export function flag(help: string): OptionSpec<boolean> {
  return {
    placeholder: null,
    help,
    default: false,
    choices: undefined,
    parse(given) {
      if (/^(1|true|yes)$/i.test(given)) return true;
      if (/^(0|false|no)$/i.test(given)) return false;
      throw notAsExpected('1 or 0', given);
    },
  };
}

/** An option whose value `parse` understands, for example a duration. */
export function value<T, D extends T | undefined = undefined>(spec: {
  readonly placeholder: string;
  readonly help: string;
  readonly default?: D;
  parse(given: string): T;
}): OptionSpec<T | D> {
  return { choices: undefined, ...spec, default: spec.default };
}

/** An option that may be given several times. The values come in the order given. */
export function repeated<T>(spec: {
  readonly placeholder: string;
  readonly help: string;
  parse(given: string): T;
}): OptionSpec<readonly T[]> {
  return { ...spec, choices: undefined, default: [], repeated: true, parse: (given) => [spec.parse(given)] };
}

/** An option that no variable of the environment can set. */
export const onCommandLine = <T>(spec: OptionSpec<T>): OptionSpec<T> => ({ ...spec, commandLineOnly: true });

export function text<D extends string | undefined = undefined>(spec: {
  readonly placeholder: string;
  readonly help: string;
  readonly names?: readonly Names[];
  readonly default?: D;
}): OptionSpec<string | D> {
  return value({ ...spec, parse: notEmpty });
}

/** A whole number from `min` to `max`, both included. */
export function integer<D extends number | undefined = undefined>(spec: {
  readonly placeholder: string;
  readonly help: string;
  readonly min: number;
  readonly max?: number;
  readonly default?: D;
}): OptionSpec<number | D> {
  const { min, max = Number.MAX_SAFE_INTEGER } = spec;
  return value({
    ...spec,
    parse(given) {
      const n = /^-?\d+$/.test(given) ? Number(given) : NaN;
      if (n >= min && n <= max) return n;
      const range = spec.max === undefined ? `of at least ${min}` : `from ${min} to ${max}`;
      throw notAsExpected(`a whole number ${range}`, given);
    },
  });
}

/** A number of at least `min`, in decimal notation. */
export function decimal<D extends number | undefined = undefined>(spec: {
  readonly placeholder: string;
  readonly help: string;
  readonly min: number;
  readonly default?: D;
}): OptionSpec<number | D> {
  return value({
    ...spec,
    parse(given) {
      const n = /^-?\d+(\.\d+)?$/.test(given) ? Number(given) : NaN;
      if (Number.isFinite(n) && n >= spec.min) return n;
      throw notAsExpected(`a number of at least ${spec.min}`, given);
    },
  });
}

/** One of a few words. */
export function choice<const C extends string, D extends C | undefined = undefined>(spec: {
  readonly placeholder: string;
  readonly help: string;
  readonly choices: readonly C[];
  readonly default?: D;
}): OptionSpec<C | D> {
  return {
    ...spec,
    default: spec.default,
    parse: (given) => parseChoice(spec.choices, given),
  };
}

function parseChoice<C extends string>(choices: readonly C[], given: string): C {
  const found = choices.find((c) => c === given);
  if (found !== undefined) return found;
  throw notAsExpected(`one of ${choices.join(', ')}`, given);
}

/** For `parse` of an option or argument; the frame adds its name, and what the option is for as the hint. */
export const notAsExpected = (expected: string, given: string): UserError =>
  new UserError(EXIT.invalid, `expected ${expected}, got ${JSON.stringify(given)}`, null);

const kebab = (key: string): string => key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);

/** `metricsPort` -> `--metrics-port` */
export const flagName = (key: string): string => `--${kebab(key)}`;

/** `metricsPort` -> `PINSTORM_METRICS_PORT` */
export const variableName = (key: string): string => `PINSTORM_${kebab(key).replaceAll('-', '_').toUpperCase()}`;

/** The default as help and pages show it; undefined when there is none worth showing. */
export const shownDefault = (spec: OptionSpec<unknown>): string | undefined =>
  typeof spec.default === 'string' || typeof spec.default === 'number' ? String(spec.default) : undefined;
