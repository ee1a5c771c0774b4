import { EXIT, UserError } from '../../base/errors.ts';
import { choice, defineCommand, flag, required, text } from '../command.ts';

const FORMATS = ['text', 'html', 'json', 'csv', 'junit', 'hgrm'] as const;

export const command = defineCommand({
  description:
    'Reports on a run from its run directory alone: prints the summary and writes report.html there, one file ' +
    'that needs no network. A run that was killed or still goes on gives the results so far. Other formats go to ' +
    'stdout or to --out: results as JSON, intervals as CSV, thresholds and invariants as JUnit XML, and the ' +
    'percentile distribution of each latency as .hgrm files for the HdrHistogram tools. For a directory that ' +
    'compare or sweep wrote with --out, it writes their HTML report. The exit status is that of this command, not ' +
    'the verdict of the run.',
  arguments: { directory: required('run directory, for example runs/latest') },
  options: {
    format: choice({
      placeholder: 'format',
      help: `one of ${FORMATS.join(', ')}; default: text, and report.html`,
      choices: FORMATS,
    }),
    out: text({
      placeholder: 'path',
      help: 'file to write; for hgrm a directory (default: hgrm in the run directory)',
    }),
    json: flag('the same as --format json'),
  },
  examples: [
    { command: 'pinstorm report runs/latest', what: 'summary, and runs/latest/report.html' },
    { command: 'pinstorm report runs/latest --json', what: 'the results for a program' },
    { command: 'pinstorm report runs/latest --format junit --out junit.xml', what: 'for a CI server' },
  ],
  exits: [],
  async run({ directory }, { format, out, json }) {
    const { writeReport } = await import('../../study/report-output.ts');
    if (json && format !== undefined && format !== 'json')
      throw new UserError(EXIT.invalid, `--json and --format ${format} contradict each other`, 'leave one of them out');
    writeReport(directory, json ? 'json' : format, out);
    return EXIT.ok;
  },
});
