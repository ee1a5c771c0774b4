// needs: npm redis-server sh
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';

const LAUNCHER = path.resolve('bin/pinstorm');

function scratch(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'pinstorm-launcher-'));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** A directory for PATH that holds `real` programs of this system and `fake` shell scripts, and nothing else. */
function programs(t: TestContext, real: readonly string[], fake: Readonly<Record<string, string>>): string {
  const dir = scratch(t);
  for (const name of real) {
    const found = spawnSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).stdout.trim();
    assert.ok(found, `this test needs the program ${name}`);
    symlinkSync(found, path.join(dir, name));
  }
  for (const [name, script] of Object.entries(fake)) {
    const file = path.join(dir, name);
    writeFileSync(file, `#!/bin/sh\n${script}\n`);
    chmodSync(file, 0o755);
  }
  return dir;
}

/** Runs the launcher from another directory. */
function launch(cwd: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, launcher = LAUNCHER) {
  return spawnSync('/bin/sh', [launcher, ...args], { cwd, env: { ...process.env, ...env }, encoding: 'utf8' });
}

const SYSTEM = ['node', 'find', 'cmp', 'readlink', 'mkdir', 'flock', 'mv', 'dirname'];

test('starts from any directory, by a relative path and through links', (t) => {
  const dir = scratch(t);
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  symlinkSync(LAUNCHER, path.join(dir, 'first'));
  symlinkSync('first', path.join(dir, 'second'));
  launch(dir, ['--version']); // builds, should anything be newer than the last build
  for (const launcher of [LAUNCHER, path.relative(dir, LAUNCHER), './second']) {
    const { status, stdout, stderr } = launch(dir, ['--version'], {}, launcher);
    assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: `${version}\n`, stderr: '' });
  }
});

test('refuses a Node.js that is too old, or none, in one message', (t) => {
  for (const version of ['v18.20.4', 'v20.18.3', 'v9.0.0']) {
    const { status, stdout, stderr } = launch(scratch(t), [], { PATH: programs(t, [], { node: `echo ${version}` }) });
    assert.deepEqual({ status, stdout }, { status: EXIT.invalid, stdout: '' });
    assert.equal(
      stderr,
      `pinstorm: error: Node.js ${version} is too old\nhint: install Node.js 20.19 or newer; it must come first on the PATH\n`,
    );
  }
  const none = launch(scratch(t), [], { PATH: programs(t, [], {}) });
  assert.equal(none.status, EXIT.invalid);
  assert.match(none.stderr, /^pinstorm: error: Node\.js is not installed\nhint: .*\n$/);
});

test('run without a redis-server: says the command that installs it, unless a server is named', (t) => {
  const PATH = programs(t, SYSTEM, {});
  const { status, stdout, stderr } = launch(scratch(t), ['run', 'x.yaml'], { PATH });
  assert.deepEqual({ status, stdout }, { status: EXIT.invalid, stdout: '' });
  assert.match(
    stderr,
    /^pinstorm: error: no redis-server on the PATH\nhint: install it: .*, or name a server with --redis URL\n$/,
  );
  for (const args of [
    ['run', '--redis', 'redis://x', 'y'],
    ['run', '--redis=redis://x', 'y'],
    ['run', '--help'],
    ['--help'],
  ]) {
    assert.doesNotMatch(launch(scratch(t), args, { PATH }).stderr, /redis-server/);
  }
  assert.doesNotMatch(launch(scratch(t), ['run', 'y'], { PATH, PINSTORM_REDIS: 'redis://x' }).stderr, /redis-server/);
});

test('run without a redis-server on Debian: root gets the package installed, others the command', (t) => {
  const log = path.join(scratch(t), 'log');
  const apt = `echo "$@" >>${log}; echo noise; [ "$1" = update ] || [ -e ${log}.updated ] || { : >${log}.updated; exit 100; }`;
  const asRoot = launch(scratch(t), ['run', '--workers', 'x'], {
    PATH: programs(t, SYSTEM, { 'apt-get': apt, id: 'echo 0' }),
  });
  const install = 'install -y -qq --no-install-recommends redis-server';
  assert.equal(readFileSync(log, 'utf8'), `${install}\nupdate -qq\n${install}\n`);
  assert.equal(asRoot.stdout, '');
  assert.match(asRoot.stderr, /^pinstorm: installing the system package redis-server \(apt-get\), for redis-server\n/);
  const asUser = launch(scratch(t), ['run', 'x'], {
    PATH: programs(t, SYSTEM, { 'apt-get': 'exit 1', id: 'echo 1000' }),
  });
  assert.equal(asUser.status, EXIT.invalid);
  assert.match(asUser.stderr, /hint: install it: sudo apt-get install -y redis-server,/);
});

test('the package holds what the command needs and no tests', () => {
  const { stdout } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { encoding: 'utf8' });
  const [pack] = JSON.parse(stdout) as [{ files: { path: string; mode: number }[] }];
  const files = new Map(pack.files.map((f) => [f.path, f.mode]));
  for (const needed of ['bin/setup.sh', 'dist/src/cli/main.js', 'package.json', 'README.md', 'LICENSE']) {
    assert.ok(files.has(needed), `${needed} is missing from the package`);
  }
  assert.equal(files.get('bin/pinstorm'), 0o755);
  assert.deepEqual(
    [...files.keys()].filter((f) => /^(test|bench|src)\/|^dist\/(test|bench)|tsconfig/.test(f)),
    [],
  );
});
