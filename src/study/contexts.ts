/**
 * The open question of the seed thread, asked of the model: is what a strategy infers from `current` right in every
 * context from which VFIO is called? Each calling context is built and run under each strategy, several times with
 * different limits and capabilities, and what happened is observed from outside: whose account changed, whose pages
 * were pinned, whose limit and whose capability decided, and whether an invariant was violated. Nothing here knows what
 * a strategy ought to do.
 */
import { errnoName } from '../base/errno.ts';
import { RLIM_INFINITY } from '../base/units.ts';
import { Direct } from '../engine/direct.ts';
import { BUFFER_PAGE, DMA_ENTRY_LIMIT } from '../engine/machine.ts';
import { FaultCost } from '../model/address-space/gup-runs.ts';
import { Backing, PROT_RW } from '../model/address-space/memory.ts';
import { Arena, capacityFor, type Ref } from '../model/arena.ts';
import type { Ctx, Path, Variant } from '../model/env.ts';
import { checkAtRest } from '../model/invariants/index.ts';
import { MAP_ARGSZ, MAP_FLAG_READ, MAP_FLAG_WRITE, UNMAP_ARGSZ } from '../model/ioctl-args.ts';
import { A } from '../model/kernels/a-3.6.ts';
import { B } from '../model/kernels/b-4.10-rc1.ts';
import { C } from '../model/kernels/c-proposed-flag.ts';
import { CURRENT_IS_TASK } from '../model/kernels/current-is-task.ts';
import { D } from '../model/kernels/d-4.10.ts';
import { G } from '../model/kernels/g-5.12.ts';
import { H } from '../model/kernels/h-6.3.ts';
import { I_MM } from '../model/kernels/i-iommufd.ts';
import { CONTAINER, FILES, MM, PROCESS, TASK } from '../model/layout.ts';
import { lockedVm } from '../model/locked-vm.ts';
import { mmget, mmgrab, mmNew, setMemlockBytes, taskMm, taskNew } from '../model/mm.ts';
import type { InvariantName } from '../model/oracle.ts';
import { doExit } from '../model/paths/exit.ts';
import { vfioPinPages } from '../model/paths/external.ts';
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
} from '../model/paths/files.ts';
import { vfioDmaDoMap } from '../model/paths/map.ts';
import { cloneThread, exec, fork, processNew } from '../model/paths/process.ts';
import { vfioDmaDoUnmap } from '../model/paths/unmap.ts';
import { S, STEP_ROWS } from '../model/steps.ts';

export interface Strategy {
  readonly id: string;
  /** How it finds mm, limit and capability. */
  readonly what: string;
  readonly variant: Variant;
}

export const STRATEGIES: readonly Strategy[] = [
  { id: 'S0', what: 'always current (3.6 - 4.9)', variant: A },
  { id: 'S1', what: 'always get_task_mm(dma->task) (4.10-rc1)', variant: B },
  { id: 'S2', what: 'a flag from the caller (first version of the patch)', variant: C },
  { id: 'S3', what: 'current == dma->task (proposed in its review)', variant: CURRENT_IS_TASK },
  { id: 'S4', what: 'task->mm == current->mm (4.10 - 4.17)', variant: D },
  { id: 'S5', what: 'async flag, leader, stored capability (4.18 - 6.2)', variant: G },
  { id: 'S6', what: 'stored mm and async flag (6.3 on)', variant: H },
  { id: 'S7', what: 'source_mm == current->mm, all stored (iommufd)', variant: I_MM },
];

/** What is done in a context. */
type Act = 'map' | 'unmap' | 'pin' | 'attach' | 'close';

export interface CallingContext {
  readonly id: string;
  /** For people, short. */
  readonly what: string;
  readonly act: Act;
  /** What is done under a strategy without mdev pins, where the question still makes sense. */
  readonly actOf?: Readonly<Record<string, Act>>;
}

/** iommufd's drivers pin by the routine that fills a domain, so there attaching one stands for the pin. */
const PIN = { act: 'pin', actOf: { S7: 'attach' } } as const;

