/**
 * Replays a transcript through the model with the direct driver and compares, after each operation, what the kernel
 * answered: errno, unmapped size, VmLck of every live process, free mapping slots.
 *
 * Rules of the recording tool rather than of the kernel: every process has its buffer at 2^40; populating it ignores
 * errors; `open` in a process that still has container or group answers EALREADY; `exec` builds the buffer again.
 */
import { EALREADY, EBUSY, errnoName } from '../../base/errno.ts';
import { EXIT, UserError } from '../../base/errors.ts';
import { PAGE_BYTES, U64_MAX } from '../../base/units.ts';
import { Direct } from '../../engine/direct.ts';
import type { Segment } from '../../model/address-space/memory.ts';
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
import { closeContainer, closeGroup, containerOf, filesNew, filesOf, openContainer } from '../../model/paths/files.ts';
import { vfioDmaDoMap } from '../../model/paths/map.ts';
import { sysMlock, sysMunlock } from '../../model/paths/mlock.ts';
import { cloneThread, fork, processNew } from '../../model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../model/paths/unmap.ts';
import {
  type Action,
  addressInBuffer,
  flagBits,
  type Operation,
  type Transcript,
} from '../../transcript/transcript.ts';
import { Buffer } from './buffer.ts';
import { Processes, type Thread } from './processes.ts';

/** The first operation of a transcript that the model answers differently. */
export interface Difference {
  readonly operation: Operation;
  readonly differences: readonly { readonly field: string; readonly expected: string; readonly got: string }[];
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
  const pages = Number(t.header.buffer.bytes / BigInt(PAGE_BYTES));
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
  readonly #processes: Processes;
  readonly #buffer: Buffer;
  #dmaEntryLimit: number;

  constructor(transcript: Transcript, variant: Variant) {
    const { header } = transcript;
    this.#transcript = transcript;
    this.#arena = Arena.create(capacityOf(transcript), false);
    this.#direct = new Direct(this.#arena, variant, { aperture: { ranges: header.iovaRanges } });
    this.#processes = new Processes(this.#direct);
    this.#buffer = new Buffer(this.#direct, header);
    this.#dmaEntryLimit = header.dmaEntryLimit;
    const a = this.#arena;
    const files = filesNew(a);
    for (let index = 0; index < header.containers; index += 1) this.#openAs(files, index, header.iommu);
    const task = processNew(a, {
      mm: mmNew(a, 0),
      files,
      memlockBytes: header.memlockBytes,
      capIpcLock: header.capIpcLock,
    });
    this.#processes.add('main', task);
    this.#buffer.build(this.#direct.as(task));
  }

  perform(operation: Operation): Answer {
    // A signal reaches the process by its name, even if that thread has ended.
    const named = operation.action.op === 'kill' ? this.#processes.named(operation.actor) : undefined;
    const thread = this.#processes.thread(operation.actor) ?? named?.threads[0];
    if (thread === undefined) {
      const place = `${this.#transcript.file}:${operation.line}`;
      throw new UserError(EXIT.invalid, `${place}: actor: ${operation.actor} has ended`, 'record it again');
    }
    return this.#do(thread, this.#direct.as(thread.task), operation.action);
  }

