/** The operations of a case as kernel paths. */
import { EBADF, errnoName } from '../../base/errno.ts';
import { PAGE_BYTES } from '../../base/units.ts';
import { FaultCost } from '../../model/address-space/gup-runs.ts';
import { Backing, PROT_RW } from '../../model/address-space/memory.ts';
import type { Ctx, Path } from '../../model/env.ts';
import {
  MAP_ARGSZ,
  MAP_FLAG_READ,
  MAP_FLAG_VADDR,
  MAP_FLAG_WRITE,
  UNMAP_ARGSZ,
  UNMAP_FLAG_ALL,
  UNMAP_FLAG_VADDR,
} from '../../model/ioctl-args.ts';
import { TASK } from '../../model/layout.ts';
import { setMemlockBytes, taskMm } from '../../model/mm.ts';
import { doExit } from '../../model/paths/exit.ts';
import { vfioPinPages, vfioUnpinPages } from '../../model/paths/external.ts';
import { touch } from '../../model/paths/fault.ts';
import { closeBoth, containerOf, groupOf, MDEV_GROUP, setContainer, unsetContainer } from '../../model/paths/files.ts';
import { vfioDmaDoMap } from '../../model/paths/map.ts';
import { sysMlock, sysMunlock } from '../../model/paths/mlock.ts';
import { sysMunmap } from '../../model/paths/mmap.ts';
import { exec } from '../../model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../model/paths/unmap.ts';
import { downRead, downWrite, upRead, upWrite } from '../../model/rwsem.ts';
import { S } from '../../model/steps.ts';
import type { BuiltActor } from '../guest.ts';
import { BUFFER_PAGE } from '../machine.ts';
import type { CaseOp, ExploreCase } from './case.ts';

const PAGE = BigInt(PAGE_BYTES);
const address = (page: number): bigint => BigInt(BUFFER_PAGE + page) * PAGE;

/** The descriptor of the group that `attach` and `detach` move; the containers' own come before it. */
export const ATTACHED_GROUP = 3;

/** Operations that end tasks or give up descriptors. */
export const ENDING: ReadonlySet<CaseOp['op']> = new Set(['close', 'exec', 'exit', 'kill', 'attach', 'detach']);

/** What the world around an operation provides. */
export interface OpWorld {
  readonly plan: ExploreCase;
  /** Index by index with the plan's actors. */
  readonly built: readonly BuiltActor[];
}

/** The world of whole actors. */
export interface CaseWorld<K extends Ctx> extends OpWorld {
  /** The actor waits to be killed; it yields right after. False: nobody will do that any more. */
  park(k: K): boolean;
}

/** Where an actor of the case stands. */
export interface Standing {
  /** Index of the operation it is in, or was in last; -1 before the first. */
  op: number;
  ending: boolean;
  /** It has nothing left to do and waits only to be killed. */
  parked: boolean;
  /** Steps taken in the current operation. */
  opSteps: number;
  results: string[];
}

export const standingAtStart = (): Standing => ({ op: -1, ending: false, parked: false, opSteps: 0, results: [] });

/**
 * All operations of an actor; one that somebody kills then waits for it and ends its process. The same for every
 * driver.
 */
export function* runActor<K extends Ctx>(k: K, w: CaseWorld<K>, id: number, s: Standing): Path<void> {
  const { ops, name } = w.plan.actors[id] as ExploreCase['actors'][number];
  const killed = (): boolean => k.arena.get(k.current, TASK.fatalSignal) === 1;
  for (const [index, o] of ops.entries()) {
    s.op = index;
    s.opSteps = 0;
    s.ending = ENDING.has(o.op);
    if (k.at(S.Syscall, 0)) yield;
    if (killed()) break;
    const ret = yield* runOp(k, w, o);
    s.results.push(resultText(o, ret));
    if (o.op === 'exit') return;
  }
  if (!w.plan.actors.some((a) => a.ops.some((o) => o.op === 'kill' && o.actor === name))) return;
  s.parked = true;
  while (!killed()) {
    if (!w.park(k)) return;
    yield;
  }
  s.parked = false;
  s.ending = true;
  yield* doExit(k);
}

/** A fatal signal to the process of an actor: killable waiters see it, the others go back to sleep. */
function kill(k: Ctx, w: OpWorld, actor: string): void {
  const a = k.arena;
  const processOf = (task: number): number => a.get(task, TASK.process);
  const victim = w.built[w.plan.actors.findIndex((x) => x.name === actor)]?.task ?? 0;
  for (const { actor: ref, task } of w.built) {
    if (a.get(task, TASK.exited) === 1 || processOf(task) !== processOf(victim)) continue;
    a.set(task, TASK.fatalSignal, 1);
    k.wake(ref);
  }
}

/** Some of the operations of a case. */
type OpOf<N extends CaseOp['op']> = Extract<CaseOp, { readonly op: N }>;

