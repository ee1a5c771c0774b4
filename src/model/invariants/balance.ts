/**
 * At rest (no operation runs, no update is on its way) locked_vm of a live address space is exactly what is held: pages
 * locked by mlock, plus per container all countable pages of its mappings if it has an IOMMU domain, otherwise the
 * distinct pages mdev drivers have pinned. The rule of semantics 1.4, from vfio_iommu_type1.c.
 */
import type { Arena, Ref } from '../arena.ts';
import { CONTAINER, DMA, MM, USER, VPFN } from '../layout.ts';
import { lockedVm } from '../locked-vm.ts';
import { type Oracle, show } from '../oracle.ts';
import { orders } from '../orders.ts';
import { countableNodes } from '../pfn-list.ts';

/** Pages `mm` should be charged for the mappings of `container`. */
export function contribution(a: Arena, mm: Ref, container: Ref): number {
  const index = orders(a).dma;
  const root = container + CONTAINER.dmaRoot;
  const all = a.get(container, CONTAINER.domains) > 0;
  let pages = 0;
  for (let dma = index.first(root); dma !== 0; dma = index.next(root, dma)) {
    if (!all) {
      for (const node of countableNodes(a, dma)) if (a.get(node, VPFN.ledgerMm) === mm) pages += 1;
    } else if (a.get(dma, DMA.ledgerMm) === mm) {
      pages += a.get(dma, DMA.ledgerPinned);
    }
  }
  return pages;
}

/** Checks one address space against the containers that may hold its pages, and what iommufd keeps of it. */
export function checkBalance(a: Arena, oracle: Oracle, mm: Ref, containers: Iterable<Ref>): void {
  checkUserBalance(a, oracle, mm);
  if (Atomics.load(a.i32, mm + MM.mmUsers) === 0) return;
  let expected = a.getU64(mm, MM.mlockedPages) + BigInt(a.get(mm, MM.ledgerIommufd));
  for (const c of containers) expected += BigInt(contribution(a, mm, c));
  const actual = lockedVm(a, mm);
  if (actual !== expected) {
    oracle.report('balance', mm, `locked_vm is ${show(actual)} pages, ${expected} are held`);
  }
  const pinned = a.getU64(mm, MM.pinnedVm);
  const truly = BigInt(a.get(mm, MM.ledgerPinnedVm));
  if (pinned !== truly) oracle.report('balance', mm, `pinned_vm is ${show(pinned)} pages, ${truly} are pinned`);
}

/** The account of the user behind an address space, if no other guest that may be at work shares it. */
function checkUserBalance(a: Arena, oracle: Oracle, mm: Ref): void {
  const user = a.get(mm, MM.user);
  if (user === 0 || a.get(user, USER.guests) > 1) return;
  const charged = a.getU64(user, USER.lockedVm);
  const pinned = BigInt(a.get(user, USER.ledgerPinned));
  if (charged !== pinned) {
    oracle.report('balance', mm, `its user is charged ${show(charged)} pages, ${pinned} are pinned`);
  }
}