  /** Ends every process. What is still allocated then, as text: nothing should be. */
  end(): string {
    const { live } = this.#processes;
    for (let process = live[0]; process !== undefined; process = live[0]) this.#processes.end(process);
    const kinds = ['mm', 'task', 'process', 'files', 'container', 'group', 'dma', 'chunk', 'seg', 'actor'] as const;
    return kinds
      .map((kind) => [kind, this.#arena.live(kind)] as const)
      .filter(([, n]) => n > 0)
      .map(([kind, n]) => `${n} ${kind}`)
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
      this.#processes.live.map((p) => {
        const mm = taskMm(a, (p.threads[0] as Thread).task);
        return [p.name, (lockedVm(a, mm) << 2n) & U64_MAX] as const;
      }),
    );
    check('vmlck_kb', showVmlck(result.vmlckKb), showVmlck(vmlck));
    check('avail', String(result.avail), String(this.#avail(actor, 0)));
    if (result.avail2 !== undefined) check('avail2', String(result.avail2), String(this.#avail(actor, 1)));
    return differences;
  }

  #do(thread: Thread, k: Ctx, action: Action): Answer {
    const a = this.#arena;
    const d = this.#direct;
    switch (action.op) {
      case 'map':
        return this.#map(k, action);
      case 'unmap':
        return this.#unmap(k, action);
      case 'setrlimit':
        setMemlockBytes(a, thread.task, action.memlockBytes);
        return OK;
      case 'mlock':
        return { ret: d.run(sysMlock(k, addressInBuffer(action.offset), action.bytes, action.onFault)) };
      case 'munlock':
        return { ret: d.run(sysMunlock(k, addressInBuffer(action.offset), action.bytes)) };
      case 'spawn':
      case 'spawn_vm':
        this.#processes.add(action.child, d.run(fork(k, action.op === 'spawn_vm')));
        return OK;
      case 'spawn_thread':
        this.#processes.addThread(action.child, thread.process, cloneThread(a, thread.task));
        return OK;
      case 'exit':
        if (action.scope === 'thread' || thread.name !== thread.process.name) this.#processes.endThread(thread);
        else this.#processes.end(thread.process);
        return OK;
      case 'kill':
        this.#processes.end(thread.process);
        return OK;
      case 'exec':
        this.#processes.exec(thread, k);
        this.#buffer.build(k);
        return OK;
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
        return { ret: this.#buffer.mmap(k, action.piece) };
      case 'munmap':
      case 'mprotect':
      case 'madvise':
        return { ret: this.#buffer.change(k, action) };
      default:
        this.#dmaEntryLimit = action.value;
        return OK;
    }
  }

  #map(k: Ctx, action: Extract<Action, { op: 'map' }>): Answer {
    const container = containerOf(k, action.container);
    if (container < 0) return { ret: container };
    const { prot } = action;
    let flags = flagBits(action.flags, { VADDR: MAP_FLAG_VADDR });
    if (prot.includes('r')) flags |= MAP_FLAG_READ;
    if (prot.includes('w')) flags |= MAP_FLAG_WRITE;
    const ret = this.#direct.run(
      vfioDmaDoMap(k, container, {
        argsz: action.argsz ?? MAP_ARGSZ,
        flags: prot === 'none' ? flags & ~(MAP_FLAG_READ | MAP_FLAG_WRITE) : flags,
        vaddr: action.vaddr ?? addressInBuffer(action.offset ?? 0n),
        iova: action.iova,
        size: action.bytes,
      }),
    );
    return { ret };
  }

  #unmap(k: Ctx, action: Extract<Action, { op: 'unmap' }>): Answer {
    const container = containerOf(k, action.container);
    if (container < 0) return { ret: container };
    const args = {
      argsz: action.argsz ?? UNMAP_ARGSZ,
      flags: flagBits(action.flags, { ALL: UNMAP_FLAG_ALL, VADDR: UNMAP_FLAG_VADDR }),
      iova: action.iova,
      size: action.bytes,
      unmapped: 0n,
    };
    const ret = this.#direct.run(vfioDmaDoUnmap(k, container, args));
    return ret === 0 ? { ret, sizeBytes: args.unmapped } : { ret };
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
    if (this.#processes.live.some((p) => group(a.get(p.process, PROCESS.files)) !== 0)) return -EBUSY;
    // So do mappings of its device.
    const keepsBusy = ({ file }: Segment): boolean =>
      file !== 0 && a.get(a.get(file, GROUP.container), CONTAINER.index) === index;
    for (const { threads } of this.#processes.live) {
      const task = threads[0]?.task ?? 0;
      if (this.#direct.as(task).addressSpace.segments(taskMm(a, task)).some(keepsBusy)) return -EBUSY;
    }
    this.#openAs(files, index, iommu);
    return 0;
  }

  /** Asked by the acting process, or else by the first that can. */
  #avail(actor: string, index: number): number | null {
    const a = this.#arena;
    const acting = this.#processes.thread(actor)?.process;
    for (const p of acting === undefined ? this.#processes.live : [acting, ...this.#processes.live]) {
      const container = a.get(a.get(p.process, PROCESS.files), FILES.container0 + index);
      if (container !== 0 && a.get(container, CONTAINER.released) === 0) {
        return a.get(container, CONTAINER.dmaAvail);
      }
    }
    return null;
  }
}

const showSize = (bytes: bigint | undefined): string => (bytes === undefined ? 'none' : `${bytes}`);

function showVmlck(kb: ReadonlyMap<string, bigint>): string {
  return `{${[...kb]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${JSON.stringify(name)}:${value}`)
    .join(',')}}`;
}
