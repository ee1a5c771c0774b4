import { EXIT } from '../../base/errors.ts';
import { print } from '../../console/output.ts';
import { defineCommand, flag, optional } from '../command.ts';

export const command = defineCommand({
  description:
    'Simulates measurements of real kernels and prints both: published and simulated value, their ratio, and ' +
    'whether the row was used to fit the cost profile or is predicted by it. Where the model cannot reproduce a ' +
    'row, it names the missing mechanism.',
  arguments: { rows: optional('file of measured rows; default: the published ones that come with pinstorm', ['rows']) },
  options: { json: flag('print one JSON document on stdout') },
  examples: [{ command: 'pinstorm reproduce', what: 'the published figures beside the simulated ones' }],
  exits: [],
  async run({ rows }, { json }) {
    const { PUBLISHED_ROWS, readRows, reproduce, rowsText } = await import('../../study/calibration.ts');
    const file = await readRows(rows ?? PUBLISHED_ROWS);
    const table = await reproduce(file.rows);
    print(json ? `${JSON.stringify({ rows: table }, null, 2)}\n` : rowsText(table));
    return EXIT.ok;
  },
});
