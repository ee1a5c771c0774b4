import { type Prng, stream } from '../base/prng.ts';
import type { FaultSite } from '../model/env.ts';

/** The faults injected into one actor: each site with the probability that the plan gives it. */
export class ActorFaults {
  readonly #rates: ReadonlyMap<FaultSite, number>;
  readonly #random: Prng;

  constructor(rates: ReadonlyMap<FaultSite, number>, random: Prng) {
    this.#rates = rates;
    this.#random = random;
  }

  happens(site: FaultSite): boolean {
    const rate = this.#rates.get(site);
    return rate !== undefined && this.#random.float() < rate;
  }
}

/** Those of a guest's actor `index`; null if the plan injects none. */
export function actorFaults(rates: ReadonlyMap<FaultSite, number>, seed: number, index: number): ActorFaults | null {
  return rates.size === 0 ? null : new ActorFaults(rates, stream(seed, `faults.${index}`));
}
