// needs: bash
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EXIT, EXIT_MEANING, UserError } from '../../src/base/errors.ts';
import {
  choice,
  decimal,
  defineCommand,
  flag,
  flagName,
  integer,
  several,
  text,
  variableName,
} from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands/index.ts';
import { describe as describeCommand, HELP_COLUMNS, reportError } from '../../src/cli/frame.ts';
import { Interrupts } from '../../src/console/interrupts.ts';
import { stderr as messages } from '../../src/console/output.ts';
import { pinstorm } from './in-process.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

test('--version prints the version of package.json', async () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  assert.deepEqual(await pinstorm(['--version']), { status: 0, out: `${version}\n`, err: '', both: `${version}\n` });
});

test('a process prints the same, and ends with the same status', async () => {
  for (const args of [['--version'], ['completon']]) {
    const { status, out, err } = await pinstorm(args);
    const child = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
    assert.deepEqual([child.status, child.stdout, child.stderr], [status, out, err]);
  }
});

test('top-level help lists each command and each exit status and fits the columns', async () => {
  const { status, out, err } = await pinstorm(['--help']);
  assert.equal(status, 0);
  assert.equal(err, '');
  for (const name of Object.keys(COMMANDS)) assert.match(out, new RegExp(`^  ${name} `, 'm'));
  for (const code of Object.values(EXIT)) assert.ok(out.includes(`  ${String(code).padEnd(5)}${EXIT_MEANING[code]}`));
  assert.deepEqual(tooWide(out), []);
});

for (const name of Object.keys(COMMANDS)) {
  test(`${name} --help has examples and exit statuses and fits the columns`, async () => {
    const { status, out } = await pinstorm([name, '--help']);
    assert.equal(status, 0);
    assert.match(out, /\nExamples:\n {2}\S/);
    assert.match(out, /\nExit status:\n {2}0 {4}all good\n/);
    assert.deepEqual(tooWide(out), []);
    assert.equal((await pinstorm(['help', name])).out, out);
  });
}

const mistakes: readonly { readonly args: readonly string[]; readonly error: RegExp; readonly hint: RegExp }[] = [
  { args: [], error: /no command given/, hint: /pinstorm --help/ },
  { args: ['completon', 'bash'], error: /unknown command 'completon'/, hint: /did you mean completion\?/ },
  { args: ['completon', '--help'], error: /unknown command 'completon'/, hint: /did you mean completion\?/ },
  { args: ['help', 'nothing'], error: /unknown command 'nothing'/, hint: /pinstorm --help/ },
  { args: ['--versio'], error: /unknown option '--versio'/, hint: /did you mean --version\?/ },
  { args: ['completion'], error: /missing required argument 'SHELL'/, hint: /pinstorm completion --help/ },
  { args: ['completion', 'bash', 'x'], error: /too many arguments/, hint: /pinstorm completion --help/ },
  { args: ['completion', 'bash', '--hlep'], error: /unknown option '--hlep'/, hint: /did you mean --help\?/ },
  { args: ['completion', 'tcsh'], error: /SHELL: expected one of bash, zsh, fish, got "tcsh"/, hint: /^/ },
];
for (const { args, error, hint } of mistakes) {
  test(`mistake: pinstorm ${args.join(' ')}`, async () => {
    const { status, out, err } = await pinstorm(args);
    assert.equal(status, EXIT.invalid);
    assert.equal(out, '');
    assert.match(err, error);
    assert.match(err, hint);
    assert.equal(err.match(/^pinstorm: error: /gm)?.length, 1);
    assert.doesNotMatch(err, /^\s+at /m);
  });
}

