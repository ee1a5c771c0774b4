import { EXIT } from '../../base/errors.ts';
import { print, stdout } from '../../console/output.ts';
import type { Shipped } from '../../console/shipped.ts';
import { defineCommand, flag } from '../command.ts';

const TITLES: Readonly<Record<Shipped['kind'], string>> = {
  scenario: 'Scenarios, for run, simulate, compare, sweep, advise and plan',
  case: 'Cases, for explore',
  defect: 'Known defects, for explore; pinstorm history runs them all',
  rows: 'Measured rows, for calibrate',
  recordings: 'Recordings of real kernels, for conform',
};

export const command = defineCommand({
  description:
    'Lists the scenarios, cases, measured rows and recordings that come with pinstorm. Every command takes these ' +
    'names, in any directory; a file of the same name in the working directory takes precedence. pinstorm init ' +
    'copies one of them.',
  arguments: {},
  options: { json: flag('print one JSON document instead of the table') },
  examples: [
    { command: 'pinstorm scenarios', what: 'the names, each with what it is for' },
    { command: 'pinstorm plan huge-guest', what: 'a name from the list in place of a file' },
  ],
  exits: [],
  async run(_, { json }) {
    const { shipped } = await import('../../console/shipped.ts');
    const all = shipped();
    if (json) {
      print(`${JSON.stringify({ files: all }, null, 2)}\n`);
      return EXIT.ok;
    }
    const { wrap } = await import('../../report/format.ts');
    const nameWidth = Math.max(...all.map(({ name }) => name.length)) + 2;
    const aboutWidth = Math.max(40, Math.min(stdout.columns ?? 80, 140) - nameWidth - 2);
    const parts = Object.entries(TITLES).map(([kind, title]) => {
      const rows = all
        .filter((file) => file.kind === kind)
        .flatMap(({ name, about }) =>
          (about === '' ? [''] : wrap(about, aboutWidth)).map((line, i) =>
            `  ${(i === 0 ? name : '').padEnd(nameWidth)}${line}`.trimEnd(),
          ),
        );
      return `${title}\n${rows.join('\n')}\n`;
    });
    print(parts.join('\n'));
    return EXIT.ok;
  },
});
