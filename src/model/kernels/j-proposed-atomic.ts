/**
 * Variant J, proposed and never merged: locked_vm as an atomic counter that VFIO changes without mmap_sem. Everything
 * else is F. Three forms:
 *   J        add and look: atomic add, and back out where the sum is over the limit (RFCs of November 2018 and April
 *            2019). Between the two the counter shows pages nobody will hold, so another request that fits can be
 *            refused.
 *   J-cas    compare and exchange: nothing is added that does not fit, as iommufd does per user.
 *   J-cache  the lock stays, but each pinning thread takes a block of pages from the limit at a time and charges its
 *            chunks to the block (padata RFC of January 2022); on G, the kernel of its day.
 *
 * mlock and the rest of mm still test and change the counter under mmap_sem, where the test no longer keeps VFIO out.
 */
import { EINTR, ENOMEM } from '../../base/errno.ts';
import type { Ref } from '../arena.ts';
import { C, type Ctx, type Path, type Variant } from '../env.ts';
import { addLockedVmAtomic, compareExchangeLockedVm, exceeds, lockedVm } from '../locked-vm.ts';
import { memlockPages } from '../mm.ts';
import { accountLockedVm } from '../paths/account-locked-vm.ts';
import type { PinCall } from '../pin-call.ts';
import { downWriteKillable, upWrite } from '../rwsem.ts';
import { S } from '../steps.ts';
import { vfioLockAcct } from './account.ts';
import { F } from './f-5.3.ts';
import { G } from './g-5.12.ts';

function refuse(k: Ctx, mm: Ref, limitPages: bigint): void {
  k.count(C.limit_refusals, 1);
  k.oracle.refused(mm, limitPages);
}

/** atomic64_add_return, the test, and atomic64_sub where it fails. `asked`: pages the operation still has to get. */
function* addThenCheck(k: Ctx, mm: Ref, npage: number, task: Ref, bypass: boolean, asked: number): Path<number> {
  const a = k.arena;
  if (k.at(S.LockedVmAtomic, mm)) yield;
  const sum = addLockedVmAtomic(a, mm, npage);
  if (npage < 0) {
    k.oracle.decremented(mm);
    return 0;
  }
  const limit = memlockPages(a, task);
  if (bypass || !exceeds(sum, 0, limit)) return 0;
  refuse(k, mm, limit);
  // From here on the request is lost, yet the counter shows it.
  k.oracle.begin(mm, -asked);
  if (k.at(S.LockedVmAtomic, mm)) yield;
  addLockedVmAtomic(a, mm, -npage);
  k.oracle.begin(mm, asked);
  return -ENOMEM;
}

/** The compare-and-exchange loop: the test and the update are one. */
function* compareAndExchange(k: Ctx, mm: Ref, npage: number, task: Ref, bypass: boolean): Path<number> {
  const a = k.arena;
  for (;;) {
    if (k.at(S.LockedVmRead, mm)) yield;
    const v = lockedVm(a, mm);
    const limit = memlockPages(a, task);
    if (npage > 0 && !bypass && exceeds(v, npage, limit)) {
      refuse(k, mm, limit);
      return -ENOMEM;
    }
    if (k.at(S.LockedVmCmpxchg, mm)) yield;
    if (!compareExchangeLockedVm(a, mm, v, npage)) continue;
    if (npage < 0) k.oracle.decremented(mm);
    return 0;
  }
}

export const J: Variant = {
  ...F,
  id: 'J',
  kernels: 'proposed, never merged',
  versions: [],
  identity: 'F with an atomic locked_vm: add, test the sum, back out; no mmap_sem for accounting',
  lockFree: true,
  acctPin: (k, call, npage) =>
    vfioLockAcct(k, call.dma, npage, false, 'leader', (kk, mm, n, task, bypass) =>
      addThenCheck(kk, mm, n, task, bypass, call.remaining),
    ),
  acctDma: (k, dma, npage) =>
    vfioLockAcct(k, dma, npage, true, 'leader', (kk, mm, n, task, bypass) => addThenCheck(kk, mm, n, task, bypass, 0)),
};

export const J_CAS: Variant = {
  ...J,
  id: 'J-cas',
  identity: 'J with a compare-and-exchange loop: nothing is added that does not fit',
  acctPin: (k, call, npage) => vfioLockAcct(k, call.dma, npage, false, 'leader', compareAndExchange),
  acctDma: (k, dma, npage) => vfioLockAcct(k, dma, npage, true, 'leader', compareAndExchange),
};

/** What the RFC chose. */
const BLOCK_PAGES = 65_536;

/**
 * G with a reserve of `blockPages` pages per pin loop. A refill takes a whole block or, where that does not fit, just
 * the chunk, so the reserve as such never fails a pin; while it is held, others can be refused pages that nobody uses.
 */
export function withReserve(blockPages: number): Variant {
  return {
    ...G,
    id: 'J-cache',
    kernels: 'proposed, never merged',
    versions: [],
    identity: `G with a reserve of ${blockPages} pages of locked_vm per pin loop: few chunks take mmap_sem for write`,
    reservePages: blockPages,
    *acctPin(k, call, npage) {
      const missing = Math.max(0, npage - call.reserve);
      call.reserve -= npage - missing;
      const ret = yield* vfioLockAcct(k, call.dma, missing, false, 'leader', (kk, mm, n, task, bypass) =>
        refill(kk, call, mm, n, task, bypass, blockPages),
      );
      if (ret < 0) call.reserve += npage - missing;
      return ret;
    },
    *endPin(k, call) {
      if (call.reserve > 0) yield* G.acctDma(k, call.dma, -call.reserve);
      call.reserve = 0;
    },
  };
}

/** Charges `npage` pages, and with them what is left of a block if that fits. 0, -EINTR or -ENOMEM. */
function* refill(
  k: Ctx,
  call: PinCall,
  mm: Ref,
  npage: number,
  task: Ref,
  bypass: boolean,
  blockPages: number,
): Path<number> {
  if ((yield* downWriteKillable(k, mm)) !== 0) return -EINTR;
  const fits = bypass || !exceeds(lockedVm(k.arena, mm), blockPages, memlockPages(k.arena, task));
  const take = fits ? Math.max(npage, blockPages) : npage;
  const ret = yield* accountLockedVm(k, mm, take, task, bypass);
  if (ret === 0) call.reserve += take - npage;
  yield* upWrite(k, mm);
  return ret;
}

export const J_CACHE = withReserve(BLOCK_PAGES);
