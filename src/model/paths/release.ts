/**
 * Last close of a container: vfio_iommu_type1_release. Everything still mapped is unmapped, unpinned and un-accounted by
 * whoever closes, which is the point of several defects. Source: drivers/vfio/vfio_iommu_type1.c.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { CONTAINER } from '../layout.ts';
import { orders } from '../orders.ts';
import { S } from '../steps.ts';
import { removeDma } from './unmap.ts';

export function* vfioIommuRelease(k: Ctx, container: Ref): Path<void> {
  const a = k.arena;
  if (k.at(S.Release, container)) yield;
  a.i32[container + CONTAINER.externalGroups] = 0;
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  if (k.variant.release) yield* k.variant.release(k, container);
  for (let dma = index.first(root); dma !== 0; dma = index.first(root)) yield* removeDma(k, container, dma);
  a.i32[container + CONTAINER.domains] = 0;
  a.i32[container + CONTAINER.released] = 1;
}
