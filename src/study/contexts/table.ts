/** The table of `pinstorm contexts`, 80 columns. */
import type { Cell } from './judge.ts';
import { CONTEXTS, STRATEGIES } from './strategies.ts';

const LABEL_WIDTH = 24;
const CELL_WIDTH = 7;

/**
 * One cell: five letters, each given or a dash (a dot where nothing was asked), or the word for a call that came to
 * nothing.
 */
export function cellText(cell: Cell): string {
  switch (cell.outcome) {
    case 'ok':
      break;
    case 'nothing':
      return 'size 0';
    case 'no mdev':
      return 'n/a';
    default:
      return cell.outcome;
  }
  const letter = (given: boolean | null, as: string): string => (given === null ? '.' : given ? as : '-');
  return (
    letter(cell.rightMm, 'm') +
    letter(cell.rightLimit, 'l') +
    letter(cell.rightCapability, 'c') +
    letter(cell.fast, 'f') +
    letter(cell.safe, 's')
  );
}

export function contextsTable(cells: readonly Cell[]): string {
  const head = 'context'.padEnd(LABEL_WIDTH) + STRATEGIES.map((s) => s.id.padEnd(CELL_WIDTH)).join('');
  const rows = CONTEXTS.map(({ id, what }) => {
    const label = `${id.split(' ')[0]?.padEnd(3) ?? ''}${what}`.padEnd(LABEL_WIDTH);
    const row = cells.filter((c) => c.context === id).map((c) => cellText(c).padEnd(CELL_WIDTH));
    return label + row.join('');
  });
  const legend = [
    '',
    'm the right mm is charged and pinned   l its limit decides   c its capability',
    'f fast: no mmap_sem for pages, no mm reference for accounting',
    's safe: no invariant broken, also not at the limit   - not so   . not asked',
    'size 0: refused in silence   atomic: may sleep where it must not   n/a: no mdev',
    '',
    ...STRATEGIES.map((s) => `${s.id}  ${s.what}`),
  ];
  return [head, ...rows, ...legend].map((line) => `${line.trimEnd()}\n`).join('');
}
