/** The emulated machine, as far as accounting sees it. */
import type { Aperture } from '../model/env.ts';

/** A 48-bit Intel IOMMU: everything but the interrupt window 0xfee00000-0xfeefffff. */
export const APERTURE_48BIT: Aperture = {
  ranges: [
    [0n, 0xfedf_ffffn],
    [0xfef0_0000n, 0xffff_ffff_ffffn],
  ],
};

/** Default of the vfio_iommu_type1 module parameter dma_entry_limit (5.1). */
export const DMA_ENTRY_LIMIT = 65_535;

/** Virtual page at which a guest's buffer begins in its process: 2^40 bytes, aligned for any huge page. */
export const BUFFER_PAGE = 2 ** 28;
