/**
 * Mutation evidence: each row breaks one rule in a copy of the compiled program and runs the tests of the model on it. A
 * mutant that lives, or a place that is no longer there, makes the run fail.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

interface Mutation {
  readonly rule: string;
  /** Below dist/src/model. */
  readonly file: string;
  /** Must occur exactly once. */
  readonly from: string;
  readonly to: string;
}

const MUTATIONS: readonly Mutation[] = [
  {
    rule: 'the limit is tested again under the lock (5.3+)',
    file: 'kernels/account.js',
    from: 'if (npage > 0 && !bypass) {',
    to: 'if (false) {',
  },
  {
    rule: 'an unmap gives back every page it puts (here: one too few)',
    file: 'paths/unmap.js',
    from: 'k.variant.acctDma(k, dma, -put)',
    to: 'k.variant.acctDma(k, dma, 1 - put)',
  },
  {
    rule: 'the write-trylock fails while readers hold the lock',
    file: 'rwsem.js',
    from: 'if ((s & ~WAITERS) !== 0) {',
    to: 'if ((s & WRITER) !== 0) {',
  },
  {
    rule: 'a new reader queues behind a waiting writer',
    file: 'rwsem.js',
    from: 'while ((s & (WRITER | WAITERS | HANDOFF)) === 0) {',
    to: 'while ((s & WRITER) === 0) {',
  },
  {
    rule: 'a limit is reached only when it is exceeded',
    file: 'mm.js',
    from: 'return ((lockedVmPages + BigInt(npage)) & MASK) > limitPages;',
    to: 'return ((lockedVmPages + BigInt(npage)) & MASK) >= limitPages;',
  },
  {
    rule: 'a failing MAP is rolled back whole',
    file: 'paths/map.js',
    from: 'yield* removeDma(k, container, dma);',
    to: '{}',
  },
  {
    rule: 'reserved pages are never counted',
    file: 'paths/map.js',
    from: 'const counted = call.reserved ? 0 : 1;',
    to: 'const counted = 1;',
  },
  {
    rule: 'an update that was put off is applied, whatever its sign',
    file: 'paths/work.js',
    from: 'addLockedVm(k.arena, mm, npage);',
    to: 'addLockedVm(k.arena, mm, Math.max(0, npage));',
  },
  {
    rule: 'from 6.3 on the mm recorded at map time is charged',
    file: 'kernels/h.js',
    from: "acctDma: (k, dma, npage) => vfioLockAcct(k, dma, npage, true, 'stored')",
    to: "acctDma: (k, dma, npage) => vfioLockAcct(k, dma, npage, true, 'leader')",
  },
  {
    rule: 'CAP_IPC_LOCK passes the limit and is charged all the same',
    file: 'kernels/account.js',
    from: 'addLockedVm(a, mm, npage);',
    to: 'addLockedVm(a, mm, bypass ? 0 : npage);',
  },
  {
    rule: 'overlapping mappings are refused',
    file: 'paths/map.js',
    from: 'return -EEXIST;',
    to: '{}',
  },
  {
    rule: 'a work item drops its reference to the address space',
    file: 'paths/work.js',
    from: 'mmput(k, mm);',
    to: '{}',
  },
  {
    rule: 'J takes back what it added beyond the limit',
    file: 'kernels/j.js',
    from: 'addLockedVmAtomic(a, mm, -npage);',
    to: '{}',
  },
  {
    rule: 'iommufd charges a user only by compare and exchange',
    file: 'paths/iommufd-pages.js',
    from: 'if (Atomics.compareExchange(a.u64, word, seen, seen + BigInt(npage)) !== seen)',
    to: 'if (Atomics.store(a.u64, word, seen + BigInt(npage)) < 0n)',
  },
  {
    rule: 'iommufd keeps pages that another area still shows',
    file: 'paths/iommufd-pages.js',
    from: 'if (o !== area)',
    to: 'if (false)',
  },
];

/** Folders of tests whose business the model is. */
const FOLDERS = ['model', 'property', 'conform'];

const work = mkdtempSync(path.join(os.tmpdir(), 'pinstorm-mutation-'));
const COPIED = ['bin', 'package.json', 'package-lock.json', 'tsconfig.json', 'src', 'test', 'bench', 'dist'];
// With their times: the launcher would build anew where a source is newer than what was made of it.
for (const name of COPIED) cpSync(name, path.join(work, name), { recursive: true, preserveTimestamps: true });
symlinkSync(path.resolve('node_modules'), path.join(work, 'node_modules'));

/** The first failing test by its full name, or null when all pass. */
function failing(): { file: string; name: string } | null {
  for (const folder of FOLDERS) {
    const files = readdirSync(path.join(work, 'dist/test', folder)).filter((f) => f.endsWith('.test.js'));
    for (const file of files.toSorted()) {
      const result = spawnSync(
        process.execPath,
        ['--test-timeout=120000', '--test', '--test-reporter=tap', `dist/test/${folder}/${file}`],
        { cwd: work, encoding: 'utf8', env: { ...process.env, PINSTORM_PROPERTY_RUNS: '4000' } },
      );
      if (result.status === 0) continue;
      const name = /^ *not ok \d+ - (.*)$/m.exec(result.stdout)?.[1] ?? 'the file';
      return { file: `test/${folder}/${file.replace(/\.js$/, '.ts')}`, name };
    }
  }
  return null;
}

const rows: string[] = [];
let wrong = 0;
try {
  const clean = failing();
  if (clean !== null) throw new Error(`without any change ${clean.file} fails: ${clean.name}`);
  for (const { rule, file, from, to } of MUTATIONS) {
    const target = path.join(work, 'dist/src/model', file);
    const text = readFileSync(target, 'utf8');
    const count = text.split(from).length - 1;
    let killed: { file: string; name: string } | null = null;
    if (count === 1) {
      writeFileSync(
        target,
        text.replace(from, () => to),
      );
      killed = failing();
      writeFileSync(target, text);
    }
    const verdict =
      count !== 1
        ? `not tried: found ${count} times`
        : killed === null
          ? 'lives'
          : `\`${killed.file}\`: ${killed.name}`;
    if (killed === null) wrong += 1;
    const place = `src/model/${file.replace(/\.js$/, '.ts')}`;
    rows.push(`| ${rule} | \`${place}\` | ${verdict.replaceAll('|', '\\|')} |`);
    process.stdout.write(`${rule}: ${verdict}\n`);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}

const page = 'docs/model-evidence.md';
const [begin, end] = ['<!-- mutations -->', '<!-- end of mutations -->'];
const old = readFileSync(page, 'utf8');
const at = old.indexOf(begin);
const to = old.indexOf(end);
if (at < 0 || to < at) throw new Error(`${page} has lost its marks ${begin} and ${end}`);
const table = ['| rule that was broken | in | caught by |', '| --- | --- | --- |', ...rows].join('\n');
writeFileSync(page, `${old.slice(0, at + begin.length)}\n\n${table}\n\n${old.slice(to)}`);
process.stdout.write(`${MUTATIONS.length - wrong} of ${MUTATIONS.length} caught\n`);
process.exitCode = wrong === 0 ? 0 : 1;
