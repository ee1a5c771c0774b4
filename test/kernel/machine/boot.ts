/** Boots an emulated machine, and brings back what it says and what it leaves behind. Its clock is not trusted. */
import { spawn } from 'node:child_process';
import { createWriteStream, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const QEMU = 'qemu-system-x86_64';

/** Long for a busy machine; a quiet one needs a minute. */
const LIMIT_MS = 900_000;
const SHOWN_LINES = 40;

/** Where the devices that may be given to vfio-pci stand. */
export const DEVICES = ['0000:00:03.0', '0000:00:04.0'];

const KERNEL_ARGUMENTS = [
  'console=ttyS0',
  'intel_iommu=on',
  'iommu=nopt',
  // If the first process ends, so does QEMU.
  'panic=-1',
  'quiet',
  'loglevel=3',
  'mitigations=off',
  'tsc=reliable',
  // On a busy host the check of the timer fails now and then.
  'no_timer_check',
  'pinstorm.own_machine=1',
  'rdinit=/init',
];

export interface Booted {
  /** Lines of the console. */
  readonly console: readonly string[];
  /** What was written to the second serial port: an archive of tar. */
  readonly archive: Buffer;
  /** Processor seconds of the emulation. */
  readonly cpuSeconds: number;
}

/**
 * @param folder for the image and what comes back.
 * @throws Error with the last lines of the console when the machine does not end by saying `done`.
 */
export async function boot(vmlinuz: string, image: Buffer, folder: string): Promise<Booted> {
  const initrd = join(folder, 'initrd');
  const archive = join(folder, 'out.tar');
  const log = join(folder, 'console');
  writeFileSync(initrd, image);
  // One CPU: with more, one runs code now and then that the kernel on another is patching, and the emulation does not
  // order that as hardware does.
  const args = [
    '-machine q35 -accel tcg -cpu max -m 768M -smp 1 -display none -no-reboot -nodefaults -nic none -serial stdio',
    '-device intel-iommu,intremap=on,aw-bits=48',
    ...DEVICES.map((address) => `-device edu,addr=${address.slice(-4)}`),
  ].flatMap((words) => words.split(' '));
  args.push('-serial', `file:${archive}`, '-kernel', vmlinuz, '-initrd', initrd, '-append', KERNEL_ARGUMENTS.join(' '));
  const before = childSeconds();
  const qemu = spawn(QEMU, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = createWriteStream(log);
  qemu.stdout.pipe(output, { end: false });
  qemu.stderr.pipe(output, { end: false });
  const timer = setTimeout(() => qemu.kill('SIGKILL'), LIMIT_MS);
  const how = await new Promise<string>((resolve, reject) => {
    qemu.once('error', reject);
    qemu.once('close', (code, signal) => resolve(signal ?? `exit status ${code}`));
  });
  clearTimeout(timer);
  await new Promise<void>((resolve) => output.end(() => resolve()));
  const lines = readFileSync(log, 'latin1').replaceAll('\r', '').split('\n');
  if (!lines.includes('done'))
    throw new Error(`the machine did not get to its end (${how}):\n${lines.slice(-SHOWN_LINES).join('\n')}`);
  return { console: lines, archive: readFileSync(archive), cpuSeconds: childSeconds() - before };
}

/** Processor time of the children that have been waited for. */
function childSeconds(): number {
  const fields = readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ') ?? [];
  // cutime and cstime are fields 16 and 17 of the whole line, in ticks of 10 ms.
  return (Number(fields[13]) + Number(fields[14])) / 100;
}
