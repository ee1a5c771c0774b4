/** The process that records: what it says, and that it never outlives the command. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { EXIT, UserError } from '../../src/base/errors.ts';
import { recordAll, type RecordOptions } from '../../src/kernel/record-all.ts';
import { parseSequence } from '../../src/transcript/transcript.ts';
import { claimed, OWN_MACHINE } from './claimed.ts';

const HOST = { ...OWN_MACHINE, ownMachine: false, capIpcLock: false };
const TEXT =
  '{"format":1,"iommu":"type1v2","memlock_bytes":0,"cap_ipc_lock":false,"dma_entry_limit":65535,' +
  '"buffer":{"bytes":4096,"backing":"anon4k"}}\n{"op":"unmap","actor":"main","iova":0,"bytes":4096,"flags":[]}\n';
const STUCK = fileURLToPath(new URL('./stuck-child.js', import.meta.url));

const options = (more: Partial<RecordOptions>): RecordOptions => ({
  claim: claimed(HOST, 1),
  memoryBytes: 1,
  sequences: [parseSequence(TEXT, 'a.jsonl')],
  limitMs: 60_000,
  recorded: () => {},
  ...more,
});

async function refusal(more: Partial<RecordOptions>): Promise<UserError> {
  const error: unknown = await recordAll(options(more)).done.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof UserError, String(error));
  return error;
}

test('what the kernel refuses at the start is told with its errno', async () => {
  // No host has a group of this number.
  const claim = { ...claimed(HOST, 1), groups: [{ number: 999_999, device: '' }] };
  const error = await refusal({ claim });
  assert.equal(error.exitCode, EXIT.invalid);
  assert.match(error.message, /^group 999999 cannot be opened with type1v2: ENOENT$/);
});

test('with too little memory left nothing begins', async () => {
  const error = await refusal({ memoryBytes: 2 ** 52 });
  assert.equal(error.exitCode, EXIT.inconclusive);
  assert.match(error.message, /less memory is left on this host than --memory allows; stopped before a\.jsonl/);
});

test('the time limit, the end of the child and kill end it', async () => {
  const late = await refusal({ script: STUCK, limitMs: 1 });
  assert.equal(late.exitCode, EXIT.inconclusive);
  assert.match(late.message, /^stopped at a\.jsonl: the time limit of 0\.001 s has passed$/);
  const recording = recordAll(options({ script: STUCK }));
  recording.kill();
  await assert.rejects(recording.done, /the process that records ended by itself at a\.jsonl \(SIGKILL\)/);
});

test('a recording that cannot be written ends it', async () => {
  const child = fileURLToPath(new URL('./recorded-child.js', import.meta.url));
  const recorded = (): never => {
    throw new UserError(EXIT.inconclusive, 'no space', null);
  };
  assert.equal((await refusal({ script: child, recorded })).message, 'no space');
});

test('whatever ends the command ends the process that records', async () => {
  const libc = pathToFileURL(fileURLToPath(new URL('../../src/kernel/libc.js', import.meta.url))).href;
  const child =
    `const { koffiLibc } = await import('${libc}');` +
    `koffiLibc().dieWithParent(); process.send(process.pid); setInterval(() => {}, 1e6);`;
  const parent =
    `const { spawn } = await import('node:child_process');` +
    `const c = spawn(process.execPath, ['--input-type=module', '-e', ${JSON.stringify(child)}], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });` +
    `c.on('message', (pid) => console.log(pid));`;
  const command = spawn(process.execPath, ['--input-type=module', '-e', parent], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [chunk] = (await once(command.stdout, 'data')) as [Buffer];
  const pid = Number(chunk.toString());
  assert.ok(existsSync(`/proc/${pid}`));
  command.kill('SIGKILL');
  // The child holds the other end of the pipe: the end of file is its end.
  await once(command.stdout, 'close');
  assert.ok(pid > 1);
});
