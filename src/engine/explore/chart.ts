/** A trace as a sequence chart of at most 80 columns: one column per actor, one row per step that others can see. */
import type { Trace, TraceRow } from './trace.ts';

const WIDTH = 80;
const GUTTER = 5;

/** Beyond this many columns the work items share one. */
const COLUMNS_MAX = 4;

/** Rows of a chart; of a longer story the end is drawn. */
const ROWS_MAX = 80;

/** `all`: also the steps nobody else can see. */
export function chart(trace: Trace, all = false): string {
  const kworkers = trace.actors.filter((n) => n.startsWith('kworker/'));
  const merged = trace.actors.length > COLUMNS_MAX && kworkers.length > 1;
  const columnOf = (actor: string): string => (merged && actor.startsWith('kworker/') ? 'kworkers' : actor);
  const columns = [...new Set(trace.actors.map(columnOf))];
  const width = Math.max(12, Math.floor((WIDTH - GUTTER) / Math.max(1, columns.length)) - 1);
  const lines: string[] = [];
  const line = (step: string, cells: readonly string[]): void => {
    lines.push(`${step.padStart(GUTTER - 1)} ${cells.map((c) => c.padEnd(width)).join(' ')}`.trimEnd());
  };
  line(
    'step',
    columns.map((c) => c.slice(0, width)),
  );
  line(
    '',
    columns.map(() => '-'.repeat(width)),
  );
  const visible = trace.rows.filter((r) => all || !r.local || r.result !== null || r.fn.startsWith('> '));
  const shown = all ? visible : visible.slice(-ROWS_MAX);
  if (shown.length < visible.length) lines.push(`     (${visible.length - shown.length} earlier ones left out)`);
  for (const row of shown) {
    const at = columns.indexOf(columnOf(row.actor));
    for (const [n, text] of cellOf(row, merged && row.actor.startsWith('kworker/'), width).entries()) {
      line(n === 0 ? String(row.step) : '', [...columns.slice(0, at).map(() => ''), text]);
    }
  }
  const hidden = trace.rows.length - visible.length;
  if (hidden > 0) lines.push('', `${hidden} steps that no other actor can see are left out.`);
  return `${lines.join('\n')}\n`;
}

function cellOf(row: TraceRow, named: boolean, width: number): string[] {
  const fn = named ? `${row.actor.slice('kworker'.length)} ${row.fn}` : row.fn;
  const whole = row.note === '' ? fn : `${fn}: ${row.note}`;
  const lines = whole.length <= width ? [whole] : [...wrap(fn, width), ...wrap(`  ${row.note}`, width)];
  return row.result === null ? lines : [...lines, `< ${row.result}`.slice(0, width)];
}

/** Breaks at spaces, and inside a word only where it does not fit a line. */
function wrap(text: string, width: number): string[] {
  const indent = /^ */.exec(text)?.[0] ?? '';
  const lines: string[] = [];
  let line = indent;
  for (const word of text.trim().split(' ')) {
    let rest = word;
    if (line !== indent && line.length + 1 + rest.length > width) {
      lines.push(line);
      line = indent;
    }
    while (indent.length + rest.length > width) {
      lines.push(indent + rest.slice(0, width - indent.length));
      rest = rest.slice(width - indent.length);
    }
    line = line === indent ? indent + rest : `${line} ${rest}`;
  }
  return [...lines, line];
}
