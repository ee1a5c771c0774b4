import type { Arrival } from '../../engine/actor.ts';

/** The next iteration starts `thinkNs` after the last one ended; the first at once. */
export function closed(startNs: number, thinkNs: number): Arrival {
  let first = true;
  return {
    next(lastEndNs) {
      if (first) {
        first = false;
        return startNs;
      }
      return lastEndNs + thinkNs;
    },
  };
}
