/**
 * A group leaves a container: vfio_iommu_type1_detach_group. Source: drivers/vfio/vfio_iommu_type1.c, 4.8 to 6.12.
 *
 * With the last IOMMU domain every mapping goes, unless mdev groups remain: then the mappings stay, their pages are
 * put, and the charge goes back to the pages that drivers hold.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { CONTAINER, DMA, GROUP, VPFN } from '../layout.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { orders } from '../orders.ts';
import { countableNodes } from '../pfn-list.ts';
import { S } from '../steps.ts';
import { domainGroups } from './attach.ts';
import { MdevDriver } from './external.ts';
import { removeDma, unmapUnpin } from './unmap.ts';

export function* vfioDetachGroup(k: Ctx, container: Ref, group: Ref): Path<void> {
  const a = k.arena;
  yield* mutexLock(k, container);
  if (k.at(S.DetachGroup, container)) yield;
  const domains = a.get(container, CONTAINER.domains);
  if (a.get(group, GROUP.driver) !== MdevDriver.None) {
    const left = a.get(container, CONTAINER.externalGroups) - 1;
    a.set(container, CONTAINER.externalGroups, left);
    if (left === 0) {
      a.set(container, CONTAINER.notifier, MdevDriver.None);
      if (domains === 0) yield* removeAll(k, container);
    }
  } else {
    const inDomain = domainGroups(a, container, group);
    const left = (a.i32[inDomain] as number) - 1;
    if (left === 0) {
      if (domains === 1) {
        if (k.variant.removeDomain) yield* k.variant.removeDomain(k, container);
        else if (a.get(container, CONTAINER.externalGroups) === 0) yield* removeAll(k, container);
        else yield* reaccount(k, container);
      }
      a.set(container, CONTAINER.domains, domains - 1);
    }
    a.i32[inDomain] = left;
  }
  a.set(group, GROUP.container, 0);
  yield* mutexUnlock(k, container);
}

/** vfio_iommu_unmap_unpin_all. */
export function* removeAll(k: Ctx, container: Ref): Path<void> {
  const index = orders(k.arena).dma;
  const root = container + CONTAINER.dmaRoot;
  for (let dma = index.first(root); dma !== 0; dma = index.first(root)) yield* removeDma(k, container, dma);
}

/** vfio_iommu_unmap_unpin_reaccount: one accounting call per mapping, whose result nobody looks at. */
function* reaccount(k: Ctx, container: Ref): Path<void> {
  const a = k.arena;
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  for (let dma = index.first(root); dma !== 0; dma = index.next(root, dma)) {
    const mm = a.get(dma, DMA.ledgerMm);
    const pinned = a.get(dma, DMA.ledgerPinned);
    // Until the accounting is done everything counts as held.
    if (mm !== 0) k.oracle.begin(mm, pinned);
    const unlocked = yield* unmapUnpin(k, container, dma, false);
    let locked = 0;
    for (const node of countableNodes(a, dma)) {
      k.oracle.recommit(a.get(node, VPFN.ledgerMm), 1);
      locked += 1;
    }
    yield* k.variant.acctDma(k, dma, locked - unlocked);
    if (mm !== 0) k.oracle.end(mm, pinned, 0, 0n, true);
  }
}
