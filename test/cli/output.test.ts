// needs: mkfifo
/** What is printed arrives whole, or is known not to: real pipes and devices. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { escaped, oneLine } from '../../src/base/printable.ts';
import { deliver, Output, type OutputStream } from '../../src/console/output.ts';

const dir = mkdtempSync(join(tmpdir(), 'pinstorm-output-'));
after(() => rmSync(dir, { recursive: true }));

let pipes = 0;

/** A pipe whose far end is ours to read or to close. */
function pipe(): { output: Output; reader: number; close: () => void } {
  const path = join(dir, `pipe-${++pipes}`);
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, 'w');
  const stream = new Socket({ fd: writer, readable: false, writable: true });
  return { output: new Output(stream, writer), reader, close: () => stream.destroy() };
}

/** Reads what is in a pipe now. */
function read(reader: number): string {
  const buffer = Buffer.alloc(100_000);
  try {
    return buffer.toString('utf8', 0, readSync(reader, buffer));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
    return '';
  }
}

/** Output that is a device or a file, and collects nothing. */
function device(path: string): Output {
  const none: OutputStream = { write: () => assert.fail('written by the stream'), on: () => {} };
  return new Output(none, openSync(path, 'r+'));
}

/** A second output, of which the test knows what was written. */
function heard(): { err: Output; text: () => string } {
  const { output, reader } = pipe();
  return { err: output, text: () => read(reader) };
}

describe('output', () => {
  it('through a pipe is whole, also to a reader that is late and slow', async () => {
    const { output, reader, close } = pipe();
    const text = Array.from({ length: 300_000 }, (_, i) => `line ${i}\n`).join('');
    output.write(text);
    const { err, text: messages } = heard();
    let status: number | undefined;
    void deliver(99, output, err).then((s) => (status = s));
    // Nobody reads yet: nothing may be given up.
    for (let turn = 0; turn < 50; turn += 1) await setImmediate();
    assert.equal(status, undefined);
    let got = '';
    while (status === undefined) {
      got += read(reader);
      await setImmediate();
    }
    got += read(reader);
    assert.equal(status, 99);
    assert.equal(got.length, text.length);
    assert.equal(got, text);
    assert.equal(messages(), '');
    close();
  });

  it('whose reader has seen enough keeps the status and says nothing', async () => {
    for (const status of [0, 99]) {
      const { output, reader, close } = pipe();
      const { err, text } = heard();
      closeSync(reader);
      output.write('x'.repeat(1_000_000));
      assert.equal(await deliver(status, output, err), status);
      assert.equal(text(), '');
      close();
    }
  });

  // Address 0 of any process: a write there fails with EIO.
  for (const [path, why] of [
    ['/dev/full', 'no space is left'],
    ['/proc/self/mem', 'the device fails'],
  ] as const) {
    it(`to ${path} ends with 113 and one message, whatever the status was`, async () => {
      for (const status of [0, 99, 105]) {
        const output = device(path);
        const { err, text } = heard();
        output.write('results\n');
        output.write('more results\n');
        assert.equal(await deliver(status, output, err), 113);
        assert.match(
          text(),
          new RegExp(`^pinstorm: error: cannot write to standard output: ${why}; .* not whole\nhint: .*\n$`),
        );
      }
    });
  }
});

describe('what a terminal obeys', () => {
  const hostile = 'a\u001b]0;t\u0007b\u009b31mc\u202ed\u2066e\u200ff\rg\u0000h\u2028i';

  it('is shown as an escape, so that a JSON document stays the same', () => {
    assert.equal(escaped('a\u001b[31mb\u202e\tc\r\nd\n'), 'a\\u001b[31mb\\u202e\tc\r\nd\n');
    const document = { [hostile]: [hostile, 1] };
    const text = escaped(JSON.stringify(document));
    assert.deepEqual(JSON.parse(text), document);
    assert.match(text, /^[\u0020-\u007e]*$/);
    assert.match(escaped(hostile), /^[\u0020-\u007e]*$/);
  });

  it('is a space in a line', () => {
    assert.match(oneLine(`${hostile}\n\t`), /^[\u0020-\u007e]*$/);
    assert.equal(oneLine('a\nb\u202ec'), 'a b c');
  });

  it('our own colours alone reach a terminal', () => {
    assert.equal(escaped('\u001b[31mred\u001b[0m', true), '\u001b[31mred\u001b[0m');
    assert.equal(escaped('\u001b[31mred\u001b[0m'), '\\u001b[31mred\\u001b[0m');
    assert.equal(escaped('\u001b[8mhidden\u001b[2J', true), '\\u001b[8mhidden\\u001b[2J');
  });
});

describe('progress where there is no terminal', () => {
  it('is a line every ten seconds, and none of a command that is quick', (t) => {
    let nowMs = 0;
    t.mock.method(performance, 'now', () => nowMs);
    const { output, reader, close } = pipe();
    for (nowMs = 0; nowMs < 31_000; nowMs += 500) output.draw(`${nowMs / 1000} s`);
    output.wipe();
    assert.equal(read(reader), 'pinstorm: 10 s\npinstorm: 20 s\npinstorm: 30 s\n');
    close();
  });
});
