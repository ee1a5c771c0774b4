/** How an era pins single pages for mdev drivers. */
export interface ExternalRules {
  /** Mappings are looked up with a size of zero, which misses the first page of each (4.10-rc1). */
  readonly zeroSizeLookup: boolean;
  /**
   * Where the limit is tested: ahead of the accounting, even if nothing will be accounted, with the capability of
   * `current` (4.10-rc1) or of the mapping's task (4.10 and its stable line); or only in the `accounting` call (4.12).
   */
  readonly limitTest: 'current' | 'task' | 'accounting';
  /** In the owner's own context GUP may be fast. */
  readonly localGup: boolean;
  /** The test for a pfnmap happens in the read section of GUP (5.6). */
  readonly pfnmapInSection: boolean;
  /** A page that cannot be recorded for want of memory stays pinned and charged for ever (to 5.9 at the latest). */
  readonly nodeFailureLeaks: boolean;
  /** Pages without a struct page are refused (6.18). */
  readonly structPagesOnly: boolean;
}
