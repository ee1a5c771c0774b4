import { join } from 'node:path';
import { UserError } from '../base/errors.ts';
import { print, printPainted, stdout } from '../console/output.ts';
import { readContents } from '../report/contents.ts';
import { styleFor } from '../report/format.ts';
import { renderReport } from '../report/html/report.ts';
import { writeResult as write } from '../report/place.ts';
import type { RunResults } from '../report/results.ts';
import { renderSummary } from '../report/summary.ts';

/**
 * Writes report.html at the end of a run. @returns a line that says where what is, and why the report cannot be
 * written.
 */
export function finishReport(directory: string): { readonly written: string; readonly failure: UserError | null } {
  const failure = failureOf(() => writeHtml(directory, join(directory, 'report.html')));
  return { written: `run directory ${directory}${failure === null ? ', with report.html' : ''}`, failure };
}

/** Prints the results of a run: the summary, or all of them. */
export function printResults(results: RunResults, json: boolean): void {
  if (json) print(`${JSON.stringify(results, null, 2)}\n`);
  else printPainted(renderSummary(results, styleFor(stdout, process.env)));
}

/** Writes the HTML report of a run directory. @throws UserError */
export function writeHtml(directory: string, file: string): void {
  write(file, renderReport(readContents(directory)));
}

/** The failure that users can mend, if `work` ends in one. */
export function failureOf(work: () => void): UserError | null {
  try {
    work();
    return null;
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
}
