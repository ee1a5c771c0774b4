/**
 * Replays a transcript through the model with the direct driver and compares, after each operation, what the kernel
 * answered: errno, unmapped size, VmLck of every live process, free mapping slots.
 *
 * Rules of the recording tool rather than of the kernel: every process has its buffer at 2^40; populating it ignores
 * errors; `open` in a process that still has container or group answers EALREADY; `exec` builds the buffer again.
 */
import { EALREADY, EBADF, EBUSY, EINVAL, ENOMEM, errnoName } from '../../base/errno.ts';
import { EXIT, UserError } from '../../base/errors.ts';
import { PAGE_BYTES } from '../../base/units.ts';
import { Direct } from '../../engine/direct.ts';
import { BUFFER_PAGE } from '../../engine/machine.ts';
import { Backing, PROT_NONE, PROT_READ, PROT_RW, PROT_WRITE, type Segment } from '../../model/address-space/memory.ts';
import { Arena, type Capacity, type Ref } from '../../model/arena.ts';
import type { Ctx, Variant } from '../../model/env.ts';
import {
  MAP_ARGSZ,
  MAP_FLAG_READ,
  MAP_FLAG_VADDR,
  MAP_FLAG_WRITE,
  UNMAP_ARGSZ,
  UNMAP_FLAG_ALL,
  UNMAP_FLAG_VADDR,
} from '../../model/ioctl-args.ts';
import { CONTAINER, FILES, GROUP, PROCESS, TASK } from '../../model/layout.ts';
import { lockedVm } from '../../model/locked-vm.ts';
import { mmNew, setMemlockBytes, taskMm } from '../../model/mm.ts';
import { doExit } from '../../model/paths/exit.ts';
import {
  closeContainer,
  closeGroup,
  containerOf,
  filesNew,
  filesOf,
  groupOf,
  openContainer,
} from '../../model/paths/files.ts';
import { madviseDontneed, madvisePopulate } from '../../model/paths/madvise.ts';
import { vfioDmaDoMap } from '../../model/paths/map.ts';
import { sysMlock, sysMunlock } from '../../model/paths/mlock.ts';
import { sysMmap, sysMprotect, sysMunmap, TASK_PAGES } from '../../model/paths/mmap.ts';
import { cloneThread, exec, fork, processNew } from '../../model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../model/paths/unmap.ts';
import type { Action, Operation, Piece, Transcript } from '../../transcript/transcript.ts';

/** The first operation of a transcript that the model answers differently. */
export interface Difference {
  readonly operation: Operation;
  readonly differences: readonly { readonly field: string; readonly expected: string; readonly got: string }[];
}

const U64 = 0xffff_ffff_ffff_ffffn;
const PAGE = BigInt(PAGE_BYTES);
const BUFFER = BigInt(BUFFER_PAGE) * PAGE;

const PROT_BITS = { none: PROT_NONE, r: PROT_READ, w: PROT_WRITE, rw: PROT_RW } as const;
const BACKINGS = {
  anon4k: [Backing.Anon4k, PROT_RW],
  thp: [Backing.Thp, PROT_RW],
  hugetlb2m: [Backing.Hugetlb2m, PROT_RW],
  memfd: [Backing.Memfd, PROT_RW],
  bar: [Backing.Bar, PROT_RW],
  none: [Backing.Anon, PROT_NONE],
  ro: [Backing.Anon, PROT_READ],
} as const;

interface Process {
  readonly name: string;
  readonly process: Ref;
  /** Live threads; the leader first, unless it has ended. */
  threads: Thread[];
}
interface Thread {
  readonly name: string;
  readonly process: Process;
  readonly task: Ref;
}
interface Answer {
  readonly ret: number;
  readonly sizeBytes?: bigint;
}

const OK: Answer = { ret: 0 };

/** Null when the model agrees with the whole transcript. */
export function replay(transcript: Transcript, variant: Variant): Difference | null {
  const machine = new Machine(transcript, variant);
  for (const operation of transcript.operations) {
    const answer = machine.perform(operation);
    const differences = machine.compare(operation, answer);
    if (differences.length > 0) return { operation, differences };
  }
  const left = machine.end();
  if (left !== '')
    throw new Error(`${transcript.file}: the model leaks: when every process has ended there remain ${left}`);
  return null;
}

function capacityOf(t: Transcript): Capacity {
  const ops = t.operations.length + 8;
  const pages = Number(t.header.buffer.bytes / PAGE);
  return {
    mm: 2 * ops,
    task: 2 * ops,
    process: 2 * ops,
    files: 2 * ops,
    user: 2 * ops,
    container: 2 * ops,
    group: 2 * ops,
    dma: ops,
    // At worst a record per page of each mapping, and a segment per page of each address space.
    chunk: Math.min(1_000_000, ops * (Math.min(pages, 4096) + 2)),
    pages: ops,
    vpfn: 1,
    seg: Math.min(1_000_000, ops * (Math.min(pages, 4096) + 64)),
    vwork: 1,
    actor: 2 * ops,
  };
}

