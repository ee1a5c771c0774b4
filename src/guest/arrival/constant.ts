import type { Arrival } from '../../engine/actor.ts';

/** Iterations start at a fixed rate, whether or not the last one has ended. */
export function constant(startNs: number, ratePerSecond: number): Arrival {
  let n = 0;
  return {
    next() {
      const at = startNs + (n * 1e9) / ratePerSecond;
      n += 1;
      return at;
    },
  };
}
