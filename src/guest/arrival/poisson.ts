import type { Prng } from '../../base/prng.ts';
import type { Arrival } from '../../engine/actor.ts';

/** Independent users: exponential gaps around a mean rate, whether or not the last iteration has ended. */
export function poisson(startNs: number, perSecond: number, random: Prng): Arrival {
  let at = startNs;
  return {
    next() {
      at += random.exponential(1e9 / perSecond);
      return at;
    },
  };
}
