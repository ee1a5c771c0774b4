/** What `pinstorm report` prints and writes. */
import { join } from 'node:path';
import { EXIT, UserError } from '../base/errors.ts';
import { print, printPainted, say, stdout } from '../console/output.ts';
import { readContents } from '../report/contents.ts';
import { intervalsCsv } from '../report/csv.ts';
import { readExperiment } from '../report/experiment.ts';
import { styleFor } from '../report/format.ts';
import { hgrmFiles } from '../report/hgrm.ts';
import { junitXml } from '../report/junit.ts';
import { loadRun } from '../report/load.ts';
import { tryDirectory, writeResult as write } from '../report/place.ts';
import { renderSummary } from '../report/summary.ts';
import { failureOf, writeHtml } from '../run/finish-report.ts';
import { writeExperimentHtml } from './experiment-output.ts';

export type Format = 'text' | 'html' | 'json' | 'csv' | 'junit' | 'hgrm';

/**
 * Writes a report in a format; undefined: the summary on stdout and report.html into the run directory.
 * @throws UserError 104 when the directory is none of a run, or `out` cannot be written.
 */
export function writeReport(directory: string, format: Format | undefined, out: string | undefined): void {
  const experiment = readExperiment(directory);
  if (experiment !== null) {
    if (format !== undefined && format !== 'html') {
      throw new UserError(
        EXIT.invalid,
        `${directory} holds a ${experiment.kind}: there is only an HTML report of it`,
        'its figures are in experiment.json',
      );
    }
    writeExperimentHtml(out ?? join(directory, 'report.html'), experiment);
    return;
  }
  switch (format) {
    case undefined:
      if (out === undefined) {
        printPainted(renderSummary(loadRun(directory), styleFor(stdout, process.env)));
        // The summary is there: a directory one may only read is no reason to fail.
        const failure = failureOf(() => writeHtml(directory, join(directory, 'report.html')));
        if (failure !== null && failure.exitCode !== EXIT.invalid) throw failure;
        say(`pinstorm: ${failure?.message ?? `report ${join(directory, 'report.html')}`}\n`);
      } else {
        write(out, renderSummary(loadRun(directory), styleFor({}, {})));
      }
      break;
    case 'text':
      if (out === undefined) printPainted(renderSummary(loadRun(directory), styleFor(stdout, process.env)));
      else write(out, renderSummary(loadRun(directory), styleFor({}, process.env)));
      break;
    case 'json':
      put(out, `${JSON.stringify(loadRun(directory), null, 2)}\n`);
      break;
    case 'html': {
      const file = out ?? join(directory, 'report.html');
      writeHtml(directory, file);
      say(`pinstorm: report ${file}\n`);
      break;
    }
    case 'csv':
      put(out, intervalsCsv(readContents(directory).charts));
      break;
    case 'junit':
      put(out, junitXml(loadRun(directory)));
      break;
    case 'hgrm': {
      const into = out ?? join(directory, 'hgrm');
      const files = hgrmFiles(readContents(directory));
      tryDirectory(into);
      for (const { name, text } of files) write(join(into, name), text, '--out DIR');
      say(`pinstorm: ${files.length} files in ${into}\n`);
      break;
    }
  }
}

function put(out: string | undefined, text: string): void {
  if (out === undefined) print(text);
  else write(out, text);
}