class Machine {
  readonly #direct: Direct;
  readonly #arena: Arena;
  readonly #transcript: Transcript;
  /** Live processes in the order of their making. */
  readonly #processes: Process[] = [];
  readonly #threads = new Map<string, Thread>();
  #dmaEntryLimit: number;

  constructor(transcript: Transcript, variant: Variant) {
    const { header } = transcript;
    this.#transcript = transcript;
    this.#arena = Arena.create(capacityOf(transcript), false);
    this.#direct = new Direct(this.#arena, variant, { aperture: { ranges: header.iovaRanges } });
    this.#dmaEntryLimit = header.dmaEntryLimit;
    const a = this.#arena;
    const files = filesNew(a);
    for (let index = 0; index < header.containers; index++) this.#openAs(files, index, header.iommu);
    const task = processNew(a, {
      mm: mmNew(a, 0),
      files,
      memlockBytes: header.memlockBytes,
      capIpcLock: header.capIpcLock,
    });
    this.#addProcess('main', task);
    this.#buildBuffer(this.#direct.as(task));
  }

  perform(operation: Operation): Answer {
    // A signal reaches the process by its name, even if that thread has ended.
    const named = operation.action.op === 'kill' ? this.#processes.find((p) => p.name === operation.actor) : undefined;
    const thread = this.#threads.get(operation.actor) ?? named?.threads[0];
    if (thread === undefined) {
      const place = `${this.#transcript.file}:${operation.line}`;
      throw new UserError(EXIT.invalid, `${place}: actor: ${operation.actor} has ended`, 'record it again');
    }
    return this.#do(thread, this.#direct.as(thread.task), operation.action);
  }

