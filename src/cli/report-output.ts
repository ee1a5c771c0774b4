/** What `pinstorm report` prints and writes. */
import { join } from 'node:path';
import { EXIT, UserError } from '../base/errors.ts';
import { readExperiment } from '../report/experiment.ts';
import { readContents } from '../report/contents.ts';
import { intervalsCsv } from '../report/csv.ts';
import { styleFor } from '../report/format.ts';
import { hgrmFiles } from '../report/hgrm.ts';
import { renderReport } from '../report/html/report.ts';
import { junitXml } from '../report/junit.ts';
import { loadRun } from '../report/load.ts';
import { tryDirectory, writeResult as write } from '../report/place.ts';
import { renderSummary } from '../report/summary.ts';
import { writeExperimentHtml } from './experiment-output.ts';
import { print, say, stdout } from './output.ts';

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
        print(renderSummary(loadRun(directory), styleFor(stdout, process.env)));
        // The summary is there: a directory one may only read is no reason to fail.
        const failure = failureOf(() => writeHtml(directory, join(directory, 'report.html')));
        if (failure !== null && failure.exitCode !== EXIT.invalid) throw failure;
        say(`pinstorm: ${failure?.message ?? `report ${join(directory, 'report.html')}`}\n`);
      } else {
        put(out, renderSummary(loadRun(directory), styleFor({}, {})));
      }
      break;
    case 'text':
      put(out, renderSummary(loadRun(directory), styleFor(out === undefined ? stdout : {}, process.env)));
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

/** Writes report.html at the end of a run. @returns a line that says where what is, and why the report cannot be written. */
export function finishReport(directory: string): { readonly written: string; readonly failure: UserError | null } {
  const failure = failureOf(() => writeHtml(directory, join(directory, 'report.html')));
  return { written: `run directory ${directory}${failure === null ? ', with report.html' : ''}`, failure };
}

/** Writes the HTML report of a run directory. @throws UserError */
function writeHtml(directory: string, file: string): void {
  write(file, renderReport(readContents(directory)));
}

function put(out: string | undefined, text: string): void {
  if (out === undefined) print(text);
  else write(out, text);
}

function failureOf(work: () => void): UserError | null {
  try {
    work();
    return null;
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
}
