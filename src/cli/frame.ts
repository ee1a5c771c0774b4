/**
 * Turns an argument list into a call of one command: finds it, parses by its description (flags, then environment,
 * then default), prints help, and turns everything that goes wrong into one clear message and an exit status.
 */
import { Argument, Command as Commander, CommanderError, Option } from 'commander';
import { EXIT, EXIT_MEANING, type ExitCode, UserError, withoutPasswords } from '../base/errors.ts';
import { machineFailure } from '../base/machine-failure.ts';
import { oneLine } from '../base/printable.ts';
import { nearest } from '../base/suggest.ts';
import { UnitTextError } from '../base/units-text.ts';
import { VERSION } from '../base/version.ts';
import { Interrupts } from '../console/interrupts.ts';
import { print, say } from '../console/output.ts';
import { type AnyCommand, EVERY_COMMAND, flagName, shownDefault, variableName } from './command.ts';
import { type CommandRow, COMMANDS } from './commands/index.ts';

export const HELP_COLUMNS = 80;
const DESCRIPTION = 'Emulates fleets of VFIO guests and stress-tests how the kernel accounts the memory they lock.';

type Environment = Readonly<Record<string, string | undefined>>;

/** Runs the command that `argv` (without node and script) asks for. @returns the exit status; prints all messages. */
export async function runCommandLine(
  argv: readonly string[],
  env: Environment,
  interrupts = new Interrupts(),
): Promise<number> {
  try {
    return await Promise.race([interrupts.atOnce, dispatch(argv, env, interrupts)]);
  } catch (error) {
    return reportError(error, env);
  } finally {
    await interrupts.cleanUp();
  }
}

/** Prints `error` on stderr the way users should see it. @returns the exit status that goes with it. */
export function reportError(thrown: unknown, env: Environment): number {
  const error = machineFailure(thrown) ?? thrown;
  const tell = (text: string): void => say(withoutPasswords(text));
  if (error instanceof UserError) {
    tell(`pinstorm: error: ${error.message}\n${error.hint ? `hint: ${error.hint}\n` : ''}`);
    return error.exitCode;
  }
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  if (env['PINSTORM_DEBUG'] && error instanceof Error) tell(`${error.stack}\n`);
  tell(
    `pinstorm: internal error: ${what.replaceAll('\n', ' ')}\n` +
      'this is a bug in pinstorm; run with PINSTORM_DEBUG=1 for the stack\n',
  );
  return EXIT.bug;
}

