// needs: redis-cli redis-server sh
/**
 * The tutorial and the how-to pages, followed to the letter. Of every page, from its top: blocks with a name are
 * written to that file (a `diff` replaces its minus lines by its plus lines), `sh` blocks are run, and the lines of a
 * `text` block must be among what the `sh` block before it printed, in that order, each as the beginning of a line or a
 * part of one; `...` stands for any lines between. A command alone on its line runs in this process, as all that it
 * needs of a shell is its words; what begins processes itself, and what a page has changed, runs as the page has it.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import { pinstorm } from '../cli/in-process.ts';
import { until } from '../coordinator/until.ts';

const PAGES = ['docs/tutorial.md', ...readdirSync('docs/how-to').map((name) => `docs/how-to/${name}`)];
const ROOT = process.cwd();
const top = mkdtempSync(path.join(os.tmpdir(), 'pinstorm-docs-'));
after(() => rmSync(top, { recursive: true, force: true }));

// The tutorial runs that command, so what the README shows of it is what it prints.
it('the README shows the command of its headline and what the tutorial shows of it', () => {
  const [command = '', printed = ''] = blocksOf('docs/tutorial.md')
    .map(({ text }) => text)
    .filter((text, i, all) => /compare .*server-2016/.test(text) || /compare .*server-2016/.test(all[i - 1] ?? ''));
  const readme = readFileSync('README.md', 'utf8');
  assert.ok(command !== '' && readme.includes(`bin/${command}`), `README.md does not show: bin/${command}`);
  const lines = printed.split('\n').filter((line) => line !== '' && line !== '...');
  assert.ok(lines.length >= 4, printed);
  assert.ok(readme.includes(lines.join('\n')), `README.md does not show:\n${lines.join('\n')}`);
});

interface Block {
  readonly kind: string;
  readonly name: string | null;
  readonly text: string;
}

function blocksOf(page: string): Block[] {
  const fences = readFileSync(page, 'utf8').matchAll(/^```(\w+)(?: name=(\S+))?\n(.*?)^```$/gms);
  return [...fences].map(([, kind = '', name, text = '']) => ({ kind, name: name ?? null, text }));
}

/** Whether the page has the reader change the program. */
const changesProgram = (page: string): boolean => blocksOf(page).some(isSource);
const isSource = ({ name }: Block): boolean => name?.startsWith('src/') === true;

/** The program with the changes of every page that makes some: they are apart, so one build shows that all compile. */
let changedProgram: string | null = null;

function buildChangedProgram(): string {
  const cwd = path.join(top, 'changed-program');
  mkdirSync(cwd);
  for (const name of ['package.json', 'tsconfig.json', 'src', 'scenarios', 'cases', 'profiles', 'calibration'])
    cpSync(name, path.join(cwd, name), { recursive: true });
  symlinkSync(path.join(ROOT, 'node_modules'), path.join(cwd, 'node_modules'));
  const pages = PAGES.filter(changesProgram);
  for (const block of pages.flatMap(blocksOf).filter(isSource)) write(cwd, block);
  const args = ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'];
  const tsc = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' });
  assert.equal(tsc.status, 0, `${pages.join(', ')}\n${tsc.stdout}`);
  // No page changes what runs in a browser.
  symlinkSync(path.join(ROOT, 'dist/src/report/browser'), path.join(cwd, 'dist/src/report/browser'));
  return cwd;
}

