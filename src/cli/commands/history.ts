import { basename } from 'node:path';
import { EXIT } from '../../base/errors.ts';
import { print, stderr } from '../../console/output.ts';
import type { Row } from '../../run/known-defects.ts';
import { defineCommand, flag } from '../command.ts';

export const command = defineCommand({
  description:
    'Runs a case for each known defect of this accounting (cases/history) on every variant and compares the ' +
    'result with history: one line per defect with the variants that have it, and the token of the first of them. ' +
    'The invariants alone decide; the case only lists the variants known to have the defect. docs/history tells ' +
    'the story of each.',
  arguments: {},
  options: { json: flag('print one JSON document, with a token for every variant that fails') },
  examples: [
    { command: 'pinstorm history', what: 'the table' },
    { command: 'pinstorm history --json', what: 'the same for a program' },
  ],
  exits: [EXIT.failed],
  async run(_, { json }) {
    const { historyFiles, runRow, tokenOf } = await import('../../run/known-defects.ts');
    const { historyText } = await import('../../study/history-text.ts');
    const { VARIANTS } = await import('../../model/kernels/index.ts');
    const rows: Row[] = [];
    const files = historyFiles();
    for (const file of files) {
      stderr.draw(`${rows.length} of ${files.length} defects done, ${basename(file, '.yaml')} now`);
      rows.push(await runRow(file));
    }
    stderr.wipe();
    const wrong = rows.reduce((n, row) => n + row.cells.filter((cell) => !cell.agrees).length, 0);
    if (json) {
      const document = rows.map((row) => ({
        ...row.defect,
        case: row.program.plan.name,
        cells: row.cells.map((cell) => ({ ...cell, token: tokenOf(row, cell.variant) })),
      }));
      print(`${JSON.stringify({ defects: document, disagreements: wrong })}\n`);
      return wrong === 0 ? EXIT.ok : EXIT.failed;
    }
    print(`${historyText(rows, VARIANTS)}\n`);
    for (const row of rows) {
      const [variant] = row.failures.keys();
      if (variant === undefined) continue;
      print(`${row.defect.id} on ${variant}: pinstorm replay ${tokenOf(row, variant)}\n`);
    }
    const cells = rows.reduce((n, row) => n + row.cells.length, 0);
    print(`\n${cells - wrong} of ${cells} cells agree with history\n`);
    return wrong === 0 ? EXIT.ok : EXIT.failed;
  },
});
