/**
 * Variant G, 5.12 to 6.2: pages are got in batches of up to 512 under one read section of mmap_sem; each physically
 * contiguous run is still charged on its own. Source: drivers/vfio/vfio_iommu_type1.c, 5.15.
 */
import type { Ctx, Variant } from '../env.ts';
import { GUP_5_9 } from '../gup-rules.ts';
import { vfioPinPagesRemoteBatched } from '../paths/pin.ts';
import type { PinCall } from '../pin-call.ts';
import { RWSEM_5_11 } from '../rwsem-rules.ts';
import { LATE_F } from './f-5.3.ts';

export const G: Variant = {
  ...LATE_F,
  id: 'G',
  kernels: '5.12 - 6.2',
  versions: [['5.12', '6.2']],
  identity: 'F plus batches of up to 512 pages per GUP call',
  rwsem: RWSEM_5_11,
  gup: GUP_5_9,
  batched: true,
  vaddrUpdate: true,
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemoteBatched(k, call, false),
};