/** A directory with what a clone has, in which a page can write, and the program that its commands run. */
function workplace(page: string): { readonly cwd: string; readonly path: string } {
  const cwd = path.join(top, path.basename(page, '.md'));
  mkdirSync(path.join(cwd, 'path'), { recursive: true });
  for (const name of ['scenarios', 'cases', 'profiles', 'calibration', 'bin']) {
    symlinkSync(path.join(ROOT, name), path.join(cwd, name));
  }
  const program = changesProgram(page) ? (changedProgram ??= buildChangedProgram()) : ROOT;
  const main = path.join(program, 'dist/src/cli/main.js');
  writeFileSync(path.join(cwd, 'path/pinstorm'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`, {
    mode: 0o755,
  });
  return { cwd, path: `${path.join(cwd, 'path')}:${process.env['PATH']}` };
}

function write(cwd: string, { kind, name, text }: Block): void {
  const file = path.join(cwd, name ?? '');
  if (kind === 'diff') apply(file, text);
  else writeFileSync(file, text);
}

function apply(file: string, diff: string): void {
  const side = (sign: string): string =>
    diff
      .split('\n')
      .filter((line) => line.startsWith(sign))
      .map((line) => line.slice(1))
      .join('\n');
  const text = readFileSync(file, 'utf8');
  assert.ok(text.includes(side('-')), `${file} has no longer ${side('-')}`);
  writeFileSync(file, text.replace(side('-'), side('+')));
}

/** Each line of `shown`, in order, is in `printed`. */
function compare(page: string, shown: string, printed: string): void {
  const lines = printed.split('\n');
  let at = 0;
  let skip = true;
  for (const line of shown.trimEnd().split('\n')) {
    if (line.trim() === '...') {
      skip = true;
      continue;
    }
    const found = lines.findIndex((l, i) => i >= at && (line === '' ? l === '' : l.includes(line)));
    const where = `${page} shows\n${line}\nafter line ${at} of what is printed:\n${printed}`;
    assert.ok(found >= 0 && (skip || found === at), where);
    at = found + 1;
    skip = false;
  }
}

/** The words of a line that is one command of pinstorm, for a shell and for us the same; null for any other line. */
function wordsOf(program: string): string[] | null {
  const line = program.replace(/ # exit status \d+$/, '');
  if (
    !/^pinstorm (?!run |worker |coordinator )/.test(line) ||
    /[$`\\|&;<>*?~()#\n]/.test(line.replace(/"[^"$`\\]*"/g, ''))
  )
    return null;
  return [...line.matchAll(/"([^"]*)"|[^ "]+/g)].map(([word, quoted]) => quoted ?? word).slice(1);
}

interface Printed {
  readonly status: number | null;
  readonly text: string;
}

async function runHere(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv): Promise<Printed> {
  process.chdir(cwd);
  try {
    const { status, both } = await pinstorm(args, env as Record<string, string>);
    return { status, text: both };
  } finally {
    process.chdir(ROOT);
  }
}

function runInShell(program: string, cwd: string, env: NodeJS.ProcessEnv): Printed {
  const options = { cwd, env, encoding: 'utf8', timeout: 120_000 } as const;
  const { status, stdout } = spawnSync('sh', ['-c', `{ ${program}\n} 2>&1`], options);
  return { status, text: stdout };
}

async function redisServer(): Promise<{ readonly url: string; readonly server: ChildProcess }> {
  const socket = path.join(top, 'redis.sock');
  const server = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--appendonly', 'no'], {
    stdio: 'ignore',
  });
  const ping = (): boolean =>
    spawnSync('redis-cli', ['-s', socket, 'ping'], { encoding: 'utf8' }).stdout?.trim() === 'PONG';
  await until('the Redis of this test answers', ping);
  return { url: socket, server };
}

describe('what the pages say to do', () => {
  for (const page of PAGES) {
    it(page, async () => {
      const blocks = blocksOf(page);
      const { cwd, path: search } = workplace(page);
      let redis: Awaited<ReturnType<typeof redisServer>> | null = null;
      let printed: string | null = null;
      let ran = 0;
      try {
        for (const block of blocks) {
          const { kind, name, text } = block;
          if (name !== null) {
            if (!isSource(block)) write(cwd, block);
          } else if (kind === 'text') {
            assert.ok(printed !== null, `${page} shows output of nothing`);
            compare(page, text, printed);
          } else {
            assert.equal(kind, 'sh', `${page}: a ${kind} block without a name`);
            if (text.includes('$REDIS')) redis ??= await redisServer();
            printed = '';
            // A line at a time where each has a status of its own; a block with background jobs is one program.
            const programs = text.includes('&\n') ? [text] : text.trimEnd().split('\n');
            for (const program of programs) {
              const wanted = [Number(/# exit status (\d+)/.exec(program)?.[1] ?? 0)];
              // In real time a machine that is busy with other tests is saturated, and the verdict says so.
              if (/\bpinstorm (run|coordinator) /.test(program)) wanted.push(EXIT.saturated);
              const env = { ...process.env, PATH: search, ...(redis === null ? {} : { REDIS: redis.url }) };
              const words = changesProgram(page) ? null : wordsOf(program);
              const run = words === null ? runInShell(program, cwd, env) : await runHere(words, cwd, env);
              printed += run.text;
              assert.ok(
                wanted.includes(run.status ?? -1),
                `${page}: ${program}\nexit status ${run.status}\n${run.text}`,
              );
              ran += 1;
            }
          }
        }
        assert.ok(ran > 0, `${page} has nothing to run`);
      } finally {
        redis?.server.kill();
      }
    });
  }
});
