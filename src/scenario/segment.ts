/** Exact shares of a whole, in integers: the shares of all workers are disjoint and together the whole. */

/** From `first` (included) to `end` (excluded). */
export interface Slice {
  readonly first: number;
  readonly end: number;
}

/**
 * Worker k's share of `total` things among n workers, 0 <= k < n: contiguous, and no two shares differ by more than one.
 * @throws RangeError for a k outside that.
 */
export function sliceOf(total: number, k: number, n: number): Slice {
  if (!(Number.isInteger(k) && Number.isInteger(n) && k >= 0 && k < n)) throw new RangeError(`no worker ${k} of ${n}`);
  // BigInt: total * n may exceed 2^53.
  const at = (i: number): number => Number((BigInt(total) * BigInt(i)) / BigInt(n));
  return { first: at(k), end: at(k + 1) };
}
