import { EXIT } from '../../base/errors.ts';
import { print } from '../../console/output.ts';
import { shippedNames } from '../../console/shipped.ts';
import { VARIANTS } from '../../model/kernels/index.ts';
import { type AnyCommand, defineCommand, flagName, type Names, oneOf } from '../command.ts';

/** What a completion script needs to know about one command. */
interface Completed {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly {
    readonly flag: string;
    readonly help: string;
    readonly takesValue: boolean;
    readonly choices: readonly string[];
    /** What it may be beside files: names that come along, variants. */
    readonly names: readonly string[];
  }[];
  /** The words the first argument must be; empty when it is a file. */
  readonly words: readonly string[];
  /** The names the first argument may be beside a file. */
  readonly names: readonly string[];
}

/** What can be completed: every command by its name. */
type Commands = Readonly<
  Record<string, { readonly summary: string; load(): Promise<{ readonly command: AnyCommand }> }>
>;

export const completionOf = (all: Commands) =>
  defineCommand({
    description:
      'The script completes commands, options, option values from a fixed set, variants, the names of scenarios, ' +
      'cases, rows and recordings that come with pinstorm, and file names. It is generated from the same ' +
      'descriptions as the help.',
    arguments: { shell: oneOf('bash, zsh or fish', ['bash', 'zsh', 'fish']) },
    options: {},
    examples: [
      { command: 'eval "$(pinstorm completion bash)"', what: 'for this shell; put it into ~/.bashrc for every one' },
      { command: 'pinstorm completion fish | source', what: 'the same for fish' },
    ],
    exits: [],
    async run({ shell }) {
      const commands = await Promise.all(
        Object.entries(all).map(async ([name, row]) => completed(name, row.summary, (await row.load()).command)),
      );
      print({ bash, zsh, fish }[shell](commands));
      return EXIT.ok;
    },
  });

function completed(name: string, summary: string, described: AnyCommand): Completed {
  const options = Object.entries(described.options).map(([key, spec]) => ({
    flag: flagName(key),
    help: spec.help,
    takesValue: spec.placeholder !== null,
    choices: spec.choices ?? [],
    names: known(spec.names),
  }));
  options.push({ flag: '--help', help: 'print the help', takesValue: false, choices: [], names: [] });
  const [argument] = Object.values(described.arguments);
  return { name, summary, options, words: argument?.choices ?? [], names: known(argument?.names) };
}

const known = (kinds: readonly Names[] = []): readonly string[] =>
  kinds.flatMap((kind) => (kind === 'variant' ? VARIANTS.map(({ id }) => id) : shippedNames(kind)));

function bash(commands: readonly Completed[]): string {
  const offer = (words: readonly string[], names: readonly string[]): string =>
    names.length === 0 ? `words='${words.join(' ')}'` : `words='${names.join(' ')}' files=yes`;
  const cases = commands.map(({ name, options, words, names }) => {
    const values = options
      .filter((o) => o.takesValue)
      .map((o) => `      ${o.flag}) ${offer(o.choices, o.names)} ;;\n`)
      .join('');
    const flags = options.map((o) => o.flag).join(' ');
    return `    ${name})
      case $prev in
${values}      *) if [[ $cur == -* ]]; then words='${flags}'; else ${offer(words, names)}; fi ;;
      esac ;;
`;
  });
  return `_pinstorm() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} words= files=
  if ((COMP_CWORD == 1)); then
    words='${commands.map((c) => c.name).join(' ')} --help --version'
  else
    case \${COMP_WORDS[1]} in
${cases.join('')}    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ $files ]]; then COMPREPLY+=($(compgen -f -- "$cur")); fi
}
complete -o default -F _pinstorm pinstorm
`;
}

function zsh(commands: readonly Completed[]): string {
  const quote = (s: string): string => `'${s.replaceAll("'", `'\\''`)}'`;
  const plain = (s: string): string => s.replace(/[[\]:\\]/g, '\\$&');
  const orFile = (names: readonly string[]): string =>
    names.length === 0 ? '_files' : `{compadd -- ${names.join(' ')}; _files}`;
  const cases = commands.map(({ name, options, words, names }) => {
    const specs = options.map((o) => {
      const action = o.choices.length > 0 ? `(${o.choices.join(' ')})` : orFile(o.names);
      return quote(`${o.flag}[${plain(o.help)}]${o.takesValue ? `:value:${action}` : ''}`);
    });
    const operands = quote(words.length > 0 ? `*:word:(${words.join(' ')})` : `*:file:${orFile(names)}`);
    return `    ${name}) _arguments ${[...specs, operands].join(' ')} ;;\n`;
  });
  return `#compdef pinstorm
_pinstorm() {
  local -a commands=(${commands.map((c) => quote(`${c.name}:${c.summary}`)).join(' ')})
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  shift words
  ((CURRENT--))
  case $words[1] in
${cases.join('')}  esac
}
compdef _pinstorm pinstorm
`;
}

/** How fish completes the value of an option. */
function fishValue({ choices, names }: Completed['options'][number]): string {
  if (choices.length > 0) return ` -x -a '${choices.join(' ')}'`;
  return names.length > 0 ? ` -r -a '${names.join(' ')}'` : ' -r';
}

function fish(commands: readonly Completed[]): string {
  const quote = (s: string): string => `'${s.replace(/[\\']/g, '\\$&')}'`;
  const lines = commands.flatMap(({ name, summary, options, words, names }) => {
    const here = `complete -c pinstorm -n '__fish_seen_subcommand_from ${name}'`;
    return [
      `complete -c pinstorm -f -n __fish_use_subcommand -a ${name} -d ${quote(summary)}`,
      ...(words.length > 0 ? [`${here} -f -a ${quote(words.join(' '))}`] : []),
      ...(names.length > 0 ? [`${here} -a ${quote(names.join(' '))}`] : []),
      ...options.map((o) => {
        const values = o.takesValue ? fishValue(o) : '';
        return `${here} -l ${o.flag.slice(2)}${values} -d ${quote(o.help)}`;
      }),
    ];
  });
  return `${lines.join('\n')}\n`;
}
