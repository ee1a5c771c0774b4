/** What the kernel paths tell the ledger about page references, beside the operations the oracle is told of. */
import type { Arena, Ref } from './arena.ts';
import { CONTAINER, DMA, MM, VPFN } from './layout.ts';
import { mmdrop, mmgrab } from './mm.ts';
import { DMA_HOLDER, linkHolder, unlinkHolder, VPFN_HOLDER } from './pins.ts';

/** So many more countable pages of `mm` are pinned for the mapping through the IOMMU. */
export function recordPinned(a: Arena, dma: Ref, mm: Ref, pages: number): void {
  a.add(dma, DMA.ledgerPinned, pages);
  holdPages(a, a.get(dma, DMA.container), mm, pages);
}

/** The container holds so many more references to countable pages of `mm`, by whatever kind of pin. */
export function holdPages(a: Arena, container: Ref, mm: Ref, pages: number): void {
  a.add(container, CONTAINER.ledgerPins, pages);
  a.set(container, CONTAINER.ledgerMm, mm);
  a.set(container, CONTAINER.ledgerGuest, a.get(mm, MM.guest));
}

/** So many of them were put. */
export function putPages(a: Arena, container: Ref, pages: number): void {
  a.add(container, CONTAINER.ledgerPins, -pages);
}

/**
 * Makes `mm` the address space whose pages a mapping or an mdev page holds, and keeps its structure as long as that
 * lasts.
 */
export function setLedgerMm(a: Arena, kind: 'dma' | 'vpfn', ref: Ref, mm: Ref): void {
  const word = ref + (kind === 'dma' ? DMA.ledgerMm : VPFN.ledgerMm);
  const holder = kind === 'dma' ? DMA_HOLDER : VPFN_HOLDER;
  const old = a.i32[word] as number;
  if (mm === old) return;
  if (mm !== 0) {
    mmgrab(a, mm);
    if (old !== 0) unlinkHolder(a, holder, old, ref);
    linkHolder(a, holder, mm, ref);
  } else unlinkHolder(a, holder, old, ref);
  a.i32[word] = mm;
  if (old !== 0) mmdrop(a, old);
}
