/**
 * The model's answers beside what was known of each strategy from the kernel sources and the mailing lists. `text` is
 * what was written down beforehand (empty: nothing); `because` says why the model's cell says more than that, or
 * something else.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { cellText, contextsTable } from '../../src/study/contexts/table.ts';
import { type Cell, judgeAll } from '../../src/study/contexts/judge.ts';
import type { Whose } from '../../src/study/contexts/scene.ts';
import { CONTEXTS, STRATEGIES } from '../../src/study/contexts/strategies.ts';

interface Expected {
  readonly cell: string;
  readonly text: string;
  readonly because?: string;
  readonly account?: Whose;
  readonly pages?: Whose;
  readonly limit?: Whose;
  readonly capability?: Whose;
  readonly violations?: readonly string[];
}

const LOCKED = 'from 4.16 on GUP holds mmap_sem, so right is never fast in our sense';
const CALLERS_CAP = "4.10-rc1 tests current's credentials, and the first patch left that in the mdev path";

const EXPECTED: Readonly<Record<string, readonly Expected[]>> = {
  '1': [
    { cell: 'mlcfs', text: 'mm ok, rl ok, cap ok, fast', account: 'owner' },
    { cell: 'mlc-s', text: 'ok but 2 refs/chunk; cap: current vs pid-ns owner' },
    { cell: 'mlcfs', text: 'ok, fast' },
    { cell: 'mlcfs', text: 'match: ok, fast' },
    { cell: 'mlcfs', text: 'match: ok, fast' },
    { cell: 'mlc-s', text: 'async=false: ok', because: LOCKED },
    { cell: 'mlc-s', text: 'ok', because: LOCKED },
    { cell: 'mlcfs', text: 'ok, fast' },
  ],
  '2': [
    { cell: 'm..fs', text: 'ok', because: 'an UNMAP asks for neither limit nor capability' },
    { cell: 'm..-s', text: 'ok, slow refs' },
    { cell: 'm..fs', text: 'flag true: ok' },
    { cell: 'm..-s', text: 'no match: correct but slow' },
    { cell: 'm..fs', text: 'match: ok, fast' },
    { cell: 'm..-s', text: 'ok', because: 'unmap is always async, with a reference' },
    { cell: 'm..-s', text: 'ok', because: 'unmap is always async, with a reference' },
    { cell: 'm..fs', text: 'ok, fast' },
  ],
  '2b': [
    { cell: 'n/a', text: 'n/a (no mdev)' },
    { cell: 'ml--s', text: 'mm ok; fast GUP by mm test; cap of current', capability: 'caller' },
    { cell: 'ml--s', text: 'flag false: slow GUP, ok', capability: 'caller', because: CALLERS_CAP },
    { cell: 'mlc-s', text: 'match only if that vCPU did the MAP' },
    { cell: 'mlcfs', text: 'match' },
    { cell: 'mlc-s', text: 'async=true path, cap stored', capability: 'owner' },
    { cell: 'mlc-s', text: 'ok', because: LOCKED },
    { cell: 'mlcfs', text: 'ok, fast' },
  ],
  '2b own': [
    { cell: 'n/a', text: 'n/a (no mdev)' },
    { cell: 'mlc-s', text: '', because: 'the other half of 2b: this vCPU has done the MAP itself' },
    { cell: 'mlc-s', text: 'flag false: slow GUP, ok' },
    { cell: 'mlcfs', text: 'match only if that vCPU did the MAP', because: 'and here it did' },
    { cell: 'mlcfs', text: 'match' },
    { cell: 'mlc-s', text: 'async=true path, cap stored' },
    { cell: 'mlc-s', text: 'ok', because: LOCKED },
    { cell: 'mlcfs', text: 'ok, fast' },
  ],
  '3': [
    {
      cell: '-..f-',
      text: 'would skip accounting',
      account: 'nobody',
      violations: ['balance'],
      because: 'shown by the last close, since 4.9 has no mdev to pin for',
    },
    {
      cell: 'ml---',
      text: 'mm ok; cap: kthread has all -> limit bypassed',
      limit: 'owner',
      capability: 'caller',
      violations: ['limit-bypass'],
    },
    {
      cell: 'ml---',
      text: 'flag false ok; cap of target needed',
      capability: 'caller',
      violations: ['limit-bypass'],
      because: CALLERS_CAP,
    },
    { cell: 'mlc-s', text: 'no match: ok', capability: 'owner' },
    { cell: 'mlc-s', text: 'NULL vs mm: no match, get_task_mm ok', capability: 'owner' },
    { cell: 'mlc-s', text: 'ok' },
    { cell: 'mlc-s', text: 'ok' },
    { cell: 'mlc-s', text: 'remote, ok' },
  ],
  '4': [
    {
      cell: 'm--fs',
      text: 'mm right, rl/cap of the kthread: wrong',
      limit: 'caller',
      capability: 'caller',
      because: "shown by a MAP; no invariant breaks because the ledger takes a MAP to be its caller's",
    },
    { cell: 'ml---', text: 'get_task_mm(dma->task) ok; cap wrong as 3', violations: ['limit-bypass'] },
    {
      cell: 'ml---',
      text: 'depends on flag',
      violations: ['limit-bypass'],
      because: 'the flag is false in the mdev path, so this is S1',
    },
    { cell: 'mlc-s', text: 'no match: ok' },
    { cell: 'mlcfs', text: 'match: mm right; fast GUP legal; rl via task ok; cap via has_capability(task) ok' },
    { cell: 'mlc-s', text: 'ok' },
    { cell: 'mlc-s', text: 'ok' },
    { cell: 'mlcfs', text: 'local, fast, ok' },
  ],
  '5': [
    { cell: 'atomic', text: 'illegal (sleeps)' },
    { cell: 'atomic', text: 'illegal' },
    { cell: 'atomic', text: 'illegal' },
    { cell: 'atomic', text: 'false positive, but call illegal' },
    { cell: 'atomic', text: 'same' },
    { cell: 'atomic', text: 'illegal' },
    { cell: 'atomic', text: 'illegal' },
    { cell: 'atomic', text: 'illegal' },
  ],
  '6': [
    { cell: 'mlcfs', text: 'charges and pins its own mm: self-consistent', account: 'caller', pages: 'caller' },
    { cell: 'mlc-s', text: 'new dma owned by it: ok', account: 'caller' },
    { cell: 'mlcfs', text: 'ok' },
    { cell: 'mlcfs', text: 'ok' },
    { cell: 'mlcfs', text: 'ok' },
    { cell: 'mlc-s', text: 'ok', because: LOCKED },
    { cell: 'mlc-s', text: 'ok', because: LOCKED },
    { cell: 'mlcfs', text: 'ok' },
  ],
  '6b': [
    { cell: '-..f-', text: 'wrong mm decremented', account: 'caller', violations: ['wrap', 'balance'] },
    { cell: 'size 0', text: 'UNMAP refused (size 0)' },
    { cell: 'size 0', text: 'as S1' },
    { cell: 'size 0', text: 'as S1' },
    { cell: 'size 0', text: 'as S1' },
    { cell: 'size 0', text: 'as S1' },
    { cell: 'm..-s', text: 'allowed, right mm', account: 'owner' },
    { cell: 'm..-s', text: 'right mm', account: 'owner' },
  ],
  '6b close': [
    { cell: '-..f-', text: 'wrong mm decremented', account: 'caller', violations: ['wrap', 'balance'] },
    { cell: 'm..-s', text: 'close: right mm', account: 'owner' },
    { cell: 'm..-s', text: 'as S1', account: 'owner' },
    { cell: 'm..-s', text: 'as S1', account: 'owner' },
    { cell: 'm..-s', text: 'as S1', account: 'owner' },
    { cell: 'm..-s', text: 'as S1', account: 'owner' },
    { cell: 'm..-s', text: 'right mm', account: 'owner' },
    { cell: 'm..-s', text: 'right mm', account: 'owner' },
  ],
  '6c': [
    { cell: 'm..fs', text: 'no pin', account: 'nobody', pages: 'not asked' },
    {
      cell: 'ml--s',
      text: 'right mm',
      account: 'owner',
      pages: 'owner',
      capability: 'caller',
      because: "the pages and the limit are the owner's, the capability is the attacher's",
    },
    { cell: '---f-', text: 'wrong pages (current->mm)', account: 'caller', pages: 'caller' },
    {
      cell: '---f-',
      text: '-',
      account: 'caller',
      pages: 'caller',
      because: "the proposal leaves D's pin loop as it is, which takes current without a test",
    },
    { cell: '---f-', text: 'wrong pages, charges current', account: 'caller', pages: 'caller', limit: 'caller' },
    { cell: '--c--', text: 'wrong pages, charges owner', account: 'owner', pages: 'caller', limit: 'both' },
    { cell: '--c--', text: 'same', account: 'owner', pages: 'caller', limit: 'both' },
    { cell: 'mlc-s', text: 'pins source_mm, ok', account: 'owner', pages: 'owner' },
  ],
  '7': [
    { cell: '-..f-', text: 'new mm decremented: wrap', account: 'caller', violations: ['wrap', 'balance'] },
    { cell: '-..--', text: 'same', account: 'caller', violations: ['wrap', 'balance'] },
    { cell: '-..f-', text: 'same', account: 'caller', violations: ['wrap', 'balance'] },
    {
      cell: '-..f-',
      text: 'match but mm is not the mapped one',
      account: 'caller',
      violations: ['wrap', 'balance'],
    },
    { cell: '-..f-', text: 'same', account: 'caller', violations: ['wrap', 'balance'] },
    { cell: '-..--', text: 'same', account: 'caller', violations: ['wrap', 'balance'] },
    { cell: 'm..-s', text: 'skip: ok', account: 'nobody' },
    { cell: 'm..-s', text: 'ok' },
  ],
  '8': [
    { cell: 'm..fs', text: 'n/a', because: 'nothing is recorded, so nothing can be lost: the leader unmaps as ever' },
    { cell: 'size 0', text: 'UNMAP refused, pins ENODEV' },
    { cell: 'size 0', text: 'NULL -> lost', because: 'UNMAP does not get that far; the close below loses the charge' },
    {
      cell: 'size 0',
      text: 'no match, NULL',
      because: 'UNMAP does not get that far; the close below loses the charge',
    },
    { cell: 'size 0', text: 'mm NULL vs live: lost', because: 'UNMAP does not get that far; see the close below' },
    { cell: 'm..-s', text: 'leader: ok unless leader is a zombie' },
    { cell: 'm..-s', text: 'ok' },
    { cell: 'm..fs', text: 'ok' },
  ],
  '8 pin': [
    { cell: 'n/a', text: 'n/a' },
    { cell: 'ENODEV', text: 'pins ENODEV' },
    { cell: 'ENODEV', text: '', because: 'the mdev path is that of S1' },
    { cell: 'ENODEV', text: '', because: 'every mdev pin up to 4.17 goes through get_task_mm(dma->task)' },
    { cell: 'ENODEV', text: '', because: 'every mdev pin up to 4.17 goes through get_task_mm(dma->task)' },
    { cell: 'mlc-s', text: 'leader: ok unless leader is a zombie' },
    { cell: 'mlc-s', text: 'ok' },
    { cell: 'mlcfs', text: 'ok' },
  ],
  '8 close': [
    { cell: 'm..fs', text: 'n/a', because: 'nothing is recorded, so nothing can be lost' },
    { cell: '-..--', text: 'the decrement is skipped', account: 'nobody', violations: ['balance'] },
    { cell: '-..--', text: 'NULL -> lost', account: 'nobody', violations: ['balance'] },
    { cell: '-..--', text: 'no match, NULL', account: 'nobody', violations: ['balance'] },
    { cell: '-..--', text: 'mm NULL vs live: get_task_mm NULL -> lost', account: 'nobody', violations: ['balance'] },
    { cell: 'm..-s', text: 'leader: ok unless leader is a zombie' },
    { cell: 'm..-s', text: 'ok' },
    { cell: 'm..fs', text: 'ok' },
  ],
  '8 leader': [
    { cell: 'm..fs', text: '', because: 'the other half of 8: the leader is the zombie, the thread that mapped lives' },
    { cell: 'm..-s', text: '', because: 'the recorded thread is alive' },
    { cell: 'm..fs', text: '', because: 'the recorded thread is alive' },
    { cell: 'm..fs', text: '', because: 'the recorded thread is alive' },
    { cell: 'm..fs', text: '', because: 'the recorded thread is alive' },
    { cell: 'size 0', text: 'leader: ok unless leader is a zombie' },
    { cell: 'm..-s', text: 'ok' },
    { cell: 'm..fs', text: 'ok' },
  ],
  '9': [
    {
      cell: 'mlcfs',
      text: 'mm ok, rl of child',
      limit: 'caller',
      because: "shown by a MAP, where the child's limit is right",
    },
    { cell: 'ml--s', text: 'mm ok, rl/cap of owner/current', limit: 'owner', capability: 'caller' },
    { cell: 'ml--s', text: '-', because: 'the mdev path is that of S1' },
    { cell: 'mlc-s', text: 'no match: ok' },
    { cell: 'mlcfs', text: 'match: ok' },
    { cell: 'mlc-s', text: "task leader: owner's rl", limit: 'owner' },
    { cell: 'mlc-s', text: 'ok' },
    { cell: 'mlcfs', text: 'ok, fast' },
  ],
};

describe('calling contexts', () => {
  const cells = judgeAll();
  const find = (context: string, strategy: string): Cell => {
    const cell = cells.find((c) => c.context === context && c.strategy === strategy);
    assert.ok(cell !== undefined, `${context} ${strategy}`);
    return cell;
  };

  it('every context is judged under every strategy', () => {
    assert.equal(cells.length, CONTEXTS.length * STRATEGIES.length);
    assert.deepEqual(Object.keys(EXPECTED).toSorted(), CONTEXTS.map((c) => c.id).toSorted());
  });

  for (const [context, row] of Object.entries(EXPECTED)) {
    it(`context ${context}`, () => {
      assert.equal(row.length, STRATEGIES.length);
      row.forEach((expected, i) => {
        const strategy = (STRATEGIES[i] as (typeof STRATEGIES)[number]).id;
        const cell = find(context, strategy);
        const name = `${context} under ${strategy} ('${expected.text}')`;
        assert.equal(cellText(cell), expected.cell, name);
        for (const key of ['account', 'pages', 'limit', 'capability'] as const) {
          if (expected[key] !== undefined) assert.equal(cell[key], expected[key], `${name}: ${key}`);
        }
        if (cell.safe || cell.outcome !== 'ok') assert.equal(expected.violations, undefined, name);
        if (expected.violations !== undefined) {
          assert.deepEqual(cell.violations.toSorted(), [...expected.violations].toSorted(), name);
        }
        if (expected.text === '') assert.ok(expected.because !== undefined, `${name}: says more, but not why`);
      });
    });
  }

  it('an interrupt is refused by the first thing that may sleep, though current matches', () => {
    for (const { id } of STRATEGIES) {
      assert.equal(find('5', id).sleepsIn, id === 'S0' ? 'copy_from_user' : 'mutex_lock', id);
    }
  });

  it('the table fits 80 columns, and docs/contexts.md shows it as it is', () => {
    const table = contextsTable(cells);
    for (const line of table.split('\n')) assert.ok(line.length <= 80, line);
    assert.ok(readFileSync('docs/contexts.md', 'utf8').includes(`\`\`\`\n${table}\`\`\`\n`));
  });
});