export const CONTEXTS: readonly CallingContext[] = [
  { id: '1', what: 'mapping thread, MAP', act: 'map' },
  { id: '2', what: 'sibling, UNMAP', act: 'unmap' },
  { id: '2b', what: 'vCPU thread, pin', ...PIN },
  { id: '2b own', what: 'mapping vCPU, pin', ...PIN },
  { id: '3', what: 'kernel thread, pin', act: 'pin', actOf: { S0: 'close', S7: 'attach' } },
  { id: '4', what: 'kthread with mm, pin', act: 'pin', actOf: { S0: 'map', S7: 'attach' } },
  { id: '5', what: 'interrupt, pin', act: 'pin', actOf: { S0: 'map', S7: 'attach' } },
  { id: '6', what: 'other process, MAP', act: 'map' },
  { id: '6b', what: 'other process, UNMAP', act: 'unmap' },
  { id: '6b close', what: 'other process, close', act: 'close' },
  { id: '6c', what: 'other process attach', act: 'attach' },
  { id: '7', what: "owner exec'ed, UNMAP", act: 'unmap' },
  { id: '8', what: 'dead mapper, UNMAP', act: 'unmap' },
  { id: '8 pin', what: 'dead mapper, pin', ...PIN },
  { id: '8 close', what: 'dead mapper, close', act: 'close' },
  { id: '8 leader', what: 'dead leader, UNMAP', act: 'unmap' },
  { id: '9', what: 'CLONE_VM child, pin', act: 'pin', actOf: { S0: 'map', S7: 'attach' } },
];

/** Whose account, pages, limit or capability it was. */
export type Whose = 'owner' | 'caller' | 'both' | 'nobody' | 'one and the same' | 'not asked';

export interface Cell {
  readonly context: string;
  readonly strategy: string;
  readonly act: Act;
  /**
   * `ok`, an errno's name, `nothing` (success that removed nothing), `atomic` for a call that may sleep where none may,
   * or `no mdev` where the kernel has no such call.
   */
  readonly outcome: string;
  /** The function that would sleep. */
  readonly sleepsIn: string | null;
  /** Whose account changed, and whose pages were pinned. */
  readonly account: Whose;
  readonly pages: Whose;
  readonly limit: Whose;
  readonly capability: Whose;
  /** What `right` means below; null where the act does not ask. */
  readonly rightMm: boolean;
  readonly rightLimit: boolean | null;
  readonly rightCapability: boolean | null;
  /** Pages without mmap_sem, accounting without a reference to the mm. */
  readonly fast: boolean;
  readonly safe: boolean;
  readonly violations: readonly InvariantName[];
}

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
interface Rights {
  readonly ownerPages: number | null;
  readonly callerPages: number | null;
  readonly ownerCap: boolean;
  readonly callerCap: boolean;
}

interface Observed {
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

/** One run of one context under one strategy. */
class Scene {
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
    const a = this.#arena;
    const d = this.#direct;
    const { id } = context;
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

    const ownerMm = mm;
    const callerMm = taskMm(a, caller);
    const sameMm = callerMm === ownerMm || callerMm === 0;
    const container = a.get(filesOf(a, caller), FILES.container0);
    const before = [lockedVm(a, ownerMm), callerMm === 0 ? 0n : lockedVm(a, callerMm)] as const;
    if (!sameMm) mmgrab(a, callerMm);
    a.set(container, CONTAINER.ledgerMm, 0);

