/**
 * Breaks one rule at a time in a copy of the compiled program and runs the tests nearest to it. A planted bug that no
 * test notices, a place that is no longer there, and a test that fails without any change make the run fail. Arguments
 * choose rows: part of the rule's name or of the file's.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { ALL_MUTATIONS } from './all.ts';
import type { Mutation } from './mutation.ts';

const PAGE = 'docs/model-evidence.md';
const TEST_TIMEOUT_MS = 120_000;

const wanted = process.argv.slice(2);
const chosen = ALL_MUTATIONS.filter(
  (m) => wanted.length === 0 || wanted.some((w) => m.rule.includes(w) || m.file.includes(w)),
);
if (chosen.length === 0) {
  process.stderr.write(`no rule has ${wanted.join(' or ')} in its name; there are:\n`);
  for (const { rule } of ALL_MUTATIONS) process.stderr.write(`  ${rule}\n`);
  process.exit(1);
}

const work = mkdtempSync(path.join(os.tmpdir(), 'pinstorm-mutation-'));
const NOT_COPIED = new Set(['.git', 'node_modules', 'runs']);
// With their times: the launcher would build again where a source is newer than what was compiled from it.
for (const name of readdirSync('.'))
  if (!NOT_COPIED.has(name)) cpSync(name, path.join(work, name), { recursive: true, preserveTimestamps: true });
symlinkSync(path.resolve('node_modules'), path.join(work, 'node_modules'));

/** The first of these test files that fails, with the full name of its first failing test; null when all pass. */
function failing(tests: readonly string[]): { file: string; name: string } | null {
  for (const file of tests) {
    const result = spawnSync(
      process.execPath,
      [`--test-timeout=${TEST_TIMEOUT_MS}`, '--test', '--test-reporter=tap', `dist/test/${file}`],
      {
        cwd: work,
        encoding: 'utf8',
        env: { ...process.env, PINSTORM_PROPERTY_RUNS: '4000', PINSTORM_PROPERTY_SEED: '20161201' },
        maxBuffer: 1 << 28,
      },
    );
    if (result.status === 0) continue;
    const name = /^ *not ok \d+ - (.*)$/m.exec(result.stdout)?.[1] ?? 'the file';
    return { file: `test/${file.replace(/\.js$/, '.ts')}`, name };
  }
  return null;
}

/** What became of a planted bug, and whether a test noticed it. */
function tried({ file, from, to, tests }: Mutation): { caught: boolean; verdict: string } {
  const target = path.join(work, 'dist/src', file);
  const text = readFileSync(target, 'utf8');
  const count = text.split(from).length - 1;
  if (count !== 1) return { caught: false, verdict: `not tried: its place is there ${count} times` };
  writeFileSync(
    target,
    text.replace(from, () => to),
  );
  const killed = failing(tests);
  writeFileSync(target, text);
  return killed === null
    ? { caught: false, verdict: `not noticed by ${tests.join(', ')}` }
    : { caught: true, verdict: `\`${killed.file}\`: ${killed.name}` };
}

const rows: string[] = [];
let caughtCount = 0;
try {
  const clean = failing([...new Set(chosen.flatMap((m) => m.tests))]);
  if (clean !== null) throw new Error(`without any change ${clean.file} fails: ${clean.name}`);
  for (const mutation of chosen) {
    const { caught, verdict } = tried(mutation);
    if (caught) caughtCount += 1;
    const place = `src/${mutation.file.replace(/\.js$/, '.ts')}`;
    rows.push(`| ${mutation.rule} | \`${place}\` | ${verdict.replaceAll('|', '\\|')} |`);
    process.stdout.write(`${caught ? 'caught' : 'LIVES'}  ${mutation.rule}\n        ${verdict}\n`);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}

if (chosen.length === ALL_MUTATIONS.length) writeTable();
process.stdout.write(`${caughtCount} of ${chosen.length} caught\n`);
process.exitCode = caughtCount === chosen.length ? 0 : 1;

function writeTable(): void {
  const [begin, end] = ['<!-- mutations -->', '<!-- end of mutations -->'];
  const old = readFileSync(PAGE, 'utf8');
  const at = old.indexOf(begin);
  const to = old.indexOf(end);
  if (at < 0 || to < at) throw new Error(`${PAGE} has lost its marks ${begin} and ${end}`);
  const table = ['| rule that was broken | in | caught by |', '| --- | --- | --- |', ...rows].join('\n');
  writeFileSync(PAGE, `${old.slice(0, at + begin.length)}\n\n${table}\n\n${old.slice(to)}`);
  spawnSync('node_modules/.bin/prettier', ['--write', PAGE]);
}
