/** Statistics for a handful of repetitions: exact, without assumptions on the distribution. */

/** The median. @throws RangeError for no values. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError('the median of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

export interface Interval {
  readonly low: number;
  readonly high: number;
  /**
   * Probability that the interval covers the true median, at least what was asked for if the values are enough for it.
   */
  readonly coverage: number;
}

/**
 * A confidence interval of the median between two order statistics (binomial, exact). With fewer than six values even
 * the whole range covers less than 95 %: then it is the range, with the coverage it has.
 */
export function medianInterval(values: readonly number[], coverage = 0.95): Interval {
  const sorted = values.toSorted((a, b) => a - b);
  const n = sorted.length;
  if (n === 0) throw new RangeError('an interval of nothing');
  // P(fewer than k of n values lie below the median) = sum of C(n, i) / 2^n for i < k.
  let below = 2 ** -n;
  let term = below;
  let k = 0;
  for (let i = 1; i <= n / 2; i += 1) {
    term *= (n - i + 1) / i;
    if (1 - 2 * (below + term) < coverage) break;
    below += term;
    k = i;
  }
  return { low: sorted[k] as number, high: sorted[n - 1 - k] as number, coverage: Math.max(0, 1 - 2 * below) };
}

/**
 * The two-sided p-value of the Mann-Whitney U test (Mann and Whitney 1947), exact also with ties: among all ways to
 * deal the pooled values out to the two samples, the share whose rank sum is at least as far from its mean as the one
 * seen.
 */
export function mannWhitney(a: readonly number[], b: readonly number[]): number {
  const n = a.length;
  const all = [...a, ...b];
  if (n === 0 || b.length === 0) throw new RangeError('Mann-Whitney needs two samples');
  const sorted = all.toSorted((x, y) => x - y);
  // Twice the mean rank of equal values: whole numbers.
  const rank = new Map<number, number>();
  for (let i = 0; i < sorted.length;) {
    let j = i;
    while (j < sorted.length && sorted[j] === sorted[i]) j += 1;
    rank.set(sorted[i] as number, i + j + 1);
    i = j;
  }
  const ranks = all.map((v) => rank.get(v) as number);
  const total = ranks.reduce((sum, r) => sum + r, 0);
  const seen = ranks.slice(0, n).reduce((sum, r) => sum + r, 0);
  // ways[k][s]: how many choices of k values have rank sum s.
  const ways = Array.from({ length: n + 1 }, () => new Float64Array(total + 1));
  (ways[0] as Float64Array)[0] = 1;
  for (const r of ranks) {
    for (let k = n; k >= 1; k -= 1) {
      const into = ways[k] as Float64Array;
      const from = ways[k - 1] as Float64Array;
      for (let s = total; s >= r; s -= 1) into[s] = (into[s] as number) + (from[s - r] as number);
    }
  }
  const mean = (n * total) / all.length;
  const distance = Math.abs(seen - mean) - 1e-9;
  let extreme = 0;
  let count = 0;
  (ways[n] as Float64Array).forEach((w, s) => {
    count += w;
    if (Math.abs(s - mean) >= distance) extreme += w;
  });
  return extreme / count;
}

/**
 * The knee of a rising curve that flattens: the point farthest above the chord from its first to its last point, both
 * axes scaled to 1 (Satopaa et al. 2011). Null if no point lies clearly above it. `x` must rise.
 */
export function kneeOf(x: readonly number[], y: readonly number[]): number | null {
  const n = x.length;
  if (n < 3 || y.length !== n) return null;
  const [x0, x1, low, high] = [x[0] as number, x[n - 1] as number, Math.min(...y), Math.max(...y)];
  if (x1 <= x0 || high <= low) return null;
  let best = 0.1;
  let knee: number | null = null;
  for (let i = 1; i < n; i += 1) {
    const above = ((y[i] as number) - low) / (high - low) - ((x[i] as number) - x0) / (x1 - x0);
    if (above > best) [best, knee] = [above, x[i] as number];
  }
  return knee;
}
