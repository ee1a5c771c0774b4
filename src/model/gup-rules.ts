/** The rules of mm that differ between kernels, as far as they show in what is pinned, counted or locked. */

/** Which of mm's rules a kernel has. */
export interface GupRules {
  /**
   * What a read-only long-term pin replaces by a page of the process's own: `none` before 5.19; `anon` pages shared by
   * fork (5.19 to 6.1); `any` page of a private mapping, the zero page too (6.2 on).
   */
  readonly unshare: 'none' | 'anon' | 'any';
  /** One step takes a whole range of device pages (6.18 on) instead of one page. */
  readonly pfnmapBulk: boolean;
  /** Page faults take the VMA's own lock instead of mmap_lock (6.4 on). */
  readonly perVmaLocks: boolean;
  /** munmap frees the pages under the lock downgraded to read (4.20 on). */
  readonly munmapDowngrades: boolean;
  /** fork copies pages that may be pinned, instead of sharing them until the next write (5.9 on). */
  readonly forkCopiesPinned: boolean;
  /** mmap over a part of a huge page says EINVAL, as munmap does (6.12 on), instead of ENOMEM. */
  readonly mmapKeepsError: boolean;
  /**
   * MADV_POPULATE_* skips holes and says ENOMEM at the end, as other advice (5.14 to 6.8), instead of stopping at the
   * first.
   */
  readonly populateSkipsHoles: boolean;
}

/** Up to 4.19: GUP takes the zero page as it is, munmap works under the write lock throughout. */
export const GUP_ZERO_PAGE: GupRules = {
  unshare: 'none',
  pfnmapBulk: false,
  perVmaLocks: false,
  munmapDowngrades: false,
  forkCopiesPinned: false,
  mmapKeepsError: false,
  populateSkipsHoles: true,
};
/** 4.20 to 5.8. */
export const GUP_4_20: GupRules = { ...GUP_ZERO_PAGE, munmapDowngrades: true };
/** 5.9 to 5.18 (70e806e4e645, and d042035eaf5f for huge pages). */
export const GUP_5_9: GupRules = { ...GUP_4_20, forkCopiesPinned: true };
/** 5.19 to 6.1. */
export const GUP_5_19: GupRules = { ...GUP_5_9, unshare: 'anon' };
/** 6.2 and 6.3: no pin of a zero page any more. */
export const GUP_6_2: GupRules = { ...GUP_5_9, unshare: 'any' };
/** 6.4 to 6.17, in the details that changed in between as 6.12. */
export const GUP_6_4: GupRules = { ...GUP_6_2, perVmaLocks: true, mmapKeepsError: true, populateSkipsHoles: false };
/** 6.18 and later. */
export const GUP_6_18: GupRules = { ...GUP_6_4, pfnmapBulk: true };
