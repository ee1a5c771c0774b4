/** One calling context, built in the model and run under one strategy. */
import { RLIM_INFINITY } from '../../base/units.ts';
import { Direct } from '../../engine/direct.ts';
import { BUFFER_PAGE, DMA_ENTRY_LIMIT } from '../../engine/machine.ts';
import { FaultCost } from '../../model/address-space/gup-runs.ts';
import { Backing, PROT_RW } from '../../model/address-space/memory.ts';
import { Arena, capacityFor, type Ref } from '../../model/arena.ts';
import type { Ctx, Path, Variant } from '../../model/env.ts';
import { checkAtRest } from '../../model/invariants/index.ts';
import { MAP_ARGSZ, MAP_FLAG_READ, MAP_FLAG_WRITE, UNMAP_ARGSZ } from '../../model/ioctl-args.ts';
import { A } from '../../model/kernels/a-3.6.ts';
import { CONTAINER, FILES, MM, PROCESS, TASK } from '../../model/layout.ts';
import { lockedVm } from '../../model/locked-vm.ts';
import { mmget, mmgrab, mmNew, setMemlockBytes, taskMm, taskNew } from '../../model/mm.ts';
import type { InvariantName } from '../../model/oracle.ts';
import { doExit } from '../../model/paths/exit.ts';
import { vfioPinPages } from '../../model/paths/external.ts';
import {
  closeBoth,
  containerOf,
  filesNew,
  filesOf,
  groupOf,
  MDEV_GROUP,
  openContainer,
  openGroup,
  setContainer,
} from '../../model/paths/files.ts';
import { vfioDmaDoMap } from '../../model/paths/map.ts';
import { cloneThread, exec, fork, processNew } from '../../model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../model/paths/unmap.ts';
import { S, STEP_ROWS } from '../../model/steps.ts';
import type { Act, CallingContext } from './strategies.ts';

/** Whose account, pages, limit or capability it was. */
export type Whose = 'owner' | 'caller' | 'both' | 'nobody' | 'one and the same' | 'not asked';

const PAGES = 4;
const PAGE = 4096n;
const OTHER_IOVA = 64;
const ATTACHED_GROUP = 1;

/** 4.10-rc1 cannot pin the first page of a mapping, which is another story. */
const PINNED_PAGE = 1;

class SleepInAtomic extends Error {
  constructor(readonly fn: string) {
    super(`${fn} may sleep`);
  }
}

/** Steps in which the kernel may sleep. */
const SLEEPS: ReadonlySet<number> = new Set([
  S.CopyFromUser,
  S.MutexLock,
  S.DownRead,
  S.DownWrite,
  S.DownWriteKillable,
  S.Kmalloc,
  S.Mmput,
]);

/** Limits and capabilities of a run; those of the owner are the mapping thread's. */
export interface Rights {
  readonly ownerPages: number | null;
  readonly callerPages: number | null;
  readonly ownerCap: boolean;
  readonly callerCap: boolean;
}

export interface Observed {
  readonly ret: number;
  /** Nothing was removed by an unmap that succeeded. */
  readonly nothing: boolean;
  readonly sleepsIn: string | null;
  readonly ownerDelta: bigint;
  readonly callerDelta: bigint;
  /** What the owner's account should have changed by, and the caller's if that is another one. */
  readonly expectedOwner: bigint;
  readonly expectedCaller: bigint;
  readonly pages: Whose;
  readonly sameMm: boolean;
  readonly readLocks: number;
  readonly references: number;
  readonly violations: readonly InvariantName[];
}

/** An address space, and its locked_vm before the call. */
interface Space {
  readonly mm: Ref;
  readonly lockedVm: bigint;
}

/** Who and what is there when the call begins. */
interface Cast {
  readonly caller: Ref;
  readonly container: Ref;
  readonly owner: Space;
  /** mm 0: the caller has none. */
  readonly callers: Space;
  /** The caller has no address space but the owner's. */
  readonly sameMm: boolean;
}

interface Call {
  readonly ret: number;
  readonly sleepsIn: string | null;
  readonly unmappedBytes: bigint;
}

/** One run of one context under one strategy. */
export class Scene {
  readonly #arena: Arena;
  readonly #direct: Direct;
  readonly #variant: Variant;
  #atomic = false;
  #counting = false;
  #readLocks = 0;
  #references = 0;

