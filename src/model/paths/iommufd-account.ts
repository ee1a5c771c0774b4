import { EINVAL, ENOMEM } from '../../base/errno.ts';
import type { Ref } from '../arena.ts';
import { C, type Ctx, type Path } from '../env.ts';
import { MM, PAGES, TASK, USER, word64 } from '../layout.ts';
import { memlockPages, mmgetNotZero, mmput, taskMm } from '../mm.ts';
import { downWrite, upRead, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';
import { accountLockedVm } from './account-locked-vm.ts';
import {
  AccountMode,
  dropOwner,
  expense,
  mmOf,
  modeOf,
  npinned,
  type Reader,
  recordOwner,
  userOf,
} from './iommufd-object.ts';

/** pfn_reader_user_update_pinned and update_unpinned: the difference since the last time, in one action. */
export function* updatePinned(k: Ctx, object: Ref, reader: Reader | null): Path<number> {
  const a = k.arena;
  const npage = npinned(a, object) - a.get(object, PAGES.lastNpinned);
  if (npage === 0) return 0;
  const mm = mmOf(a, object);
  const ret = yield* charge(k, object, npage, reader);
  if (ret !== 0) return ret;
  a.set(object, PAGES.lastNpinned, npinned(a, object));
  yield* addPinnedVm(k, mm, npage);
  return 0;
}
function* addPinnedVm(k: Ctx, mm: Ref, npage: number): Path<void> {
  if (k.at(S.PinnedVmAtomic, mm)) yield;
  Atomics.add(k.arena.u64, word64(mm, MM.pinnedVm), BigInt.asUintN(64, BigInt(npage)));
}

/**
 * do_update_pinned without pinned_vm, for the object's owner. 0, -ENOMEM over the limit, -EINVAL where the mm is gone.
 */
function* charge(k: Ctx, object: Ref, npage: number, reader: Reader | null): Path<number> {
  const a = k.arena;
  const mode = modeOf(a, object);
  if (mode === AccountMode.None) return 0;
  const task = a.get(object, PAGES.sourceTask);
  if (mode === AccountMode.User) {
    return yield* chargeUser(k, a.get(object, PAGES.sourceUser), mmOf(a, object), task, npage);
  }
  return yield* chargeMm(k, mmOf(a, object), task, npage, reader);
}

/** incr_user_locked_vm and decr_user_locked_vm: a compare-and-exchange loop against the limit of the source task. */
function* chargeUser(k: Ctx, user: Ref, mm: Ref, task: Ref, npage: number): Path<number> {
  const a = k.arena;
  const word = word64(user, USER.lockedVm);
  if (npage < 0) {
    if (k.at(S.LockedVmAtomic, user)) yield;
    // The kernel warns and leaves the count alone when it would go below zero.
    if (Atomics.load(a.u64, word) < BigInt(-npage)) return 0;
    Atomics.sub(a.u64, word, BigInt(-npage));
    k.oracle.userCharged(user, mm, npage, 0n);
    return 0;
  }
  const limit = memlockPages(a, task);
  for (;;) {
    if (k.at(S.LockedVmRead, user)) yield;
    const seen = Atomics.load(a.u64, word);
    if (seen + BigInt(npage) > limit) {
      k.count(C.limit_refusals, 1);
      k.oracle.userRefused(user, mm, npage, limit);
      return -ENOMEM;
    }
    if (k.at(S.LockedVmCmpxchg, user)) yield;
    if (Atomics.compareExchange(a.u64, word, seen, seen + BigInt(npage)) !== seen) continue;
    k.oracle.userCharged(user, mm, npage, limit);
    return 0;
  }
}

/** update_mm_locked_vm: mmap_sem for write, not killable; a read lock the reader holds is given up first. */
function* chargeMm(k: Ctx, mm: Ref, task: Ref, npage: number, reader: Reader | null): Path<number> {
  const a = k.arena;
  let put = false;
  if (reader?.locked === true) {
    yield* upRead(k, mm);
    reader.locked = false;
  } else if (reader?.entered !== true && mm !== taskMm(a, k.current)) {
    if (!(yield* mmgetNotZero(k, mm))) return -EINVAL;
    put = true;
  }
  yield* downWrite(k, mm);
  const ret = yield* accountLockedVm(k, mm, npage, task, false);
  yield* upWrite(k, mm);
  if (put) {
    yield* mmput(k, mm);
  }
  return ret;
}

/** IOMMU_IOAS_CHANGE_PROCESS: all objects charged to `current`, then taken from their owners. 0 or -ENOMEM, undone. */
export function* changeOwners(k: Ctx, objects: readonly Ref[]): Path<number> {
  const a = k.arena;
  const mm = taskMm(a, k.current);
  const task = a.get(k.current, TASK.groupLeader);
  const user = userOf(a, mm);
  const moving = objects.filter((o) => modeOf(a, o) !== AccountMode.None && mmOf(a, o) !== mm);
  const chargeCurrent = (o: Ref, npage: number): Path<number> =>
    modeOf(a, o) === AccountMode.User ? chargeUser(k, user, mm, task, npage) : chargeMm(k, mm, task, npage, null);
  const charged: Ref[] = [];
  for (const o of moving) {
    const ret = yield* chargeCurrent(o, npinned(a, o));
    if (ret !== 0) {
      for (const c of charged) yield* chargeCurrent(c, -npinned(a, c));
      return ret;
    }
    charged.push(o);
  }
  for (const o of moving) {
    const n = npinned(a, o);
    const [from, fromTask, fromUser] = [mmOf(a, o), a.get(o, PAGES.sourceTask), a.get(o, PAGES.sourceUser)];
    yield* charge(k, o, -n, null);
    yield* addPinnedVm(k, from, -n);
    k.oracle.iommufdPinned(from, ...expense(a, o), -n);
    recordOwner(k, o);
    yield* addPinnedVm(k, mm, n);
    k.oracle.iommufdPinned(mm, ...expense(a, o), n);
    if (modeOf(a, o) === AccountMode.Mm) k.oracle.move(from, mm, n);
    dropOwner(a, from, fromTask, fromUser);
  }
  return 0;
}
