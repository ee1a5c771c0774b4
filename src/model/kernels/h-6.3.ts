/**
 * Variant H, 6.3 and later: the mm itself is recorded when the mapping is made, with what it was charged, so exec,
 * other processes and dead leaders no longer matter. Source: drivers/vfio/vfio_iommu_type1.c at 90fdd158a695 and in
 * 6.4, 6.12.
 */
import type { Variant } from '../env.ts';
import { GUP_5_19, GUP_6_4 } from '../gup-rules.ts';
import { vfioLockAcct } from './account.ts';
import { G } from './g-5.12.ts';

export const H: Variant = {
  ...G,
  id: 'H',
  kernels: '6.3 - 6.17',
  versions: [['6.3', '6.17']],
  identity: 'mm recorded at map time and its charge tracked per mapping; no mm test on unmap',
  gup: GUP_6_4,
  recordsMm: true,
  invalidVaddr: 'busy',
  foreignUnmap: 'allowed',
  acctPin: (k, call, npage) => vfioLockAcct(k, call.dma, npage, false, 'stored'),
  acctDma: (k, dma, npage) => vfioLockAcct(k, dma, npage, true, 'stored'),
};

/**
 * Linux 6.1 as its stable line has it (and Debian ships it): the batches of G, the fixes of 6.3 brought back.
 */
export const STABLE_6_1: Variant = {
  ...H,
  id: '6.1',
  kernels: '6.1 stable (Debian 12)',
  versions: [['6.1', '6.1']],
  identity: "G's batches with H's recorded mm, which the stable line took from 6.3; the zero page is not counted",
  gup: GUP_5_19,
};
