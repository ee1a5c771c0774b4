import { EXIT } from '../../base/errors.ts';
import { print } from '../../console/output.ts';
import { defineCommand, flag, required, text } from '../command.ts';

export const command = defineCommand({
  description:
    'Fits the unknown costs of cost profiles to measured rows by least squares. Prints the costs, the residual of ' +
    'every row, and which rows were fitted and which are predicted. The shipped profiles do not change: copy what ' +
    'is printed under "costs" into a profile file.',
  arguments: { rows: required('file of measured rows, - for standard input, or a name such as published', ['rows']) },
  options: {
    profile: text({
      placeholder: 'name',
      help: 'fit only this profile; default: all profiles that the file lists under fit',
    }),
    json: flag('print one JSON document on stdout'),
  },
  examples: [
    { command: 'pinstorm calibrate calibration/published.yaml --profile server-2025', what: 'the costs of Linux 6.16' },
  ],
  exits: [],
  async run({ rows: path }, { profile, json }) {
    const { calibrate, costsText, readRows, rowsText } = await import('../../study/calibration.ts');
    const { costs, table } = await calibrate(await readRows(path), path, profile);
    if (json) print(`${JSON.stringify({ costs, rows: table }, null, 2)}\n`);
    else print(`${costsText(costs)}\n${rowsText(table)}`);
    return EXIT.ok;
  },
});