function* runMap(k: Ctx, o: OpOf<'map' | 'update_vaddr'>): Path<number> {
  const container = containerOf(k, o.container);
  if (container < 0) return container;
  return yield* vfioDmaDoMap(k, container, {
    argsz: MAP_ARGSZ,
    flags: o.op === 'map' ? MAP_FLAG_READ | MAP_FLAG_WRITE : MAP_FLAG_VADDR,
    vaddr: address(o.op === 'map' ? o.page : 0),
    iova: BigInt(o.iova) * PAGE,
    size: BigInt(o.pages) * PAGE,
  });
}

function* runUnmap(k: Ctx, o: OpOf<'unmap' | 'unmap_all' | 'invalidate_vaddr'>): Path<number> {
  const container = containerOf(k, o.container);
  if (container < 0) return container;
  const all = o.op === 'unmap_all';
  // Before UNMAP_ALL came (5.12) everything was unmapped by naming the whole range.
  const allFlag = all && k.variant.vaddrUpdate;
  const args = {
    argsz: UNMAP_ARGSZ,
    flags: allFlag ? UNMAP_FLAG_ALL : o.op === 'invalidate_vaddr' ? UNMAP_FLAG_VADDR : 0,
    iova: all ? 0n : BigInt(o.iova) * PAGE,
    size: all ? (allFlag ? 0n : 1n << 40n) : BigInt(o.pages) * PAGE,
    unmapped: 0n,
  };
  const ret = yield* vfioDmaDoUnmap(k, container, args);
  return ret < 0 ? ret : Number(args.unmapped / PAGE);
}

function* runPin(k: Ctx, o: OpOf<'pin' | 'unpin'>): Path<number> {
  const group = groupOf(k, MDEV_GROUP + o.container);
  if (group === 0) return -EBADF;
  const list = Array.from({ length: o.pages }, (_, n) => o.iova + n);
  return yield* o.op === 'pin'
    ? vfioPinPages(k, group, list, MAP_FLAG_READ | MAP_FLAG_WRITE)
    : vfioUnpinPages(k, group, list);
}

/** Runs one operation. Its result as the kernel returns it; of an unmap, the pages removed. */
export function* runOp(k: Ctx, w: OpWorld, o: CaseOp): Path<number> {
  const a = k.arena;
  switch (o.op) {
    case 'map':
    case 'update_vaddr':
      return yield* runMap(k, o);
    case 'unmap':
    case 'unmap_all':
    case 'invalidate_vaddr':
      return yield* runUnmap(k, o);
    case 'pin':
    case 'unpin':
      return yield* runPin(k, o);
    case 'attach':
      return yield* setContainer(k, ATTACHED_GROUP, o.container);
    case 'detach':
      return yield* unsetContainer(k, ATTACHED_GROUP);
    case 'mlock':
      return yield* sysMlock(k, address(o.page), BigInt(o.pages) * PAGE, false);
    case 'munlock':
      return yield* sysMunlock(k, address(o.page), BigInt(o.pages) * PAGE);
    case 'munmap':
      return yield* sysMunmap(k, BUFFER_PAGE + o.page, o.pages);
    case 'touch':
      return yield* touch(k, BUFFER_PAGE + o.page, o.pages, true);
    case 'hold': {
      const mm = taskMm(a, k.current);
      if (o.mode === 'read') {
        yield* downRead(k, mm);
        yield* upRead(k, mm);
      } else {
        yield* downWrite(k, mm);
        yield* upWrite(k, mm);
      }
      return 0;
    }
    case 'setrlimit': {
      if (k.at(S.SetRlimit, k.current)) yield;
      setMemlockBytes(a, k.current, BigInt(o.pages) * PAGE);
      return 0;
    }
    case 'close':
      // The descriptor leaves the table before the first step of the path.
      if (k.at(S.ExitFiles, 0)) yield;
      return yield* closeBoth(k, o.container);
    case 'exec': {
      const ret = yield* exec(k);
      buildBuffer(k, w.plan);
      return ret;
    }
    case 'exit':
      yield* doExit(k);
      return 0;
    default:
      if (k.at(S.Signal, 0)) yield;
      kill(k, w, o.actor);
      return 0;
  }
}

/** The buffer of a new program, where the old one had it. */
function buildBuffer(k: Ctx, plan: ExploreCase): void {
  const mm = taskMm(k.arena, k.current);
  const args = { backing: Backing.Anon4k, prot: PROT_RW, runPages: plan.contiguityPages };
  k.addressSpace.mmap(mm, BUFFER_PAGE, plan.memoryPages, args);
  if (plan.populated) k.addressSpace.populate(mm, BUFFER_PAGE, plan.memoryPages, true, new FaultCost());
}

/** A result as outcomes and traces show it: the name of the error, `OK`, or the pages an unmap removed. */
export function resultText(o: CaseOp, ret: number): string {
  if (ret < 0) return errnoName(ret);
  if (o.op === 'pin' || o.op === 'unpin') return `${ret}`;
  return o.op === 'unmap' || o.op === 'unmap_all' || o.op === 'invalidate_vaddr' ? `${ret}` : 'OK';
}
