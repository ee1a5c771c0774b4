/**
 * Branded units. A bare `number` never crosses a module boundary when it carries a unit; the brand says which one.
 * Sizes that user space may pass as any 64-bit value (iova, vaddr, ioctl sizes) stay `bigint` bytes until the
 * argument checks have passed; after that they are page numbers, which fit a double exactly (2^64 / 4096 = 2^52).
 */
declare const unit: unique symbol;
type Branded<B extends string> = number & { readonly [unit]: B };

/** A count of 4 KiB base pages; also a page frame number (address / 4096). */
export type Pages = Branded<'pages'>;
/** A duration or an instant in nanoseconds; instants count from the start of the run. */
export type Nanoseconds = Branded<'ns'>;
/** A size in bytes. */
export type Bytes = Branded<'bytes'>;

/** The base page size of everything modelled here, in bytes. */
export const PAGE_BYTES = 4096;
export const PAGE_SHIFT = 12n;

export const asPages = (n: number): Pages => n as Pages;
export const asNs = (n: number): Nanoseconds => n as Nanoseconds;
export const asBytes = (n: number): Bytes => n as Bytes;

/** Whole pages in `bytes`, rounded down, as the kernel's `>> PAGE_SHIFT` does. */
export const bytesToPages = (bytes: Bytes): Pages => Math.floor(bytes / PAGE_BYTES) as Pages;
export const pagesToBytes = (pages: Pages): Bytes => (pages * PAGE_BYTES) as Bytes;

export const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** RLIM_INFINITY: no limit. Held in the arena as the largest unsigned 64-bit value, as in the kernel. */
export const RLIM_INFINITY = U64_MAX;