  /** Ends every process. What is still allocated then, as text: nothing should be. */
  end(): string {
    for (let process = this.#processes[0]; process !== undefined; process = this.#processes[0]) {
      for (const thread of process.threads) this.#endThread(thread);
    }
    const kinds = ['mm', 'task', 'process', 'files', 'container', 'group', 'dma', 'chunk', 'seg', 'actor'] as const;
    return kinds
      .map((kind) => [kind, this.#arena.live(kind)] as const)
      .filter(([, live]) => live > 0)
      .map(([kind, live]) => `${live} ${kind}`)
      .join(', ');
  }

  compare(operation: Operation, answer: Answer): { field: string; expected: string; got: string }[] {
    const { result, actor, action } = operation;
    const a = this.#arena;
    const differences: { field: string; expected: string; got: string }[] = [];
    const check = (field: string, expected: string, got: string): void => {
      if (expected !== got) differences.push({ field, expected, got });
    };
    check('errno', result.errno, errnoName(answer.ret));
    if (action.op === 'unmap') check('size', showSize(result.size), showSize(answer.sizeBytes));
    const vmlck = new Map(
      this.#processes.map((p) => {
        const mm = taskMm(a, (p.threads[0] as Thread).task);
        return [p.name, (lockedVm(a, mm) << 2n) & U64] as const;
      }),
    );
    check('vmlck_kb', showVmlck(result.vmlckKb), showVmlck(vmlck));
    check('avail', String(result.avail), String(this.#avail(actor, 0)));
    if (result.avail2 !== undefined) check('avail2', String(result.avail2), String(this.#avail(actor, 1)));
    return differences;
  }

  #addProcess(name: string, leader: Ref): void {
    const process: Process = {
      name,
      process: this.#arena.get(leader, TASK.process),
      threads: [],
    };
    this.#processes.push(process);
    this.#addThread(name, process, leader);
  }

  #addThread(name: string, process: Process, task: Ref): void {
    const thread = { name, process, task };
    process.threads.push(thread);
    this.#threads.set(name, thread);
  }

  #endThread(thread: Thread): void {
    const { process } = thread;
    const k = this.#direct.as(thread.task);
    this.#direct.run(doExit(k));
    this.#arena.free('actor', k.actor);
    this.#threads.delete(thread.name);
    process.threads = process.threads.filter((t) => t !== thread);
    if (process.threads.length === 0) this.#processes.splice(this.#processes.indexOf(process), 1);
  }

  #do(thread: Thread, k: Ctx, action: Action): Answer {
    const a = this.#arena;
    const d = this.#direct;
    switch (action.op) {
      case 'map': {
        const container = containerOf(k, action.container);
        if (container < 0) return { ret: container };
        const { prot } = action;
        let flags = flagBits(action.flags, { VADDR: MAP_FLAG_VADDR });
        if (prot.includes('r')) flags |= MAP_FLAG_READ;
        if (prot.includes('w')) flags |= MAP_FLAG_WRITE;
        const ret = d.run(
          vfioDmaDoMap(k, container, {
            argsz: action.argsz ?? MAP_ARGSZ,
            flags: prot === 'none' ? flags & ~(MAP_FLAG_READ | MAP_FLAG_WRITE) : flags,
            vaddr: action.vaddr ?? (BUFFER + (action.offset ?? 0n)) & U64,
            iova: action.iova,
            size: action.bytes,
          }),
        );
        return { ret };
      }
      case 'unmap': {
        const container = containerOf(k, action.container);
        if (container < 0) return { ret: container };
        const args = {
          argsz: action.argsz ?? UNMAP_ARGSZ,
          flags: flagBits(action.flags, { ALL: UNMAP_FLAG_ALL, VADDR: UNMAP_FLAG_VADDR }),
          iova: action.iova,
          size: action.bytes,
          unmapped: 0n,
        };
        const ret = d.run(vfioDmaDoUnmap(k, container, args));
        return ret === 0 ? { ret, sizeBytes: args.unmapped } : { ret };
      }
      case 'setrlimit':
        setMemlockBytes(a, thread.task, action.memlockBytes);
        return OK;
      case 'mlock':
        return { ret: d.run(sysMlock(k, (BUFFER + action.offset) & U64, action.bytes, action.onFault)) };
      case 'munlock':
        return { ret: d.run(sysMunlock(k, (BUFFER + action.offset) & U64, action.bytes)) };
      case 'spawn':
      case 'spawn_vm':
        this.#addProcess(action.child, d.run(fork(k, action.op === 'spawn_vm')));
        return OK;
      case 'spawn_thread':
        this.#addThread(action.child, thread.process, cloneThread(a, thread.task));
        return OK;
      case 'exit': {
        const alone = action.scope === 'thread' || thread.name !== thread.process.name;
        for (const t of alone ? [thread] : thread.process.threads) this.#endThread(t);
        return OK;
      }
      case 'kill':
        for (const t of thread.process.threads) this.#endThread(t);
        return OK;
      case 'exec': {
        const { process } = thread;
        for (const t of process.threads) if (t !== thread) this.#endThread(t);
        d.run(exec(k));
        this.#threads.delete(thread.name);
        process.threads = [];
        this.#addThread(process.name, process, thread.task);
        this.#buildBuffer(k);
        return OK;
      }
      case 'drop_cap':
        a.set(thread.task, TASK.capIpcLock, 0);
        return OK;
      case 'close': {
        const files = filesOf(a, thread.task);
        if (action.which !== 'group') d.run(closeContainer(k, files, action.container));
        if (action.which !== 'container') d.run(closeGroup(k, files, action.container));
        return OK;
      }
      case 'open':
        return { ret: this.#open(thread, action.container, action.iommu ?? this.#transcript.header.iommu) };
      case 'mmap':
        return { ret: this.#mmap(k, action.piece) };
      case 'munmap': {
        const range = pageRange('munmap', action.offset, action.bytes);
        return { ret: typeof range === 'number' ? range : d.run(sysMunmap(k, range.page, range.pages)) };
      }
      case 'mprotect': {
        const range = pageRange('mprotect', action.offset, action.bytes);
        if (typeof range === 'number') return { ret: range };
        return { ret: d.run(sysMprotect(k, range.page, range.pages, PROT_BITS[action.prot])) };
      }
      case 'madvise': {
        const range = pageRange('madvise', action.offset, action.bytes);
        if (typeof range === 'number') return { ret: range };
        const { page, pages } = range;
        return {
          ret: d.run(
            action.advice === 'dontneed'
              ? madviseDontneed(k, page, pages)
              : madvisePopulate(k, page, pages, action.advice === 'populate_write'),
          ),
        };
      }
      default:
        this.#dmaEntryLimit = action.value;
        return OK;
    }
  }

  #buildBuffer(k: Ctx): void {
    const { buffer, parts } = this.#transcript.header;
    for (const piece of [buffer, ...parts]) this.#mmap(k, piece);
  }

  #mmap(k: Ctx, piece: Piece): number {
    const range = pageRange(piece.backing === 'hole' ? 'munmap' : 'mmap', piece.offset, piece.bytes);
    // The length of a hugetlb mapping is rounded up to a huge page before it is looked at.
    if (range === -ENOMEM && piece.backing === 'hugetlb2m' && piece.bytes > U64 - PAGE + 1n) return -EINVAL;
    if (typeof range === 'number') return range;
    const { page, pages } = range;
    const d = this.#direct;
    if (piece.backing === 'hole') return d.run(sysMunmap(k, page, pages));
    const [backing, prot] = BACKINGS[piece.backing];
    // The device of container 0.
    const file = piece.backing === 'bar' ? groupOf(k, 0) : 0;
    if (piece.backing === 'bar' && file <= 0) return -EBADF;
    const source = piece.source ?? (piece.backing === 'memfd' ? piece.offset : 0n);
    const ret = d.run(
      sysMmap(k, page, pages, {
        backing,
        prot: piece.prot === undefined ? prot : PROT_BITS[piece.prot],
        sourcePage: Number(source / PAGE),
        file,
        filePages: Number((this.#transcript.header.buffer.bytes + PAGE - 1n) / PAGE),
      }),
    );
    if (ret === 0 && piece.touch !== 'none') d.run(madvisePopulate(k, page, pages, piece.touch === 'write'));
    return ret;
  }

  #openAs(files: Ref, index: number, iommu: 'type1' | 'type1v2'): void {
    openContainer(this.#arena, files, { index, v2: iommu === 'type1v2', dmaEntryLimit: this.#dmaEntryLimit });
  }

  #open(thread: Thread, index: number, iommu: 'type1' | 'type1v2'): number {
    const a = this.#arena;
    const files = filesOf(a, thread.task);
    const group = (of: Ref): number => a.get(of, FILES.group0 + index);
    if (a.get(files, FILES.container0 + index) !== 0 || group(files) !== 0) return -EALREADY;
    // A group is opened once; descriptors inherited from that opening keep it busy.
    if (this.#processes.some((p) => group(a.get(p.process, PROCESS.files)) !== 0)) return -EBUSY;
    // So do mappings of its device.
    const keepsBusy = ({ file }: Segment): boolean =>
      file !== 0 && a.get(a.get(file, GROUP.container), CONTAINER.index) === index;
    for (const { threads } of this.#processes) {
      const task = threads[0]?.task ?? 0;
      if (this.#direct.as(task).addressSpace.segments(taskMm(a, task)).some(keepsBusy)) return -EBUSY;
    }
    this.#openAs(files, index, iommu);
    return 0;
  }

  /** Asked by the acting process, or else by the first that can. */
  #avail(actor: string, index: number): number | null {
    const a = this.#arena;
    const acting = this.#threads.get(actor)?.process;
    for (const p of acting === undefined ? this.#processes : [acting, ...this.#processes]) {
      const container = a.get(a.get(p.process, PROCESS.files), FILES.container0 + index);
      if (container !== 0 && a.get(container, CONTAINER.released) === 0) {
        return a.get(container, CONTAINER.dmaAvail);
      }
    }
    return null;
  }
}

const TASK_SIZE = BigInt(TASK_PAGES) * PAGE;

/**
 * The range of a call that wants an aligned start and rounds the length up, in 64 bits, or what it says of a range that
 * is none. Sources: mm/mmap.c, mm/mprotect.c, mm/madvise.c, 6.1.
 */
function pageRange(
  call: 'mmap' | 'munmap' | 'mprotect' | 'madvise',
  offset: bigint,
  bytes: bigint,
): { page: number; pages: number } | number {
  const start = (BUFFER + offset) & U64;
  const length = (bytes + PAGE - 1n) & U64 & ~(PAGE - 1n);
  const end = (start + length) & U64;
  const range = { page: Number(start / PAGE), pages: Number(length / PAGE) };
  if (call === 'mmap') {
    if (bytes === 0n) return -EINVAL;
    if (length === 0n || length > TASK_SIZE || start > TASK_SIZE - length) return -ENOMEM;
    return start % PAGE === 0n ? range : -EINVAL;
  }
  if (start % PAGE !== 0n) return -EINVAL;
  // munmap looks at the rest itself.
  if (call === 'munmap') return range;
  if (call === 'mprotect') return bytes !== 0n && end <= start ? -ENOMEM : range;
  return (bytes !== 0n && length === 0n) || end < start ? -EINVAL : range;
}

function flagBits(flags: readonly string[], names: Readonly<Record<string, number>>): number {
  let bits = 0;
  for (const flag of flags) bits |= names[flag] ?? 1 << Number(flag.slice('bit'.length));
  return bits;
}

const showSize = (bytes: bigint | undefined): string => (bytes === undefined ? 'none' : `${bytes}`);

function showVmlck(kb: ReadonlyMap<string, bigint>): string {
  return `{${[...kb]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${JSON.stringify(name)}:${value}`)
    .join(',')}}`;
}
