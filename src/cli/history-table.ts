import type { Variant } from '../model/env.ts';
import { VARIANTS } from '../model/kernels/index.ts';
import type { Cell, Row } from '../run/known-defects.ts';

/** One letter for a cell; LEGEND explains them. */
export function cellMark(cell: Cell): string {
  if (!cell.applies) return cell.expected ? '?' : '-';
  if (cell.found.length > 0) return cell.expected ? '#' : '!';
  if (cell.expected) return '?';
  return cell.exhausted ? '.' : '~';
}
const LEGEND =
  '# found, . not found, both as history says; ! found and ? not found against it; \n~ search not completed; - no mdev there; * a hypothesis, derived from the code';

/** The matrix as text: a row for each defect, a column for each variant. */
export function matrixText(rows: readonly Row[], variants: readonly Variant[] = VARIANTS): string {
  const ids = variants.map((v) => v.id);
  const height = Math.max(...ids.map((id) => id.length));
  const width = Math.max(...rows.map((r) => r.defect.title.length));
  const lines: string[] = [];
  for (let n = 0; n < height; n += 1) {
    const letters = ids.map((id) => id.padStart(height)[n]);
    lines.push(`${' '.repeat(7 + width)}${letters.join('')}`.trimEnd());
  }
  for (const row of rows) {
    const id = `${row.defect.id}${row.defect.hypothesis ? '*' : ' '}`;
    lines.push(`${id.padEnd(5)} ${row.defect.title.padEnd(width)} ${row.cells.map(cellMark).join('')}`);
  }
  return `${lines.join('\n')}\n\n${LEGEND}\n`;
}