  constructor(variant: Variant) {
    this.#variant = variant;
    this.#arena = Arena.create(
      capacityFor({ guests: 1, actorsPerGuest: 8, processesPerGuest: 4, mappingsPerGuest: 8, pinnedPagesPerGuest: 16 }),
      false,
    );
    this.#direct = new Direct(this.#arena, variant, { observe: (step, count) => this.#observe(step, count) });
  }

  #observe(step: number, count: number): void {
    if (this.#atomic && SLEEPS.has(step)) throw new SleepInAtomic((STEP_ROWS[step] as (typeof STEP_ROWS)[number]).fn);
    if (!this.#counting) return;
    if (step === S.DownRead) this.#readLocks += count;
    if (step === S.GetTaskMm || step === S.MmgetNotZero) this.#references += count;
  }

  run(context: CallingContext, act: Act, rights: Rights): Observed {
    const cast = this.#stage(context.id, act, rights);
    const call = this.#call(cast.caller, act, context.id === '5');
    return this.#observed(cast, act, call);
  }

  /** Builds all that is there before the call. */
  #stage(id: string, act: Act, rights: Rights): Cast {
    const a = this.#arena;
    const d = this.#direct;
    const mm = mmNew(a, 0);
    mmgrab(a, mm);
    d.addressSpace.mmap(mm, BUFFER_PAGE, 128, { backing: Backing.Anon4k, prot: PROT_RW });
    d.addressSpace.populate(mm, BUFFER_PAGE, 128, true, new FaultCost());
    const files = filesNew(a);
    // Before 4.10 there are no mdevs, so a container always has a domain and a second one joins without pinning.
    const lazy = this.#variant.id !== A.id && (act === 'pin' || act === 'attach');
    openContainer(a, files, { index: 0, v2: true, dmaEntryLimit: DMA_ENTRY_LIMIT, groups: lazy ? 'mdev' : 'iommu' });
    const leader = processNew(a, { mm, files, memlockBytes: RLIM_INFINITY, capIpcLock: rights.ownerCap });
    const mapper = id.startsWith('8') || id === '2b own' ? cloneThread(a, leader) : leader;
    a.set(mapper, TASK.capIpcLock, rights.ownerCap ? 1 : 0);
    if (act !== 'map') d.run(this.#map(d.as(mapper), 0));
    const caller = this.#caller(id, leader, mapper, mm);
    this.#prepare(id, leader, mapper);
    // A forked child has written to its memory too, so that nothing is left to be copied.
    const own = taskMm(a, caller);
    if (own !== 0) d.addressSpace.populate(own, BUFFER_PAGE, 128, true, new FaultCost());
    a.set(caller, TASK.capIpcLock, (caller === mapper ? rights.ownerCap : rights.callerCap) ? 1 : 0);
    if (a.get(caller, TASK.process) !== a.get(leader, TASK.process)) limit(a, caller, rights.callerPages);
    limit(a, leader, rights.ownerPages);

    const sameMm = own === mm || own === 0;
    if (!sameMm) mmgrab(a, own);
    const container = a.get(filesOf(a, caller), FILES.container0);
    a.set(container, CONTAINER.ledgerMm, 0);
    return {
      caller,
      container,
      owner: { mm, lockedVm: lockedVm(a, mm) },
      callers: { mm: own, lockedVm: own === 0 ? 0n : lockedVm(a, own) },
      sameMm,
    };
  }

  /** Has the caller act, and lets the workqueue catch up. */
  #call(caller: Ref, act: Act, atomic: boolean): Call {
    const unmapped = { bytes: 0n };
    let ret = 0;
    let sleepsIn: string | null = null;
    this.#counting = true;
    this.#atomic = atomic;
    try {
      ret = this.#direct.run(this.#do(this.#direct.as(caller), act, unmapped));
    } catch (error) {
      if (!(error instanceof SleepInAtomic)) throw error;
      sleepsIn = error.fn;
    }
    this.#counting = false;
    this.#atomic = false;
    this.#direct.settle();
    return { ret, sleepsIn, unmappedBytes: unmapped.bytes };
  }

  #observed({ container, owner, callers, sameMm }: Cast, act: Act, { ret, sleepsIn, unmappedBytes }: Call): Observed {
    const a = this.#arena;
    const { oracle } = this.#direct;
    const n = BigInt(act === 'pin' ? 1 : PAGES);
    const charges = act === 'map' || act === 'pin' || act === 'attach';
    // A MAP concerns its caller; everything else the process that made the mapping, if its address space lives.
    const ownerLives = a.get(owner.mm, MM.mmUsers) > 0;
    const done = sleepsIn === null && (charges ? ret >= 0 : true);
    const change = !done || (this.#variant.id === A.id && act === 'attach') ? 0n : charges ? n : -n;
    const onCaller = act === 'map' && !sameMm;
    const pinnedFrom = a.get(container, CONTAINER.ledgerMm);
    const pinsOf = (mm: Ref): boolean =>
      pinnedFrom === mm || (this.#variant.iommufd !== null && mm !== 0 && a.get(mm, MM.ledgerPinnedVm) > 0);
    const pages = pinsOf(owner.mm) ? 'owner' : pinsOf(callers.mm) ? 'caller' : 'nobody';
    checkAtRest(a, oracle, sameMm ? [owner.mm] : [owner.mm, callers.mm], this.#containers());
    const deltaOf = (space: Space): bigint => BigInt.asIntN(64, lockedVm(a, space.mm) - space.lockedVm);
    return {
      ret,
      nothing: act === 'unmap' && ret === 0 && unmappedBytes === 0n,
      sleepsIn,
      ownerDelta: ownerLives ? deltaOf(owner) : 0n,
      callerDelta: sameMm ? 0n : deltaOf(callers),
      expectedOwner: !onCaller && ownerLives ? change : 0n,
      expectedCaller: onCaller ? change : 0n,
      pages: !charges || !done || change === 0n ? 'not asked' : pages,
      sameMm,
      readLocks: this.#readLocks,
      references: this.#references,
      violations: [...new Set(oracle.violations.map((v) => v.invariant))],
    };
  }

  #containers(): Ref[] {
    const a = this.#arena;
    return Array.from({ length: a.highWater('container') }, (_, i) => a.refAt('container', i)).filter(
      (c) => a.get(c, CONTAINER.groups) > 0,
    );
  }

  /** Who calls. */
  #caller(id: string, leader: Ref, mapper: Ref, mm: Ref): Ref {
    const a = this.#arena;
    const k = this.#direct.as(leader);
    switch (id) {
      case '2':
      case '2b':
        return cloneThread(a, leader);
      case '3':
      case '4': {
        const process = a.alloc('process');
        a.setU64(process, PROCESS.memlockBytes, RLIM_INFINITY);
        a.set(process, PROCESS.files, filesOf(a, leader));
        const kthread = taskNew(a, { process, mm: 0, leader: 0, capIpcLock: true });
        a.set(kthread, TASK.kthread, 1);
        if (id === '4') {
          mmget(a, mm);
          a.set(kthread, TASK.mm, mm);
          Atomics.add(a.i32, mm + MM.liveTasks, 1);
        }
        return kthread;
      }
      case '6':
      case '6b':
      case '6b close':
      case '6c':
        return this.#direct.run(fork(k, false));
      case '9':
        return this.#direct.run(fork(k, true));
      case '2b own':
      case '8 leader':
        return mapper;
      default:
        return leader;
    }
  }

  /** What happens between the mapping and the call. */
  #prepare(id: string, leader: Ref, mapper: Ref): void {
    const d = this.#direct;
    if (id === '6b close') d.run(closeBoth(d.as(leader), 0));
    if (id === '7') d.run(exec(d.as(leader)));
    if (id === '8 leader') d.run(doExit(d.as(leader)));
    else if (id.startsWith('8')) d.run(doExit(d.as(mapper)));
  }

  *#do(k: Ctx, act: Act, out: { bytes: bigint }): Path<number> {
    switch (act) {
      case 'map':
        return yield* this.#map(k, OTHER_IOVA);
      case 'unmap': {
        const args = { argsz: UNMAP_ARGSZ, flags: 0, iova: 0n, size: BigInt(PAGES) * PAGE, unmapped: 0n };
        const ret = yield* vfioDmaDoUnmap(k, containerOf(k, 0), args);
        out.bytes = args.unmapped;
        return ret;
      }
      case 'pin':
        return yield* vfioPinPages(k, groupOf(k, MDEV_GROUP), [PINNED_PAGE], MAP_FLAG_READ | MAP_FLAG_WRITE);
      case 'attach':
        openGroup(k.arena, filesOf(k.arena, k.current), { index: ATTACHED_GROUP, iommuKind: 1 });
        return yield* setContainer(k, ATTACHED_GROUP, 0);
      default:
        return yield* closeBoth(k, 0);
    }
  }

  *#map(k: Ctx, iovaPage: number): Path<number> {
    return yield* vfioDmaDoMap(k, containerOf(k, 0), {
      argsz: MAP_ARGSZ,
      flags: MAP_FLAG_READ | MAP_FLAG_WRITE,
      vaddr: BigInt(BUFFER_PAGE) * PAGE,
      iova: BigInt(iovaPage) * PAGE,
      size: BigInt(PAGES) * PAGE,
    });
  }
}

/** setrlimit for the process of a task; null = unlimited. */
function limit(a: Arena, task: Ref, pages: number | null): void {
  setMemlockBytes(a, task, pages === null ? RLIM_INFINITY : BigInt(pages) * PAGE);
}
