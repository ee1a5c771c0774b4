/** What memory is made of: its backing, its protection, what the page table holds of it. */
import type { Ref } from '../arena.ts';

/** What a piece of memory is. `Anon` is private memory without advice (THP "always"), `Thp` has MADV_HUGEPAGE. */
export const Backing = { Anon4k: 0, Anon: 1, Thp: 2, Hugetlb2m: 3, Hugetlb1g: 4, Memfd: 5, Bar: 6 } as const;
export type Backing = (typeof Backing)[keyof typeof Backing];

export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_RW = 3;

/**
 * What the page table holds. The PMD bit says that the 2 MiB granule has no page table of its own: it is mapped by one
 * huge entry, or (None) still free to be.
 */
export const Residency = { None: 0, Zero: 1, Present: 2, Cow: 3, PMD: 4 } as const;

/** The bits of a residency without PMD. */
export const BASE = 3;

/** VM_LOCKED and VM_LOCKONFAULT of a VMA. */
export const Locked = { No: 0, Yes: 1, OnFault: 2 } as const;
export type Locked = (typeof Locked)[keyof typeof Locked];

export const GRANULE = 512;
const GRANULE_1G = 262_144;

/** Device memory is contiguous; blocks this large never end within a mapping. */
export const BAR_RUN_PAGES = 2 ** 30;

export const isHugetlb = (backing: number) => backing === Backing.Hugetlb2m || backing === Backing.Hugetlb1g;
export const isPrivate = (backing: number) => backing <= Backing.Thp;
export const mayHuge = (backing: number) => backing === Backing.Anon || backing === Backing.Thp;
export const hugetlbPages = (backing: number) =>
  backing === Backing.Hugetlb1g ? GRANULE_1G : backing === Backing.Hugetlb2m ? GRANULE : 1;

export const roundDown = (page: number, to: number) => Math.floor(page / to) * to;
export const roundUp = (page: number, to: number) => Math.ceil(page / to) * to;

export interface MmapArgs {
  readonly backing: Backing;
  readonly prot: number;
  /** First page shown of the file or BAR. */
  readonly sourcePage?: number;
  /** Physical contiguity, pages, a power of two. Default: 1, or the huge page. */
  readonly runPages?: number;
  /** The group whose device is shown: the mapping keeps it open. */
  readonly file?: Ref;
  /** Size of the file: what is mapped behind its end cannot be touched. */
  readonly filePages?: number;
}

/** The largest run of pages of an address space that agree in everything the model knows of a page. */
export interface Segment {
  readonly startPage: number;
  readonly endPage: number;
  readonly backing: number;
  readonly prot: number;
  readonly residency: number;
  readonly locked: number;
  readonly runPages: number;
  /** The group whose device it shows; 0 for none. */
  readonly file: Ref;
}