    const k = d.as(caller);
    let ret = 0;
    let sleepsIn: string | null = null;
    this.#counting = true;
    this.#atomic = id === '5';
    const unmapped = { bytes: 0n };
    try {
      ret = d.run(this.#do(k, act, unmapped));
    } catch (error) {
      if (!(error instanceof SleepInAtomic)) throw error;
      sleepsIn = error.fn;
    }
    this.#counting = false;
    this.#atomic = false;
    d.settle();

    const n = BigInt(act === 'pin' ? 1 : PAGES);
    const charges = act === 'map' || act === 'pin' || act === 'attach';
    // A MAP concerns its caller; everything else the process that made the mapping, if its address space lives.
    const ownerLives = a.get(ownerMm, MM.mmUsers) > 0;
    const done = sleepsIn === null && (charges ? ret >= 0 : true);
    const change = !done || (this.#variant.id === A.id && act === 'attach') ? 0n : charges ? n : -n;
    const onCaller = act === 'map' && !sameMm;
    const pinnedFrom = a.get(container, CONTAINER.ledgerMm);
    const iommufd = a.get(ownerMm, MM.ledgerPinnedVm);
    const fromOwner = pinnedFrom === ownerMm || (this.#variant.iommufd !== null && iommufd > 0);
    const fromCaller =
      pinnedFrom === callerMm ||
      (this.#variant.iommufd !== null && callerMm !== 0 && a.get(callerMm, MM.ledgerPinnedVm) > 0);
    checkAtRest(a, d.oracle, sameMm ? [ownerMm] : [ownerMm, callerMm], this.#containers());
    return {
      ret,
      nothing: act === 'unmap' && ret === 0 && unmapped.bytes === 0n,
      sleepsIn,
      ownerDelta: ownerLives ? BigInt.asIntN(64, lockedVm(a, ownerMm) - before[0]) : 0n,
      callerDelta: sameMm ? 0n : BigInt.asIntN(64, lockedVm(a, callerMm) - before[1]),
      expectedOwner: !onCaller && ownerLives ? change : 0n,
      expectedCaller: onCaller ? change : 0n,
      pages: !charges || !done || change === 0n ? 'not asked' : fromOwner ? 'owner' : fromCaller ? 'caller' : 'nobody',
      sameMm,
      readLocks: this.#readLocks,
      references: this.#references,
      violations: [...new Set(d.oracle.violations.map((v) => v.invariant))],
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

/** Runs a context under a strategy. */
export function judge(context: CallingContext, strategy: Strategy): Cell {
  const act = context.actOf?.[strategy.id] ?? context.act;
  const { variant } = strategy;
  const run = (rights: Partial<Rights>): Observed =>
    new Scene(variant).run(context, act, {
      ownerPages: null,
      callerPages: null,
      ownerCap: false,
      callerCap: false,
      ...rights,
    });
  const base = run({});
  const outcome = outcomeOf(base, act === 'pin' && variant.external === null);
  const charged = outcome === 'ok' && base.pages !== 'not asked';
  const isKthread = context.id === '3' || context.id === '4';
  // Who ought to be asked: the caller for a mapping of its own, the mapping process for everything else.
  const rightful = act === 'map' && !isKthread ? 'caller' : 'owner';
  const refused = (o: Observed): boolean => o.ret < 0;

  let limitOf: Whose = 'not asked';
  let capOf: Whose = 'not asked';
  const sameProcess = ['1', '2', '2b', '2b own', '8', '8 pin'].includes(context.id);
  const sameTask = context.id === '1' || context.id === '2b own';
  if (charged) {
    const ownerTight = refused(run({ ownerPages: 0 }));
    const callerTight = sameProcess ? ownerTight : refused(run({ callerPages: 0 }));
    limitOf = decided(ownerTight, callerTight, sameProcess);
    const tight = { ownerPages: 0, callerPages: 0 };
    const ownerHelps = !refused(run({ ...tight, ownerCap: true }));
    const callerHelps = sameTask ? ownerHelps : !refused(run({ ...tight, callerCap: true }));
    capOf = decided(ownerHelps, callerHelps, sameTask);
  }
  // As it is in life: the owner is at its limit without a capability, a kernel thread has all of them.
  const natural = run({ ownerPages: 0, callerCap: isKthread });
  const violations = [...new Set([...base.violations, ...natural.violations])];
  const rightMm =
    base.ownerDelta === base.expectedOwner &&
    base.callerDelta === base.expectedCaller &&
    (base.pages === 'not asked' || (act === 'map' && !base.sameMm ? base.pages === 'caller' : base.pages === 'owner'));
  return {
    context: context.id,
    strategy: strategy.id,
    act,
    outcome,
    sleepsIn: base.sleepsIn,
    account:
      base.ownerDelta !== 0n && base.callerDelta !== 0n
        ? 'both'
        : base.ownerDelta !== 0n
          ? 'owner'
          : base.callerDelta !== 0n
            ? 'caller'
            : 'nobody',
    pages: base.pages,
    limit: limitOf,
    capability: capOf,
    rightMm,
    rightLimit: charged ? limitOf === rightful || limitOf === 'one and the same' : null,
    rightCapability: charged ? capOf === rightful || capOf === 'one and the same' : null,
    fast: outcome === 'ok' && base.readLocks === 0 && base.references <= (act === 'pin' ? 1 : 0),
    safe: outcome !== 'atomic' && outcome !== 'no mdev' && rightMm && violations.length === 0,
    violations,
  };
}

function outcomeOf(o: Observed, noMdev: boolean): string {
  if (noMdev) return 'no mdev';
  if (o.sleepsIn !== null) return 'atomic';
  if (o.ret < 0) return errnoName(o.ret);
  return o.nothing ? 'nothing' : 'ok';
}

function decided(owner: boolean, caller: boolean, same: boolean): Whose {
  if (same) return owner ? 'one and the same' : 'nobody';
  if (owner) return caller ? 'both' : 'owner';
  return caller ? 'caller' : 'nobody';
}

/** Every context under every strategy. */
export function judgeAll(): Cell[] {
  return CONTEXTS.flatMap((context) => STRATEGIES.map((strategy) => judge(context, strategy)));
}
