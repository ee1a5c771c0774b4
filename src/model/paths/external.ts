/** Pages pinned by mdev drivers (vfio_pfn), as the other paths see them. */
import type { Arena, Ref } from '../arena.ts';
import { DMA, VPFN } from '../layout.ts';
import { orders } from '../orders.ts';

/** How many of `pages` pages from `iovaPage` a driver has pinned already: those are counted elsewhere. */
export function countExternal(a: Arena, dma: Ref, iovaPage: number, pages: number): number {
  if (a.i32[dma + DMA.vpfnCount] === 0) return 0;
  const index = orders(a).vpfn;
  const root = dma + DMA.vpfnRoot;
  let n = 0;
  let node = index.atOrAfter(root, iovaPage);
  while (node !== 0 && (a.f64[(node + VPFN.iovaPage) >> 1] as number) < iovaPage + pages) {
    n += 1;
    node = index.next(root, node);
  }
  return n;
}

/** Non-reserved externally pinned pages of a mapping. */
export function countableExternal(a: Arena, dma: Ref): number {
  const index = orders(a).vpfn;
  const root = dma + DMA.vpfnRoot;
  let n = 0;
  for (let node = index.first(root); node !== 0; node = index.next(root, node)) {
    if (a.i32[node + VPFN.reserved] === 0) n += 1;
  }
  return n;
}
