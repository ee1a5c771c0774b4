/**
 * Which pages of an address space are pinned, as fork asks it (page_maybe_dma_pinned, include/linux/mm.h, 5.9): by
 * address space, lists of the mappings, mdev pages and iommufd objects that hold its pages.
 *
 * differs: the kernel asks the page, here it is the address. Where a part of a mapping's memory was given back and
 * faulted in again, it counts as pinned, though the device has the old pages.
 */
import type { Arena, Ref } from './arena.ts';
import { CONTAINER, DMA, MM, PAGES, VPFN } from './layout.ts';

/** A structure that holds pages: where its list goes on, and where the list begins. */
export interface Holder {
  readonly next: number;
  readonly prev: number;
  readonly head: number;
}
export const DMA_HOLDER: Holder = { next: DMA.pinNext, prev: DMA.pinPrev, head: MM.pinnedDmas };
export const VPFN_HOLDER: Holder = { next: VPFN.pinNext, prev: VPFN.pinPrev, head: MM.pinnedVpfns };
export const PAGES_HOLDER: Holder = { next: PAGES.pinNext, prev: PAGES.pinPrev, head: MM.pinnedObjects };

/** `ref` may hold pages of `mm` from now on. */
export function linkHolder(a: Arena, { next, prev, head }: Holder, mm: Ref, ref: Ref): void {
  const m = a.i32;
  a.lock(mm + MM.pinLatch);
  const first = m[mm + head] as number;
  m[ref + next] = first;
  m[ref + prev] = 0;
  if (first !== 0) m[first + prev] = ref;
  m[mm + head] = ref;
  a.unlock(mm + MM.pinLatch);
}

/** `ref` holds no page of `mm` any more. */
export function unlinkHolder(a: Arena, { next, prev, head }: Holder, mm: Ref, ref: Ref): void {
  const m = a.i32;
  a.lock(mm + MM.pinLatch);
  const after = m[ref + next] as number;
  const before = m[ref + prev] as number;
  if (after !== 0) m[after + prev] = before;
  m[before === 0 ? mm + head : before + next] = after;
  a.unlock(mm + MM.pinLatch);
}

/** Ranges of pages, to be asked in ascending order of pages. */
export class PinnedPages {
  /** Disjoint and ascending. */
  readonly #ranges: [from: number, to: number][] = [];

  constructor(ranges: [from: number, to: number][]) {
    for (const [from, to] of ranges.toSorted(([a], [b]) => a - b)) {
      const last = this.#ranges.at(-1);
      if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
      else this.#ranges.push([from, to]);
    }
  }

  /**
   * Whether `page` is pinned, and the page where that may change. A block of `unit` pages is pinned as soon as one page
   * of it is.
   */
  at(page: number, unit: number): { readonly pinned: boolean; readonly end: number } {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (Math.ceil((this.#ranges[mid] as [number, number])[1] / unit) * unit <= page) low = mid + 1;
      else high = mid;
    }
    const found = this.#ranges[low];
    if (found === undefined) return { pinned: false, end: Infinity };
    const from = Math.floor(found[0] / unit) * unit;
    return from > page ? { pinned: false, end: from } : { pinned: true, end: Math.ceil(found[1] / unit) * unit };
  }
}

/** What a fork had to copy, in pages: of page tables, and of memory that may be pinned. */
export interface ForkCost {
  readonly tablePages: number;
  readonly copiedPages: number;
}

export const NOTHING_PINNED = new PinnedPages([]);

/** A structure that holds pages of an address space, and which: virtual pages. */
interface Held {
  readonly stale: Ref;
  readonly start: number;
  readonly pages: number;
}

/** Visits all that holds pages of `mm`, under the latch of the lists. */
function eachHolder(a: Arena, mm: Ref, visit: (held: Held) => void): void {
  const m = a.i32;
  a.lock(mm + MM.pinLatch);
  for (let dma = m[mm + MM.pinnedDmas] as number; dma !== 0; dma = m[dma + DMA.pinNext] as number) {
    // Without an IOMMU domain only the pages that drivers asked for are pinned.
    const whole = m[(m[dma + DMA.container] as number) + CONTAINER.domains] !== 0;
    const pages = whole ? a.get(dma, DMA.sizePages) : 0;
    visit({ stale: dma + DMA.pinStale, start: a.get(dma, DMA.vaddrPage), pages });
  }
  for (let node = m[mm + MM.pinnedVpfns] as number; node !== 0; node = m[node + VPFN.pinNext] as number)
    visit({ stale: node + VPFN.pinStale, start: a.get(node, VPFN.vaddrPage), pages: 1 });
  for (let object = m[mm + MM.pinnedObjects] as number; object !== 0; object = m[object + PAGES.pinNext] as number) {
    const some = a.get(object, PAGES.npinned) > 0;
    const pages = some ? a.get(object, PAGES.sizePages) : 0;
    visit({ stale: object + PAGES.pinStale, start: a.get(object, PAGES.startPage), pages });
  }
  a.unlock(mm + MM.pinLatch);
}

/**
 * The page table lost [page, page + pages): what holds pages of no other address there holds none that fork will meet.
 */
export function gaveBack(a: Arena, mm: Ref, page: number, pages: number): void {
  eachHolder(a, mm, (held) => {
    if (held.pages > 0 && held.start >= page && held.start + held.pages <= page + pages) a.i32[held.stale] = 1;
  });
}

/** The pages of `mm` that are pinned now, by virtual page. */
export function pinnedPages(a: Arena, mm: Ref): PinnedPages {
  const ranges: [number, number][] = [];
  eachHolder(a, mm, ({ stale, start, pages }) => {
    if (pages > 0 && a.i32[stale] === 0) ranges.push([start, start + pages]);
  });
  return ranges.length === 0 ? NOTHING_PINNED : new PinnedPages(ranges);
}
