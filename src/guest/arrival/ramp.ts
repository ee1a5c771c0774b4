import type { Arrival } from '../../engine/actor.ts';

/**
 * A rate that changes evenly from one value to another over a time and then stays. Iteration n starts when the integral
 * of the rate reaches n:
 *
 *   from t + (to - from) t^2 / (2 over) = n     while t < over
 */
export function ramp(startNs: number, fromPerSecond: number, toPerSecond: number, overNs: number): Arrival {
  const from = fromPerSecond / 1e9;
  const to = toPerSecond / 1e9;
  const slope = overNs > 0 ? (to - from) / overNs : 0;
  const inRamp = ((from + to) / 2) * overNs;
  let n = 0;
  return {
    next() {
      const count = n;
      n += 1;
      if (count >= inRamp) return to > 0 ? startNs + overNs + (count - inRamp) / to : Infinity;
      if (slope === 0) return startNs + count / from;
      return startNs + (Math.sqrt(from * from + 2 * slope * count) - from) / slope;
    },
  };
}
