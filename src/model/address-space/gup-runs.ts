/** What a lookup or a GUP call gives back: runs of pages, and what it cost to have them. */
/** Pages that are physically contiguous and alike. */
export interface PageRun {
  pages: number;
  /** The zero page or device memory: never counted. */
  reserved: boolean;
  /** Virtual page number at which the physical block ends, even if `pages` ends before. */
  blockEnd: number;
}

/** What GUP has to walk for a page: a table of its own, an entry of a transparent huge page, one of a 1 GiB page. */
export const GupEntry = { Page: 0, Thp: 1, Giga: 2 } as const;
export type GupEntry = (typeof GupEntry)[keyof typeof GupEntry];

/** One run of a batch. */
export interface BatchRun {
  pages: number;
  /** So many runs of this length come one after the other, none contiguous with the one before. */
  times: number;
  entry: GupEntry;
  reserved: boolean;
  /** Physically follows the page before it. */
  contiguous: boolean;
}

/** What a call did that takes time. Every call that is given one resets it. */
export class FaultCost {
  /** Calls of handle_mm_fault. */
  faults = 0;
  /** Pages of each size cleared; a copy on write counts as a page cleared. */
  zeroed4k = 0;
  zeroed2m = 0;
  zeroed1g = 0;
  /** Resident pages taken out of the page table. */
  zappedPages = 0;

  reset(): this {
    this.faults = 0;
    this.zeroed4k = 0;
    this.zeroed2m = 0;
    this.zeroed1g = 0;
    this.zappedPages = 0;
    return this;
  }
}
