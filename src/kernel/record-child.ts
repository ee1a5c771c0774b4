/**
 * The process that records: it alone makes system calls, and whatever ends it gives all memory back. Started by
 * recordAll with one job, it answers with messages and ends.
 */
import { writeFileSync } from 'node:fs';
import { EAGAIN, ENOENT } from '../base/errno.ts';
import { EXIT, UserError } from '../base/errors.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { ENTRY_LIMIT, memoryLeftBytes } from './host.ts';
import { koffiLibc, type Libc, O_CREAT, O_NOFOLLOW, O_RDONLY } from './libc.ts';
import type { Job, Message } from './record-job.ts';
import { record } from './recorder.ts';

/** One for the host: the memory that each may take is reckoned for one at a time. */
const LOCK = '/tmp/pinstorm-kernel.lock';

// Nobody listens afterwards, so that the process ends by itself.
process.once('message', (job: Job) => void answer(job));

async function answer(job: Job): Promise<void> {
  try {
    await recordJob(job);
    await tell({ kind: 'done' });
  } catch (error) {
    const { message, stack } = error as Error;
    await tell(
      error instanceof UserError
        ? { kind: 'refused', exitCode: error.exitCode, message, hint: error.hint }
        : { kind: 'failed', message: process.env['PINSTORM_DEBUG'] ? `${stack}` : message },
    );
  }
}

/** Resolves when it has been sent: what was recorded is safe, whatever comes next. */
const tell = (message: Message): Promise<void> =>
  new Promise((resolve) => process.send?.(message, undefined, undefined, () => resolve()));

async function recordJob(job: Job): Promise<void> {
  const libc = koffiLibc();
  libc.dieWithParent();
  // It may have ended before it could be told.
  if (process.ppid !== job.parent) return;
  // The first to go when memory runs out.
  writeFileSync('/proc/self/oom_score_adj', '1000');
  if (libc.pageBytes() !== PAGE_BYTES)
    throw new UserError(
      EXIT.invalid,
      `pages of this host have ${libc.pageBytes()} bytes, and recordings are of pages of ${PAGE_BYTES}`,
      'boot a kernel with pages of 4 KiB',
    );
  takeLock(libc);
  const setEntryLimit = job.ownMachine ? (limit: number): void => writeFileSync(ENTRY_LIMIT, `${limit}\n`) : null;
  for (const [index, sequence] of job.sequences.entries()) {
    await tell({ kind: 'begins', index });
    if (memoryLeftBytes() < job.memoryBytes)
      throw new UserError(
        EXIT.inconclusive,
        `less memory is left on this host than --memory allows; stopped before ${sequence.file}`,
        'free memory, or say less with --memory',
      );
    await tell({ kind: 'recorded', index, text: record(sequence, { ...job, setEntryLimit }, libc) });
  }
}

/** Held until this process ends. @throws UserError when another one has it */
function takeLock(libc: Libc): void {
  let fd = libc.open(LOCK, O_RDONLY | O_NOFOLLOW);
  if (fd === -ENOENT) fd = libc.open(LOCK, O_RDONLY | O_NOFOLLOW | O_CREAT);
  if (fd < 0) throw new UserError(EXIT.invalid, `${LOCK} cannot be opened`, 'remove it, if no pinstorm is recording');
  if (libc.lockFile(fd) === -EAGAIN)
    throw new UserError(EXIT.invalid, 'another pinstorm is recording on this host', 'wait until it is done');
}
