// needs: bash mkfifo
/** Files as users name them: regular ones, pipes, standard input; real ones. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { readInput, readSource } from '../../src/console/input.ts';
import { MAX_SOURCE_BYTES } from '../../src/scenario/source.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinstorm-input-'));
after(() => rmSync(dir, { recursive: true }));
const at = (name: string): string => join(dir, name);

const KIND = { what: 'list', example: 'a.txt', smaller: 'leave something out', maxBytes: 100_000 };

async function refused(file: string): Promise<string> {
  const error = await readSource(file).catch((e: unknown) => e);
  if (!(error instanceof UserError)) return 'accepted';
  assert.equal(error.exitCode, 104);
  return `${error.message.replaceAll(dir, 'DIR')}; ${error.hint?.replaceAll(dir, 'DIR')}`;
}

describe('input', () => {
  it('says what is wrong with a file', async () => {
    writeFileSync(at('latin1.yaml'), Buffer.from([0x6e, 0x61, 0x6d, 0x65, 0x3a, 0x20, 0xe9]));
    writeFileSync(at('large.yaml'), '');
    truncateSync(at('large.yaml'), MAX_SOURCE_BYTES + 1);
    const elsewhere = 'no such file; check the path; pinstorm scenarios lists what comes along';
    assert.equal(await refused(at('none-at-all.yaml')), `DIR/none-at-all.yaml: ${elsewhere}`);
    assert.equal(await refused(at('latin1.yaml/x')), `DIR/latin1.yaml/x: ${elsewhere}`);
    assert.equal(await refused(at('latim1.yaml')), 'DIR/latim1.yaml: no such file; did you mean DIR/latin1.yaml?');
    assert.equal(await refused(dir), 'DIR: is a directory; name a scenario file, for example boot-storm');
    assert.equal(
      await refused(at('large.yaml')),
      'DIR/large.yaml: is larger than 1MiB; use count instead of listing guests',
    );
    assert.equal(await refused(at('latin1.yaml')), 'DIR/latin1.yaml: is not UTF-8 text; save it as UTF-8');
    assert.equal(await refused('/dev/zero'), '/dev/zero: is not a file; name a scenario file');
    assert.equal(await refused(''), ': no such file; check the path; pinstorm scenarios lists what comes along');
  });

  it('drops a byte order mark, and reads what claims to be empty', async () => {
    writeFileSync(at('bom.yaml'), '\ufeffname: x\n');
    assert.equal((await readSource(at('bom.yaml'))).source.text, 'name: x\n');
    assert.match((await readInput('/proc/self/status', KIND)).text, /^Name:/);
  });

  it('reads a named pipe to its end, however late and slowly it is written', async () => {
    const fifo = at('fifo');
    execFileSync('mkfifo', [fifo]);
    const reading = readInput(fifo, KIND);
    const writer = await open(fifo, 'w');
    const text = 'word '.repeat(KIND.maxBytes / 5);
    for (let from = 0; from < text.length; from += 30_000) await writer.write(text.slice(from, from + 30_000));
    await writer.close();
    assert.equal((await reading).text, text);
  });

  it('gives up an endless pipe', async () => {
    const fifo = at('endless');
    execFileSync('mkfifo', [fifo]);
    const reading = readInput(fifo, KIND);
    const writer = await open(fifo, 'w');
    const endless = (async () => {
      for (;;) await writer.write('x'.repeat(50_000));
    })();
    await assert.rejects(reading, { exitCode: 104, message: `${fifo}: is larger than 100000 bytes` });
    await assert.rejects(endless, { code: 'EPIPE' });
    await writer.close();
  });

  for (const name of ['-', '/dev/stdin', '/dev/fd/0']) {
    it(`${name} is standard input: a pipe, a socket, a file`, async () => {
      const command = `'${process.execPath}' dist/src/cli/main.js validate ${name}`;
      const scenario = readFileSync('scenarios/boot-storm.yaml');
      const said = /^(<stdin>|\/dev\/stdin|\/dev\/fd\/0): OK, 50 guests, variant \S+\n$/;
      const shell = (script: string): string =>
        execFileSync('bash', ['-c', script], { encoding: 'utf8', input: scenario });
      assert.match(shell(`cat | ${command}`), said);
      assert.match(shell(command), said);
      assert.match(shell(`${command} < scenarios/boot-storm.yaml`), said);
    });
  }

  it('a signal is heard while nobody writes', async () => {
    const child = spawn(process.execPath, ['dist/src/cli/main.js', 'simulate', '-'], {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    const ended = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
    let err = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    // It has taken this, so it reads.
    await new Promise<void>((resolve) => child.stdin.write('x'.repeat(900_000), () => resolve()));
    child.kill('SIGINT');
    assert.equal(await ended, 105);
    assert.match(err, /^pinstorm: error: stopped by the user\n$/);
  });
});
