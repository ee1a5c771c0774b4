/**
 * Variant E2, 4.18 to 5.2: an explicit async flag again, the group leader instead of the thread, CAP_IPC_LOCK sampled
 * once when the mapping is made. GUP takes mmap_sem for read on every page since 4.16. dma_entry_limit came with
 * 5.1-rc4 (492855939bdb) and went into 4.19.38 and 5.0.11; the releases before it have no limit. Source:
 * drivers/vfio/vfio_iommu_type1.c, 4.19 and 5.2.
 */
import { ENODEV } from '../../base/errno.ts';
import type { Ctx, Variant } from '../env.ts';
import { DMA } from '../layout.ts';
import { taskMm } from '../mm.ts';
import { type PerPageLoop, vfioPinPagesRemotePerPage } from '../paths/pin.ts';
import type { PinCall } from '../pin-call.ts';
import { vfioLockAcct } from './account.ts';
import { E } from './e-4.12.ts';

export const LOOP: PerPageLoop = {
  lockedGup: true,
  pfnmapInSection: false,
  overLimit: 'fail',
  // oxlint-disable-next-line require-yield
  *enter(k, call) {
    call.mm = taskMm(k.arena, k.current);
    call.local = true;
    call.lockCap = k.arena.get(call.dma, DMA.lockCap) === 1;
    return call.mm === 0 ? -ENODEV : 0;
  },
};

export const E2: Variant = {
  ...E,
  id: 'E2',
  kernels: '5.1 - 5.2, 4.19.38 on, 5.0.11 on',
  versions: [
    ['5.1-rc4', '5.2'],
    ['4.19.38', '4.19'],
    ['5.0.11', '5.0'],
  ],
  identity:
    'explicit async flag, group leader recorded, CAP_IPC_LOCK sampled per mapping; GUP under mmap_sem page by page',
  recordsTask: 'leader',
  recordsCap: true,
  entryLimit: true,
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemotePerPage(k, call, LOOP),
  lockedGup: true,
  acctPin: (k, call, npage) => vfioLockAcct(k, call.dma, npage, false, 'leader'),
  acctDma: (k, dma, npage) => vfioLockAcct(k, dma, npage, true, 'leader'),
};

/** E2 before dma_entry_limit. */
export const EARLY_E2: Variant = {
  ...E2,
  id: '4.18',
  kernels: '4.18 - 5.0',
  versions: [['4.18', '5.1-rc3']],
  identity: 'E2 without dma_entry_limit: any number of mappings',
  entryLimit: false,
};
