// slow: boots emulated machines
// wants: qemu-system-x86_64
/**
 * The real kernel, in an emulated machine: Debian's cloud kernels with an emulated IOMMU and two devices. What
 * docs/own-kernel.md says is done to the letter; what the kernel answers is held against the model and against the
 * recordings that come with pinstorm. No time is asserted: the clock of such a machine runs as it likes.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { checkPossible } from '../../src/kernel/possible.ts';
import { conform, describeDifference } from '../../src/study/conform/conform.ts';
import { transcriptFiles } from '../../src/transcript/files.ts';
import { parseSequence, parseTranscript } from '../../src/transcript/transcript.ts';
import { soaked } from '../soak.ts';
import { claimed, OWN_MACHINE } from './claimed.ts';
import { boot, QEMU } from './machine/boot.ts';
import { Archive, machineImage, type Unpacked } from './machine/image.ts';
import { busyboxFile, kernelOf, KERNELS, NotHereError } from './machine/kernels.ts';

test('an archive is what cpio reads: names, modes, sizes, all padded to four bytes', () => {
  const archive = new Archive();
  archive.file('a/b', 'five!');
  archive.device('dev/console', 5, 1);
  const bytes = archive.bytes();
  assert.equal(bytes.length % 4, 0);
  const entries: [name: string, mode: string, data: string][] = [];
  for (let at = 0; at < bytes.length;) {
    const field = (n: number): number => Number.parseInt(bytes.toString('latin1', at + 6 + 8 * n, at + 14 + 8 * n), 16);
    assert.equal(bytes.toString('latin1', at, at + 6), '070701');
    const name = bytes.toString('latin1', at + 110, at + 110 + field(11) - 1);
    const data = (at + 110 + field(11) + 3) & ~3;
    entries.push([name, field(1).toString(8), bytes.toString('latin1', data, data + field(6))]);
    at = (data + field(6) + 3) & ~3;
  }
  assert.deepEqual(entries, [
    ['a', '40755', ''],
    ['a/b', '100755', 'five!'],
    ['dev', '40755', ''],
    ['dev/console', '20600', ''],
    ['TRAILER!!!', '0', ''],
  ]);
});

/** Why no machine can be booted here; null when one can. */
function missing(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the machine takes the node of Linux on x64';
  if (spawnSync(QEMU, ['--version']).status !== 0)
    return `no ${QEMU} on the PATH: sudo apt-get install -y qemu-system-x86`;
  if (spawnSync('apt-get', ['--version']).status !== 0) return 'no apt-get, which fetches the kernels';
  return null;
}

/** Blocks of the page, by their number. */
function pageBlocks(): Record<string, string> {
  const blocks = [...readFileSync('docs/own-kernel.md', 'utf8').matchAll(/^```sh (root|user)\n(.*?)^```$/gms)];
  assert.deepEqual(
    blocks.map((match) => match[1]),
    ['root', 'root', 'user', 'root'],
  );
  return Object.fromEntries(blocks.map((match, i) => [`page/${i + 1}`, match[2] as string]));
}

/** Recordings of a series that one thread can make, by their name. */
function recordedOf(series: string): Record<string, string> {
  const files = transcriptFiles([`recordings/${series}`]).map(({ path, name }) => [name, readFileSync(path, 'utf8')]);
  return Object.fromEntries(
    files.filter(([name = '', text = '']) => {
      try {
        checkPossible(parseSequence(text, name), claimed(OWN_MACHINE));
        return true;
      } catch (error) {
        if (error instanceof UserError) return false;
        throw error;
      }
    }),
  ) as Record<string, string>;
}

const withoutHeader = (text: string): string => text.slice(text.indexOf('\n'));

