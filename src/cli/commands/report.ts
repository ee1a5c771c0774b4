import { EXIT } from '../../base/errors.ts';
import { defineCommand, flag, required } from '../command.ts';

export const command = defineCommand({
  description:
    'Prints the summary of a run again, from its run directory alone. The directory of a run that was killed, or that ' +
    'still goes on, gives the results so far. The exit status is that of this command, not the verdict of the run.',
  arguments: { directory: required('run directory, for example runs/latest') },
  options: { json: flag('print the results as one JSON document instead') },
  examples: [
    { command: 'pinstorm report runs/latest', what: 'after a run: its summary again' },
    { command: 'pinstorm report runs/latest --json', what: 'the same figures for a program' },
  ],
  exits: [],
  async run({ directory }, { json }) {
    const [{ loadRun }, { renderSummary }, { styleFor }] = await Promise.all([
      import('../../report/load.ts'),
      import('../../report/summary.ts'),
      import('../../report/format.ts'),
    ]);
    const results = loadRun(directory);
    process.stdout.write(
      json ? `${JSON.stringify(results, null, 2)}\n` : renderSummary(results, styleFor(process.stdout, process.env)),
    );
    return EXIT.ok;
  },
});
