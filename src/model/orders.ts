/** The ordered indexes of the model, one instance per arena. */
import type { Arena } from './arena.ts';
import { CHUNK, DMA, SEG, VPFN } from './layout.ts';
import { Ordered } from './ordered.ts';

export interface Orders {
  /** Mappings of a container by first iova page; root in CONTAINER.dmaRoot. */
  readonly dma: Ordered;
  /** Pinned runs of a mapping by first iova page; root in DMA.chunks. */
  readonly chunk: Ordered;
  /** Externally pinned pages of a mapping by iova page; root in DMA.vpfnRoot. */
  readonly vpfn: Ordered;
  /** Segments of an address space by first page; root in MM.segRoot. */
  readonly seg: Ordered;
}

const cache = new WeakMap<Arena, Orders>();

export function orders(a: Arena): Orders {
  let o = cache.get(a);
  if (o === undefined) {
    o = {
      dma: new Ordered(a, { key: DMA.iovaPage, left: DMA.left, right: DMA.right, prio: DMA.prio }),
      chunk: new Ordered(a, { key: CHUNK.startPage, left: CHUNK.left, right: CHUNK.right, prio: CHUNK.prio }),
      vpfn: new Ordered(a, { key: VPFN.iovaPage, left: VPFN.left, right: VPFN.right, prio: VPFN.prio }),
      seg: new Ordered(a, { key: SEG.startPage, left: SEG.left, right: SEG.right, prio: SEG.prio }),
    };
    cache.set(a, o);
  }
  return o;
}
