/** docs/commands/*.md, made from the descriptions of the commands. */
import { EXIT, EXIT_MEANING, type ExitCode } from '../../src/base/errors.ts';
import { EVERY_COMMAND, flagName, shownDefault, variableName, type AnyCommand } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands/index.ts';

/** What holds for every command. */
const RULES = `## Signals

SIGINT (Ctrl-C), SIGTERM and SIGHUP mean the same to every command, and the exit status is 105. The first one ends the command in
order: \`run\`, \`coordinator\` and \`simulate\` with the report of what was measured, \`compare\`, \`sweep\`, \`advise\` and
\`explore\` with what is complete, a \`worker\` by giving its guests back. A second one ends it at once, as the first does in commands
that have nothing to end in order.

## Output

Results go to standard output, everything else to standard error. A command ends when its output has been taken, whole, however slow
the reader is. A reader that has seen enough (\`| head\`) changes neither the output nor the status. If results cannot be written (a
full disk, a device that fails), on standard output or in a directory, one message says so and the exit status is 113, whatever it
would have been. A place that cannot be written to at all is refused before anything runs, with 104.

Control characters and marks that turn the direction of writing, in names and texts from files, arguments, Redis or the environment,
are printed as \`\\u001b\`, or as a space within a table.
`;

/** Every page by its file name. */
export async function commandPages(): Promise<ReadonlyMap<string, string>> {
  const rows = Object.entries(COMMANDS);
  const list = rows.map(([name, row]) => `- [\`${name}\`](${name}.md): ${row.summary}`);
  const pages = new Map([
    ['README.md', `# Commands\n\n${list.join('\n')}\n\n${exitSection(Object.values(EXIT))}\n${RULES}`],
  ]);
  for (const [name, row] of rows) pages.set(`${name}.md`, page(name, row.summary, (await row.load()).command));
  return pages;
}

function page(name: string, summary: string, command: AnyCommand): string {
  const argumentRows = Object.entries(command.arguments).map(([key, spec]) => {
    const shown = `\`${key.toUpperCase()}${spec.kind.startsWith('several') ? ' ...' : ''}\``;
    return `- ${shown}${spec.kind === 'optional' || spec.kind === 'severalOrNone' ? ' (optional)' : ''}: ${spec.help}`;
  });
  const optionRows = Object.entries(command.options).map(([key, spec]) => {
    const flag = `\`${flagName(key)}${spec.placeholder === null ? '' : ` <${spec.placeholder}>`}\``;
    const byDefault = shownDefault(spec);
    const note = byDefault === undefined ? '' : `; default \`${byDefault}\``;
    const variable = spec.commandLineOnly ? 'on the command line only' : `\`${variableName(key)}\``;
    return `- ${flag}: ${spec.help} (${variable}${note})`;
  });
  const examples = command.examples.map(
    (e) => `\`\`\`sh\n${e.command}\n\`\`\`\n\n${e.what.charAt(0).toUpperCase()}${e.what.slice(1)}.`,
  );
  return [
    `# pinstorm ${name}`,
    `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`,
    command.description,
    ...(argumentRows.length > 0 ? ['## Arguments', argumentRows.join('\n')] : []),
    ...(optionRows.length > 0 ? ['## Options', optionRows.join('\n')] : []),
    '## Examples',
    ...examples,
    exitSection([...EVERY_COMMAND, ...command.exits]),
  ].join('\n\n');
}

function exitSection(codes: readonly ExitCode[]): string {
  const rows = [...new Set(codes)].toSorted((a, b) => a - b).map((code) => `- \`${code}\`: ${EXIT_MEANING[code]}`);
  return `## Exit status\n\n${rows.join('\n')}\n`;
}
