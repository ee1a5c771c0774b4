import type { Arena, Ref } from './arena.ts';
import { DMA, VPFN } from './layout.ts';
import { setLedgerMm } from './ledger.ts';
import { orders } from './orders.ts';

/** How many of `pages` pages from `iovaPage` a driver has pinned already: those are counted elsewhere. */
export function countExternal(a: Arena, dma: Ref, iovaPage: number, pages: number): number {
  if (a.get(dma, DMA.vpfnCount) === 0) return 0;
  const index = orders(a).vpfn;
  const root = dma + DMA.vpfnRoot;
  let n = 0;
  let node = index.atOrAfter(root, iovaPage);
  while (node !== 0 && a.get(node, VPFN.iovaPage) < iovaPage + pages) {
    n += 1;
    node = index.next(root, node);
  }
  return n;
}

/** The nodes of pfn_list that count, by iova. */
export function* countableNodes(a: Arena, dma: Ref): Iterable<Ref> {
  const index = orders(a).vpfn;
  const root = dma + DMA.vpfnRoot;
  for (let node = index.first(root); node !== 0; node = index.next(root, node)) {
    if (a.get(node, VPFN.reserved) === 0) yield node;
  }
}

/** A mapping goes while pages of it are still pinned: their nodes are forgotten, their references are not. */
export function freeNodes(a: Arena, dma: Ref): void {
  const index = orders(a).vpfn;
  const root = dma + DMA.vpfnRoot;
  for (let node = index.first(root); node !== 0; node = index.first(root)) freeNode(a, dma, node);
}

export function freeNode(a: Arena, dma: Ref, node: Ref): void {
  orders(a).vpfn.remove(dma + DMA.vpfnRoot, node);
  a.add(dma, DMA.vpfnCount, -1);
  setLedgerMm(a, 'vpfn', node, 0);
  a.free('vpfn', node);
}

export function findNode(a: Arena, dma: Ref, iovaPage: number): Ref {
  if (a.get(dma, DMA.vpfnCount) === 0) return 0;
  const node = orders(a).vpfn.atOrBefore(dma + DMA.vpfnRoot, iovaPage);
  return node !== 0 && a.get(node, VPFN.iovaPage) === iovaPage ? node : 0;
}
