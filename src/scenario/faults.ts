/** How faults of a scenario are shown: file, line and column, the line itself with a caret, and the fix. */
import { EXIT, UserError } from '../base/errors.ts';
import { plural } from '../base/plural.ts';
import { oneLine } from '../base/printable.ts';
import type { Fault, Origin, SourceText } from './source.ts';

/** Faults shown of one file at most; the count of the rest is told. */
const MAX_SHOWN = 50;
const MAX_LINE = 110;

const offset = (origin: Origin | null): number => (origin?.kind === 'scenario' ? origin.start : -1);

/** One fault as text, for example:
 *
 *     boot.yaml:12:13: guests[0].memory.size: the unit of '64K' is ambiguous
 *        12 |       size: 64K
 *           |             ^^^
 *      fix: write 64KiB (powers of 1024)
 */
export function faultText(fault: Fault, source: SourceText): string {
  const subject = oneLine(fault.path === '' ? fault.message : `${fault.path}: ${fault.message}`);
  const fix = fault.hint === undefined ? [] : [`  fix: ${oneLine(fault.hint)}`];
  const { origin } = fault;
  if (origin?.kind === 'flag' || origin?.kind === 'environment')
    return [`${oneLine(origin.text)}: ${subject}`, ...fix].join('\n');
  if (origin?.kind !== 'scenario' || source.text === '')
    return [`${oneLine(source.file)}: ${subject}`, ...fix].join('\n');
  const { line, col } = source.lines.linePos(origin.start);
  const lineStart = origin.start - (col - 1);
  const newline = source.text.indexOf('\n', lineStart);
  const whole = source.text.slice(lineStart, newline === -1 ? undefined : newline);
  // Of a very long line, the part around the fault.
  const from = col > MAX_LINE - 20 ? col - 1 - 40 : 0;
  const shown = oneLine(whole.slice(from, from + MAX_LINE)).trimEnd();
  const column = col - 1 - from;
  const carets = '^'.repeat(Math.max(1, Math.min(origin.end - origin.start, shown.length - column)));
  const gutter = String(line).padStart(5);
  return [
    `${oneLine(source.file)}:${line}:${col}: ${subject}`,
    `${gutter} | ${shown}`,
    `${' '.repeat(gutter.length)} | ${' '.repeat(column)}${carets}`,
    ...fix,
  ].join('\n');
}

/** All faults of one scenario (or another file of this kind) as one error for the user, in the order of the file. */
export function scenarioError(faults: readonly Fault[], source: SourceText, what = 'scenario'): UserError {
  const sorted = faults.toSorted((a, b) => offset(a.origin) - offset(b.origin));
  const shown = sorted.slice(0, MAX_SHOWN).map((fault) => faultText(fault, source));
  if (sorted.length > MAX_SHOWN) shown.push(`${sorted.length - MAX_SHOWN} more faults`);
  const head = `${source.file} is not a valid ${what}: ${plural(sorted.length, 'fault')}`;
  return new UserError(EXIT.invalid, [head, ...shown.flatMap((text) => text.split('\n'))], null);
}
