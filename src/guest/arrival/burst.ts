import type { Arrival } from '../../engine/actor.ts';

/** `operations` iterations at once, again every `everyNs`. */
export function burst(startNs: number, operations: number, everyNs: number): Arrival {
  let n = 0;
  return {
    next() {
      const at = startNs + Math.floor(n / operations) * everyNs;
      n += 1;
      return at;
    },
  };
}
