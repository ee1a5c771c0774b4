/**
 * Variant G, 5.12 to 6.2: pages are got in batches of up to 512 under one read section of mmap_sem; each physically contiguous
 * run is still charged on its own. Source: drivers/vfio/vfio_iommu_type1.c, 5.15.
 */
import { ENODEV } from '../../base/errno.ts';
import { GUP_4_20 } from '../gup-rules.ts';
import type { Ctx, Path } from '../env.ts';
import { DMA } from '../layout.ts';
import { taskMm } from '../mm.ts';
import { pinPagesBatched, type PinCall } from '../paths/pin.ts';
import { RWSEM_5_11 } from '../rwsem.ts';
import { LATE_F } from './f.ts';
import type { Variant } from './variant.ts';

/** vfio_pin_pages_remote: pages come from the caller, the charge goes where the variant says. */
export function* pinPagesRemote(k: Ctx, call: PinCall, byRun: boolean): Path<number> {
  call.mm = taskMm(k.arena, k.current);
  if (call.mm === 0) return -ENODEV;
  call.lockCap = k.arena.i32[call.dma + DMA.lockCap] === 1;
  return yield* pinPagesBatched(k, call, {
    byRun,
    account: (kk, c, npage) => kk.variant.acctPin(kk, c, npage, false),
  });
}

export const G: Variant = {
  ...LATE_F,
  id: 'G',
  kernels: '5.12 - 6.2',
  versions: [['5.12', '6.2']],
  identity: 'F plus batches of up to 512 pages per GUP call',
  rwsem: RWSEM_5_11,
  gup: GUP_4_20,
  batched: true,
  vaddrUpdate: true,
  pinPages: (k: Ctx, call: PinCall) => pinPagesRemote(k, call, false),
};
