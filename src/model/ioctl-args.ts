import { U64_MAX } from '../base/units.ts';

export const MAP_FLAG_READ = 1;
export const MAP_FLAG_WRITE = 2;
export const MAP_FLAG_VADDR = 4;

/** sizeof(struct vfio_iommu_type1_dma_map). */
export const MAP_ARGSZ = 32;

/** struct vfio_iommu_type1_dma_map: any 64-bit values. */
export interface MapArgs {
  readonly argsz: number;
  readonly flags: number;
  readonly vaddr: bigint;
  readonly iova: bigint;
  readonly size: bigint;
}

/** The last byte of a range, or null where the sum wraps past 2^64. */
export function lastByte(start: bigint, size: bigint): bigint | null {
  const last = (start + size - 1n) & U64_MAX;
  return last < start ? null : last;
}
export const UNMAP_FLAG_GET_DIRTY_BITMAP = 1;
export const UNMAP_FLAG_ALL = 2;
export const UNMAP_FLAG_VADDR = 4;

/** offsetofend(struct vfio_iommu_type1_dma_unmap, size). */
export const UNMAP_ARGSZ = 24;

/** struct vfio_iommu_type1_dma_unmap. `unmapped` receives the bytes removed; on an error it is left alone. */
export interface UnmapArgs {
  readonly argsz: number;
  readonly flags: number;
  readonly iova: bigint;
  readonly size: bigint;
  unmapped: bigint;
}