for (const { series, meta } of soaked([], KERNELS)) {
  test(`Linux ${series} answers as the model and its recordings say, and the page holds`, async (t) => {
    const parts = partsOf(meta);
    if (typeof parts === 'string') {
      assert.equal(process.env['PINSTORM_NEED_MACHINE'], undefined, parts);
      return t.skip(parts);
    }
    const folder = mkdtempSync(join(tmpdir(), 'pinstorm-machine-'));
    try {
      await tryKernel(t, series, parts, folder);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

interface Parts {
  readonly kernel: Unpacked;
  readonly busybox: string;
}

/** What a machine is made of, or why none can be made here. */
function partsOf(meta: string): Parts | string {
  const why = missing();
  if (why !== null) return why;
  try {
    return { kernel: kernelOf(meta), busybox: busyboxFile() };
  } catch (error) {
    if (error instanceof NotHereError) return error.message;
    throw error;
  }
}

async function tryKernel(t: TestContext, series: string, { kernel, busybox }: Parts, folder: string): Promise<void> {
  const recorded = recordedOf(series);
  const { image, release } = machineImage(kernel, busybox, {
    init: readFileSync('test/kernel/machine/init', 'utf8'),
    work: readFileSync('test/kernel/machine/work', 'utf8'),
    'bin/pinstorm': '#!/bin/sh\nexec node /pinstorm/dist/src/cli/main.js "$@"\n',
    'etc/passwd': 'root:x:0:0::/tmp:/bin/sh\nme:x:1000:1000::/tmp:/bin/sh\n',
    'etc/group': 'root:x:0:\nme:x:1000:\n',
    ...pageBlocks(),
    ...Object.fromEntries(Object.entries(recorded).map(([name, text]) => [`recorded/${name}`, text])),
  });
  const booted = await boot(kernel.vmlinuz, image, folder);
  writeFileSync(join(folder, 'all.tar'), booted.archive);
  execFileSync('tar', ['-xf', join(folder, 'all.tar'), '-C', folder]);
  const said = (name: string): string => readFileSync(join(folder, `${name}.txt`), 'utf8');

  // Refusals, each one message, and nothing left open.
  const refusal = (name: string, message: RegExp): void => {
    assert.match(said(name), message);
    assert.match(said(name), /\nexit status 104\n$/);
    assert.equal(said(name).match(/error:/g)?.length, 1, said(name));
  };
  refusal('unbound', /group \d+: no device of it is bound to vfio-pci\nhint: as root: modprobe vfio-pci && echo/);
  refusal('root', /the locked-memory limit does not hold for root\nhint: .*--as-root/);
  refusal('in-use', /group \d+ is in use: another process has it open/);
  refusal('denied', /no permission to open \/dev\/vfio\/\d+\nhint: as root: chown USER \/dev\/vfio\/\d+/);

  // Killed outright while it has mappings; its group can be opened as soon as the process that mapped has gone.
  assert.match(said('released'), /with 5 operations/);
  assert.match(said('released'), /\nexit status 0\n$/);

  // The page, followed by an ordinary user; the devices are given back in the end.
  assert.match(said('devices'), /iommu_groups\/\d+\/devices\/0000:00:03\.0/);
  assert.match(said('user'), /^recorded \d+ sequences? with 60 operations on \S+ in mine\n/);
  assert.match(said('user'), / passed, 0 failed\nexit status 0\n$/);
  assert.match(said('after'), /^\d+\nvfio\n$/);

  // What the kernel answered, operation by operation.
  assert.match(said('random'), /with 100 operations/);
  let operations = 0;
  for (const { path } of transcriptFiles([join(folder, 'random'), join(folder, 'user')])) {
    const transcript = parseTranscript(readFileSync(path, 'utf8'), path);
    assert.equal(transcript.header.kernel, release);
    const difference = conform(transcript, null);
    assert.equal(difference === null ? '' : describeDifference(path, difference), '');
    operations += transcript.operations.length;
  }
  assert.equal(operations, 160);
  assert.match(said('again'), /\nexit status 0\n$/);
  for (const [name, text] of Object.entries(recorded))
    assert.equal(withoutHeader(readFileSync(join(folder, 'again', name), 'utf8')), withoutHeader(text), name);
  t.diagnostic(
    `${release}: ${operations} random operations conform, ${Object.keys(recorded).length} recordings made again are ` +
      `equal, ${booted.cpuSeconds.toFixed(0)} s of processor time`,
  );
}
