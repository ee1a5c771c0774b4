/** docs/commands/*.md, made from the descriptions of the commands. */
import { EXIT, EXIT_MEANING, type ExitCode } from '../../src/base/errors.ts';
import { flagName, shownDefault, variableName, type AnyCommand } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands/index.ts';

/** Every page by its file name. */
export async function commandPages(): Promise<ReadonlyMap<string, string>> {
  const rows = Object.entries(COMMANDS);
  const list = rows.map(([name, row]) => `- [\`${name}\`](${name}.md): ${row.summary}`);
  const pages = new Map([['README.md', `# Commands\n\n${list.join('\n')}\n\n${exitSection(Object.values(EXIT))}`]]);
  for (const [name, row] of rows) pages.set(`${name}.md`, page(name, row.summary, (await row.load()).command));
  return pages;
}

function page(name: string, summary: string, command: AnyCommand): string {
  const argumentRows = Object.entries(command.arguments).map(([key, spec]) => {
    const shown = `\`${key.toUpperCase()}${spec.kind === 'several' ? ' ...' : ''}\``;
    return `- ${shown}${spec.kind === 'optional' ? ' (optional)' : ''}: ${spec.help}`;
  });
  const optionRows = Object.entries(command.options).map(([key, spec]) => {
    const flag = `\`${flagName(key)}${spec.placeholder === null ? '' : ` <${spec.placeholder}>`}\``;
    const byDefault = shownDefault(spec);
    const note = byDefault === undefined ? '' : `; default \`${byDefault}\``;
    return `- ${flag}: ${spec.help} (\`${variableName(key)}\`${note})`;
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
    exitSection([EXIT.ok, EXIT.invalid, ...command.exits]),
  ].join('\n\n');
}

function exitSection(codes: readonly ExitCode[]): string {
  const rows = [...new Set(codes)].toSorted((a, b) => a - b).map((code) => `- \`${code}\`: ${EXIT_MEANING[code]}`);
  return `## Exit status\n\n${rows.join('\n')}\n`;
}