/** Runs a command made for the test in this process. @returns what its `run` was given. */
async function given(args: readonly string[], env: Record<string, string> = {}): Promise<unknown> {
  let seen: unknown;
  const command = defineCommand({
    description: 'For the test.',
    arguments: { files: several('files') },
    options: {
      json: flag('as JSON'),
      metricsPort: integer({ placeholder: 'P', help: 'port', min: 0, max: 65_535 }),
      pace: decimal({ placeholder: 'X', help: 'pace', min: 0, default: 1 }),
      order: choice({ placeholder: 'O', help: 'order', choices: ['up', 'down'], default: 'up' }),
      out: text({ placeholder: 'DIR', help: 'directory' }),
    },
    examples: [],
    exits: [],
    run(files, options) {
      seen = { ...files, ...options };
      return EXIT.ok;
    },
  });
  const row = { summary: 'test', load: () => Promise.resolve({ command }) };
  await describeCommand('made', row, command, env, new Interrupts(), () => undefined).parseAsync(args, {
    from: 'user',
  });
  return seen;
}

test('options: flag before environment before default, undefined when nothing is said', async () => {
  const nothing = { files: ['a'], json: false, metricsPort: undefined, pace: 1, order: 'up', out: undefined };
  assert.deepEqual(await given(['a']), nothing);
  const env = { PINSTORM_JSON: '1', PINSTORM_METRICS_PORT: '9100', PINSTORM_PACE: '0.5', PINSTORM_OUT: '' };
  assert.deepEqual(await given(['a'], env), { ...nothing, json: true, metricsPort: 9100, pace: 0.5 });
  assert.deepEqual(await given(['--metrics-port', '0', '--order=down', 'a', 'b'], env), {
    ...nothing,
    files: ['a', 'b'],
    json: true,
    metricsPort: 0,
    pace: 0.5,
    order: 'down',
  });
  assert.deepEqual(await given(['a'], { PINSTORM_JSON: '0' }), nothing);
});

test('options: a value that does not fit is refused with the name under which it was given', async () => {
  const invalid = (message: string) => ({ name: 'UserError', exitCode: EXIT.invalid, message });
  await assert.rejects(
    given(['--metrics-port', '65536', 'a']),
    invalid('--metrics-port: expected a whole number from 0 to 65535, got "65536"'),
  );
  await assert.rejects(
    given(['a'], { PINSTORM_METRICS_PORT: '1e3' }),
    invalid('PINSTORM_METRICS_PORT: expected a whole number from 0 to 65535, got "1e3"'),
  );
  await assert.rejects(given(['--pace=-1', 'a']), invalid('--pace: expected a number of at least 0, got "-1"'));
  await assert.rejects(given(['--order', 'left', 'a']), invalid('--order: expected one of up, down, got "left"'));
  await assert.rejects(
    given(['a'], { PINSTORM_JSON: 'maybe' }),
    invalid('PINSTORM_JSON: expected 1 or 0, got "maybe"'),
  );
});

test('names of flags and variables follow from the key', () => {
  assert.equal(flagName('metricsPort'), '--metrics-port');
  assert.equal(variableName('metricsPort'), 'PINSTORM_METRICS_PORT');
});

test('an error for users keeps its status and hint; any other is called a bug, with the stack on demand', (t) => {
  let written = '';
  t.mock.method(messages, 'raw', (chunk: string) => void (written += chunk));
  assert.equal(reportError(new UserError(EXIT.saturated, 'too slow', 'add workers'), {}), EXIT.saturated);
  assert.equal(written, 'pinstorm: error: too slow\nhint: add workers\n');
  written = '';
  assert.equal(reportError(new TypeError('x is\nnot'), {}), EXIT.bug);
  assert.match(written, /^pinstorm: internal error: TypeError: x is not\nthis is a bug in pinstorm; .*\n$/);
  written = '';
  reportError(new TypeError('x'), { PINSTORM_DEBUG: '1' });
  assert.match(written, /^TypeError: x\n {4}at /);
});

test('a reader that closes early is no error', async () => {
  const script = `'${process.execPath}' '${MAIN}' --help | true; echo "\${PIPESTATUS[0]}"`;
  const outcome = await new Promise<string>((resolve) => {
    execFile('bash', ['-c', script], (_error, stdout, stderr) => resolve(stdout + stderr));
  });
  assert.equal(outcome, '0\n');
});

const tooWide = (help: string): readonly string[] => help.split('\n').filter((line) => line.length > HELP_COLUMNS);