async function dispatch(argv: readonly string[], env: Environment, interrupts: Interrupts): Promise<ExitCode> {
  const program = commander('pinstorm').description(DESCRIPTION).version(VERSION, '-V, --version', 'print the version');
  program.usage('COMMAND [argument ...] [option ...]').helpCommand(false);
  program.addHelpText('after', topLevelEpilogue);
  const asked = argv[0] === 'help' ? argv.slice(1).concat('--help') : argv;
  const [first] = asked;
  // A misspelt command is an error whatever follows it, also --help.
  const misspelt = first !== undefined && !first.startsWith('-') && !Object.hasOwn(COMMANDS, first);
  const wanted = misspelt ? [first] : asked;
  let result: ExitCode = EXIT.ok;
  for (const [name, row] of Object.entries(COMMANDS)) {
    const sub =
      name === wanted[0]
        ? describe(name, row, (await row.load()).command, env, interrupts, (status) => (result = status))
        : commander(name);
    program.addCommand(sub.summary(row.summary));
  }
  try {
    await program.parseAsync(wanted, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return EXIT.ok;
    throw toUserError(error, wanted);
  }
  return result;
}

/** The parser and help of one command, ready to be run by commander. */
export function describe(
  name: string,
  row: CommandRow,
  command: AnyCommand,
  env: Environment,
  interrupts: Interrupts,
  done: (status: ExitCode) => void,
): Commander {
  const sub = commander(name).description(`${sentence(row.summary)}\n\n${command.description}`);
  for (const [key, spec] of Object.entries(command.arguments)) {
    const shown = key.toUpperCase();
    const form = {
      required: `<${shown}>`,
      optional: `[${shown}]`,
      several: `<${shown}...>`,
      severalOrNone: `[${shown}...]`,
    }[spec.kind];
    sub.addArgument(new Argument(form, spec.help));
  }
  for (const [key, spec] of Object.entries(command.options)) {
    const shown = spec.placeholder === null ? flagName(key) : `${flagName(key)} <${spec.placeholder}>`;
    const byDefault = shownDefault(spec);
    const note = byDefault === undefined ? '' : ` (default: ${byDefault})`;
    const option = new Option(shown, spec.help + note);
    if (spec.repeated) option.argParser((given, earlier: string[] | undefined) => [...(earlier ?? []), given]);
    sub.addOption(option);
  }
  sub.addHelpText('after', epilogue(command));
  sub.action(async () => {
    await warnOfVariables(command, env);
    const options = resolveOptions(command, sub.opts(), env);
    done(await command.run(parseArguments(command, sub.processedArgs), options, interrupts));
  });
  return sub;
}

function parseArguments(command: AnyCommand, given: readonly unknown[]): Record<string, unknown> {
  const parsed: Record<string, unknown> = {};
  for (const [i, [key, spec]] of Object.entries(command.arguments).entries()) {
    const parse = (text: unknown): unknown => parseNamed(key.toUpperCase(), String(text), spec);
    const value = given[i];
    parsed[key] = Array.isArray(value) ? value.map(parse) : value === undefined ? undefined : parse(value);
  }
  return parsed;
}

/** The options that variables can set, by their keys. */
const settable = (command: AnyCommand): string[] =>
  Object.entries(command.options).flatMap(([key, spec]) => (spec.commandLineOnly ? [] : [key]));

/** Flag before environment before default. The scenario comes between the last two, in the commands that read one. */
function resolveOptions(
  command: AnyCommand,
  flags: Record<string, unknown>,
  env: Environment,
): Record<string, unknown> {
  const resolved: Record<string, unknown> = {};
  for (const [key, spec] of Object.entries(command.options)) {
    const given = flags[key];
    const variable = variableName(key);
    const fromEnv = spec.commandLineOnly ? undefined : env[variable];
    if (given === true) resolved[key] = true;
    else if (Array.isArray(given)) {
      resolved[key] = given.flatMap((text) => parseNamed(flagName(key), String(text), spec));
    } else if (typeof given === 'string') resolved[key] = parseNamed(flagName(key), given, spec);
    else if (fromEnv) resolved[key] = parseNamed(variable, fromEnv, spec);
    else resolved[key] = spec.default;
  }
  return resolved;
}

/** Variables that belong to no option. */
const OTHER_VARIABLES = ['PINSTORM_DEBUG'];

/** What the tests and the build of pinstorm read, and what Kubernetes sets for a service of that name. */
const FOREIGN = /^PINSTORM_(UPDATE$|NEED_MACHINE$|SOAK$|PROPERTY_|(\w+_)?(SERVICE_(HOST|PORT)|PORT_\d+_))/;

/**
 * Says which variables look like options and are none. Only a warning: the environment may be made by others, for all
 * commands at once. Other commands are loaded only where this one does not know a name.
 */
async function warnOfVariables(command: AnyCommand, env: Environment): Promise<void> {
  const variablesOf = (one: AnyCommand): string[] => settable(one).map(variableName);
  const known = new Set([...OTHER_VARIABLES, ...variablesOf(command)]);
  const unknown = (): string[] =>
    Object.keys(env).filter((name) => name.startsWith('PINSTORM_') && !known.has(name) && !FOREIGN.test(name));
  if (unknown().length === 0) return;
  for (const row of Object.values(COMMANDS))
    for (const name of variablesOf((await row.load()).command)) known.add(name);
  for (const name of unknown()) {
    const near = nearest(name, known);
    const guess = near === null ? '' : `; did you mean ${near}?`;
    say(`pinstorm: warning: no command reads the variable ${oneLine(name)}${guess}\n`);
  }
}

/** @throws UserError 104 that names the argument, flag or variable, and how to mend it or what it is for. */
function parseNamed(
  name: string,
  given: string,
  { help, parse }: { readonly help: string; parse(text: string): unknown },
): unknown {
  try {
    return parse(given);
  } catch (error) {
    if (!(error instanceof UserError || error instanceof UnitTextError)) throw error;
    throw new UserError(EXIT.invalid, `${name}: ${error.message}`, error.hint ?? `${name} is for: ${help}`);
  }
}

function commander(name: string): Commander {
  return new Commander(name)
    .exitOverride()
    .helpOption('-h, --help', 'print this help')
    .configureHelp({ helpWidth: HELP_COLUMNS })
    .configureOutput({ writeOut: print, outputError: () => undefined })
    .showHelpAfterError(false);
}

function toUserError(error: CommanderError, argv: readonly string[]): UserError {
  // Without a command commander asks for its help as an error; one line says more.
  if (error.code === 'commander.help') {
    return new UserError(EXIT.invalid, 'no command given', 'pinstorm --help lists the commands');
  }
  const [, message = error.message, guess] =
    /^(?:error: )?(.*?)(?:\n\(Did you mean (.*)\?\))?$/s.exec(error.message) ?? [];
  const command = Object.hasOwn(COMMANDS, argv[0] ?? '') ? ` ${argv[0]}` : '';
  const where = `see pinstorm${command} --help`;
  return new UserError(EXIT.invalid, message, guess === undefined ? where : `did you mean ${guess}? ${where}`);
}

function epilogue(command: AnyCommand): string {
  const exits = [...new Set<ExitCode>([...EVERY_COMMAND, ...command.exits])].toSorted((a, b) => a - b);
  const examples = command.examples.map((e) => `  ${e.command}\n      ${e.what}`).join('\n');
  const [firstOption] = settable(command);
  const others = Object.entries(command.options).flatMap(([key, spec]) => (spec.commandLineOnly ? [key] : []));
  const only = others.length === 0 ? '' : `Only on the command line: ${others.map(flagName).join(', ')}.\n`;
  const variables =
    firstOption === undefined
      ? ''
      : `\nEach option can also be set in the environment: ${flagName(firstOption)} as\n${variableName(firstOption)}. A flag wins over the environment.\n${only}`;
  return `${variables}\nExamples:\n${examples}\n\nExit status:\n${exitTable(exits)}`;
}

function topLevelEpilogue(): string {
  const codes = Object.values(EXIT).toSorted((a, b) => a - b);
  return `\npinstorm COMMAND --help has examples.\n\nExit status:\n${exitTable(codes)}`;
}

const exitTable = (codes: readonly ExitCode[]): string =>
  codes.map((code) => `  ${String(code).padEnd(5)}${EXIT_MEANING[code]}`).join('\n');

const sentence = (summary: string): string => `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
