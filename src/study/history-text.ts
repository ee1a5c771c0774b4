/** The history of the accounting as text: which variants have which defect. */
import type { Variant } from '../model/env.ts';
import { VARIANTS } from '../model/kernels/index.ts';
import { wrap } from '../report/format.ts';
import type { Cell, Row } from '../run/known-defects.ts';

const WIDTH = 80;

/** Variants as people list them: those that follow one another as `A to D`. `order` is that of all variants. */
function ranges(found: readonly string[], order: readonly string[]): string {
  const runs: string[][] = [];
  for (const id of order.filter((known) => found.includes(known))) {
    const last = runs.at(-1);
    if (last !== undefined && order.indexOf(last.at(-1) as string) === order.indexOf(id) - 1) last.push(id);
    else runs.push([id]);
  }
  return runs
    .map((run) => (run.length < 3 ? run.join(', ') : `${run[0] as string} to ${run.at(-1) as string}`))
    .join(', ');
}

/** What a row says of its variants: those that fail, and whatever does not agree with history. */
function saysOf(cells: readonly Cell[], order: readonly string[]): string {
  const which = (test: (cell: Cell) => boolean): string =>
    ranges(
      cells.filter(test).map(({ variant }) => variant),
      order,
    );
  const parts = [
    ['', which(({ found }) => found.length > 0)],
    ['AGAINST HISTORY found in ', which(({ found, expected }) => found.length > 0 && !expected)],
    ['AGAINST HISTORY not found in ', which(({ found, expected }) => found.length === 0 && expected)],
    ['search not completed in ', which(({ applies, found, exhausted }) => applies && found.length === 0 && !exhausted)],
  ];
  return parts.flatMap(([what, ids]) => (ids === '' ? [] : [`${what}${ids}`])).join('; ');
}

/** A line for each defect, at most 80 columns: what it is, and the variants in which it is found. */
export function historyText(rows: readonly Row[], variants: readonly Variant[] = VARIANTS): string {
  const order = variants.map(({ id }) => id);
  const titleWidth = Math.max(...rows.map((r) => r.defect.title.length)) + 2;
  const lines = rows.flatMap(({ defect, cells }) => {
    const head = `${defect.id}${defect.hypothesis ? '*' : ' '}  ${defect.title.padEnd(titleWidth)}`;
    return wrap(saysOf(cells, order), WIDTH - head.length).map(
      (line, i) => `${i === 0 ? head : ' '.repeat(head.length)}${line}`,
    );
  });
  const title = `${'defect'.padEnd(titleWidth + 6)}variants that have it`;
  return `${title}\n${lines.join('\n')}\n\n* a hypothesis, derived from the code\n`;
}
