/**
 * Last close of a container: vfio_iommu_type1_release. Everything still mapped is unmapped, unpinned and un-accounted
 * by the process that closes, which is the point of several defects. Source: drivers/vfio/vfio_iommu_type1.c.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { CONTAINER } from '../layout.ts';
import { S } from '../steps.ts';
import { removeAll } from './detach.ts';
import { MdevDriver } from './external.ts';
import { wakeVaddrWaiters } from './vaddr.ts';

export function* vfioIommuRelease(k: Ctx, container: Ref): Path<void> {
  const a = k.arena;
  if (k.at(S.Release, container)) yield;
  a.set(container, CONTAINER.externalGroups, 0);
  a.set(container, CONTAINER.notifier, MdevDriver.None);
  if (k.variant.release) yield* k.variant.release(k, container);
  yield* removeAll(k, container);
  a.set(container, CONTAINER.domains, 0);
  a.set(container, CONTAINER.released, 1);
  wakeVaddrWaiters(k, container);
  k.oracle.released(container);
}
