/** What `pinstorm report` prints and writes. */
import { mkdirSync, writeFileSync } from 'node:fs';
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
        const problem = writeHtml(directory, join(directory, 'report.html'));
        say(`pinstorm: ${problem ?? `report ${join(directory, 'report.html')}`}\n`);
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
      const problem = writeHtml(directory, file);
      if (problem !== null) throw new UserError(EXIT.invalid, problem, 'choose another place with --out FILE');
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
      const problem = attempt(into, () => {
        mkdirSync(into, { recursive: true });
        for (const { name, text } of files) writeFileSync(join(into, name), text);
      });
      if (problem !== null) throw new UserError(EXIT.invalid, problem, 'choose another directory with --out DIR');
      say(`pinstorm: ${files.length} files in ${into}\n`);
      break;
    }
  }
}

/** Writes report.html at the end of a run. @returns a line that says where the run directory and the report are. */
export function finishReport(directory: string): string {
  const problem = writeHtml(directory, join(directory, 'report.html'));
  return `run directory ${directory}${problem === null ? ', with report.html' : `; ${problem}`}`;
}

/** Writes the HTML report of a run directory. @returns what went wrong in writing it, or null. */
function writeHtml(directory: string, file: string): string | null {
  const text = renderReport(readContents(directory));
  return attempt(file, () => writeFileSync(file, text));
}

function put(out: string | undefined, text: string): void {
  if (out === undefined) {
    print(text);
    return;
  }
  const problem = attempt(out, () => writeFileSync(out, text));
  if (problem !== null) throw new UserError(EXIT.invalid, problem, 'choose another place with --out');
}

function attempt(path: string, work: () => void): string | null {
  try {
    work();
    return null;
  } catch (error) {
    return `cannot write ${path} (${(error as NodeJS.ErrnoException).code ?? String(error)})`;
  }
}
