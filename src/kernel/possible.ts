/** Which sequences can be done from here: each step is looked at before anything is opened. */
import { EXIT, UserError } from '../base/errors.ts';
import { PAGE_BYTES, RLIM_INFINITY, U64_MAX } from '../base/units.ts';
import { roundedBytes } from '../base/units-text.ts';
import { type Action, addressInBuffer, BUFFER, type Piece, type Sequence } from '../transcript/transcript.ts';
import type { Claim } from './safety.ts';

const PAGE = BigInt(PAGE_BYTES);
const HUGE = 2n * 1024n ** 2n;
/** A MAP can be interrupted by SIGKILL alone, so none may take long. */
const MAX_BUFFER_BYTES = 1024n ** 3n;
/** Addresses of user space end here (x86-64 with four levels of page tables, less the last page). */
const TASK_SIZE = (1n << 47n) - PAGE;

/** Addresses that belong to a sequence: its buffer, as much again behind it, and a huge page before it. */
export function windowOf(buffer: Piece): { readonly start: bigint; readonly bytes: bigint } {
  const whole = ((buffer.bytes + HUGE - 1n) / HUGE) * HUGE;
  return { start: BUFFER - HUGE, bytes: HUGE + 2n * whole };
}

/** @throws UserError 104 with file and line for the first thing that cannot be done. */
export function checkPossible(sequence: Sequence, claim: Claim): void {
  const refuse = (line: number, message: string, hint: string): never => {
    throw new UserError(EXIT.invalid, `${sequence.file}:${line}: ${message}`, hint);
  };
  checkStart(sequence, claim, (message, hint) => refuse(1, message, hint));
  for (const { line, action } of sequence.steps)
    checkAction(action, sequence, claim, (message, hint) => refuse(line, `${action.op}: ${message}`, hint));
}

type Refuse = (message: string, hint: string) => never;

const MODEL = 'leave the file out; pinstorm conform replays such recordings in the model';

function checkStart({ start, steps }: Sequence, claim: Claim, refuse: Refuse): void {
  const { host, groups, bufferBytes } = claim;
  if (start.containers > groups.length)
    refuse(`it needs ${start.containers} groups, and ${groups.length} is named`, 'name one more with --group');
  if (start.capIpcLock && !host.capIpcLock)
    refuse('it starts with CAP_IPC_LOCK, which this process lacks', 'leave the file out, or run it as root');
  if (start.dmaEntryLimit !== host.dmaEntryLimit && !host.ownMachine)
    refuse(
      `it needs dma_entry_limit=${start.dmaEntryLimit}, and this host has ${host.dmaEntryLimit}`,
      'leave the file out: pinstorm sets no parameter of a host',
    );
  checkLimit(start.memlockBytes, claim, refuse);
  if (start.buffer.bytes > MAX_BUFFER_BYTES)
    refuse(`a buffer of ${roundedBytes(Number(start.buffer.bytes))}`, 'buffers of up to 1GiB can be mapped here');
  const pieces = [
    start.buffer,
    ...start.parts,
    ...steps.flatMap(({ action: a }) => (a.op === 'mmap' ? [a.piece] : [])),
  ];
  const bytes = (backing: Piece['backing']): bigint =>
    pieces.filter((p) => p.backing === backing).reduce((sum, p) => sum + p.bytes, 0n);
  // Pages of the memfd stay when nothing maps them any more.
  const most = start.buffer.bytes + (bytes('memfd') > 0n ? start.buffer.bytes : 0n);
  if (most > BigInt(bufferBytes))
    refuse(
      `it may take ${roundedBytes(Number(most))} of memory, and --memory leaves ${roundedBytes(bufferBytes)} for buffers`,
      'say more with --memory, or leave the file out',
    );
  if (pieces.some((p) => p.backing === 'thp') && !host.thp)
    refuse('it needs transparent huge pages, which are off here', 'leave the file out');
  const hugePages = Number((bytes('hugetlb2m') + HUGE - 1n) / HUGE);
  if (hugePages > host.freeHugePages && !host.ownMachine)
    refuse(
      `it needs ${hugePages} huge pages, and ${host.freeHugePages} are free`,
      'leave the file out, or reserve them: as root, echo N > /proc/sys/vm/nr_hugepages',
    );
  for (const piece of start.parts) checkRange('mmap', piece, start.buffer, refuse);
}

/** The limit may only be lowered: a sequence must do with what the user gave this process. */
function checkLimit(bytes: bigint, { host }: Claim, refuse: Refuse): void {
  if (host.memlockBytes === null || bytes <= host.memlockBytes) return;
  const asked = bytes === RLIM_INFINITY ? 'no locked-memory limit' : `a locked-memory limit of ${bytes} bytes`;
  refuse(
    `${asked} is above the ${host.memlockBytes} bytes of this process`,
    'pinstorm only lowers it; give the shell more: as root, prlimit --pid $$ --memlock=unlimited',
  );
}

function checkAction(action: Action, sequence: Sequence, claim: Claim, refuse: Refuse): void {
  const { buffer } = sequence.start;
  switch (action.op) {
    case 'spawn':
    case 'spawn_vm':
      return refuse('no process can be forked from here: JavaScript does not run in a forked child', MODEL);
    case 'exec':
      return refuse('it would replace the process that records', MODEL);
    case 'spawn_thread':
    case 'exit':
    case 'kill':
      return refuse('a recording is made by one thread', MODEL);
    case 'set_dma_entry_limit':
      if (!claim.host.ownMachine) refuse('it is a parameter of the whole host', 'leave the file out');
      return;
    case 'open':
      if (action.container >= claim.groups.length)
        refuse(`container ${action.container} needs a group of its own`, 'name one more with --group');
      return;
    case 'setrlimit':
      return checkLimit(action.memlockBytes, claim, refuse);
    case 'map':
      if (!isOurs(action.vaddr ?? addressInBuffer(action.offset ?? 0n), 0n, buffer))
        refuse('its address may be memory of pinstorm itself', 'say an offset in the buffer');
      return;
    case 'mmap':
      return checkRange('mmap', action.piece, buffer, refuse);
    case 'mlock':
    case 'munlock':
    case 'munmap':
    case 'mprotect':
    case 'madvise':
      return checkRange(action.op, action, buffer, refuse);
    default:
  }
}

/** A call must not reach what node itself has mapped; what the kernel refuses by its arguments may stand. */
function checkRange(
  call: 'mmap' | 'mlock' | 'munlock' | 'munmap' | 'mprotect' | 'madvise',
  { offset, bytes }: { readonly offset: bigint; readonly bytes: bigint },
  buffer: Piece,
  refuse: Refuse,
): void {
  const start = addressInBuffer(offset);
  const end = start + bytes;
  // mmap and munmap look at the length first. The others follow the areas from their start, unless the end wraps.
  const refused = (call === 'mmap' || call === 'munmap') && bytes > TASK_SIZE;
  if (isOurs(start, 0n, buffer) && (refused || end + PAGE - 1n > U64_MAX || isOurs(start, bytes, buffer))) return;
  refuse(
    `offset ${offset} with ${bytes} bytes may reach memory of pinstorm itself`,
    `stay within twice the ${buffer.bytes} bytes of the buffer`,
  );
}

/** Within the window, or beyond all addresses of user space. */
function isOurs(start: bigint, bytes: bigint, buffer: Piece): boolean {
  const window = windowOf(buffer);
  return start >= TASK_SIZE || (start >= window.start && start + bytes <= window.start + window.bytes);
}
