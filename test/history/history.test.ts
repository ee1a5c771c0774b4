/**
 * Every known defect on every variant: what the invariants find is what history says. And docs/history says what is
 * found.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { historyText } from '../../src/study/history-text.ts';
import { decodeToken } from '../../src/engine/explore/codec.ts';
import { resolveVariant } from '../../src/model/kernels/index.ts';
import { historyFiles, reportOf, type Row, runRow, tokenOf } from '../../src/run/known-defects.ts';
import { assertGenerated } from '../generated.ts';
import { historyPage, historyReadme } from './pages.ts';

const rows: Row[] = [];
for (const file of historyFiles()) rows.push(await runRow(file));

describe('history', () => {
  for (const row of rows) {
    it(`${row.defect.id}: ${row.defect.title}`, () => {
      const wrong = row.cells.filter((cell) => !cell.agrees);
      assert.deepEqual(wrong, [], historyText([row]));
    });
  }

  it('the table fits 80 columns', () => {
    for (const line of historyText(rows).split('\n')) assert.ok(line.length <= 80, line);
  });

  it('the table names variants that follow one another as a range, and what history does not say', () => {
    const row = rows.find(({ defect }) => defect.id === 'K10')!;
    const [, line = ''] = historyText([row]).split('\n');
    assert.match(line, /^K10 {3}a failed allocation .* {2}B to F, J, J-cas$/);
    const cells = row.cells.map((cell) => (cell.variant === 'H' ? { ...cell, found: ['balance'] } : cell));
    assert.match(historyText([{ ...row, cells }]), /B to F, H, J, J-cas;\s+AGAINST\s+HISTORY found in\s+H$/m);
  });

  it('a failure has a token that names the case and the variant', () => {
    const [row] = rows;
    assert.ok(row !== undefined);
    const token = decodeToken(tokenOf(row, 'D') ?? '');
    assert.equal(token.variant, 'D');
    assert.match(token.caseFile, /^cases\/history\/K01-/);
  });

  for (const row of rows) {
    it(`the page of ${row.defect.id} is up to date`, async () => {
      const [id] = row.failures.keys();
      assert.ok(id !== undefined);
      const variant = resolveVariant(id);
      const report = await reportOf(row, variant);
      assert.ok(report !== null);
      await assertGenerated(`docs/history/${row.program.plan.name}.md`, historyPage(row, variant, report));
    });
  }

  it('the overview is up to date, and there is no page too many', async () => {
    await assertGenerated('docs/history/README.md', historyReadme(rows));
    const pages = ['README.md', ...rows.map((row) => `${row.program.plan.name}.md`)];
    assert.deepEqual(readdirSync('docs/history').toSorted(), pages.toSorted());
    assert.equal(path.basename(rows[0]?.file ?? ''), 'K01-over-commit.yaml');
  });
});
