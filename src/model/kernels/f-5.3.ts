/**
 * Variant F, 5.3 to 5.11: E2 with the arithmetic in __account_locked_vm (mm/util.c), the generic rwsem, and from 5.6 on
 * the test for a pfnmap in the same read section. Source: drivers/vfio/vfio_iommu_type1.c, 5.3 and 5.11.
 */
import type { Ctx, Variant } from '../env.ts';
import type { ExternalRules } from '../external-rules.ts';
import { GUP_4_20, GUP_5_9 } from '../gup-rules.ts';
import { type PerPageLoop, vfioPinPagesRemotePerPage } from '../paths/pin.ts';
import type { PinCall } from '../pin-call.ts';
import { RWSEM_5_3 } from '../rwsem-rules.ts';
import { E2, LOOP as E2_LOOP } from './e2-4.18.ts';

const LOOP: PerPageLoop = { ...E2_LOOP, pfnmapInSection: true };

export const F: Variant = {
  ...E2,
  id: 'F',
  kernels: '5.3 - 5.11',
  versions: [['5.3', '5.11']],
  identity: 'E2 with the arithmetic in __account_locked_vm; one read section of mmap_sem per page',
  rwsem: RWSEM_5_3,
  gup: GUP_4_20,
  aperture: true,
  external: { ...(E2.external as ExternalRules), pfnmapInSection: true },
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemotePerPage(k, call, LOOP),
};

/**
 * 5.3: as F, before MAP_DMA compared with the list of valid iovas (9b77e5c79840, 5.4), so that it maps over the MSI
 * window.
 */
export const EARLY_F: Variant = {
  ...F,
  id: '5.3',
  kernels: '5.3',
  versions: [['5.3', '5.3']],
  identity: 'F before MAP_DMA knew the reserved windows of the IOMMU',
  aperture: false,
};

/** The last releases of F: a failing replay unwinds (5.9), a pin that cannot be recorded is given back (by 5.10). */
export const LATE_F: Variant = {
  ...F,
  id: '5.10',
  gup: GUP_5_9,
  kernels: '5.9 - 5.11',
  versions: [['5.9', '5.11']],
  identity: 'F without the leaks of a failing replay and of a pin that cannot be recorded',
  external: { ...(F.external as ExternalRules), nodeFailureLeaks: false },
  replayUnwinds: true,
};
