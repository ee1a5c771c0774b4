/**
 * Seeded randomness. Every purpose draws from a stream of its own, `stream(guest seed, 'memory.size')`, so what one
 * purpose draws never depends on how often another did, nor on which worker or in which order guests are made.
 *
 * The generator is sfc32 (Chris Doty-Humphrey, PractRand 0.95): 128 bits of state, 2.7 ns a draw here.
 */

/** Seeds are unsigned 32 bit. */
export const SEED_MAX = 0xffff_ffff;

/** MurmurHash3's 32-bit finaliser (Austin Appleby): a bijection on 32-bit words with full avalanche. */
function mix32(word: number): number {
  let h = word >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** FNV-1a over UTF-16 code units, from a given basis; 32 bit. */
function fnv1a(text: string, basis: number): number {
  let h = basis;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x0100_0193);
  return mix32(h);
}

/**
 * The seed of guest `index` in a run of seed `runSeed`, both unsigned 32 bit. For one run seed it is a bijection of the
 * index, so no two guests of a run share a seed.
 */
export function guestSeed(runSeed: number, index: number): number {
  return mix32(mix32(runSeed) + Math.imul(index, 0x9e37_79b9));
}

/** A deterministic stream of numbers. */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** The three words of the initial state; use `stream` to make one for a purpose. */
  constructor(a: number, b: number, c: number) {
    this.#a = a | 0;
    this.#b = b | 0;
    this.#c = c | 0;
    // The generator's own seeding discards 15 outputs until the words have mixed.
    for (let i = 0; i < 15; i += 1) this.nextU32();
  }

  /** 0 to 2^32 - 1. */
  nextU32(): number {
    const out = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + out) | 0;
    return out >>> 0;
  }

  /** 0 (inclusive) to 1 (exclusive), 53 bits. */
  float(): number {
    return ((this.nextU32() >>> 5) * 0x400_0000 + (this.nextU32() >>> 6)) / 2 ** 53;
  }

  /** A whole number from 0 to `bound` - 1, for bounds up to 2^53; the bias is below bound / 2^53. */
  below(bound: number): number {
    return Math.floor(this.float() * bound);
  }

  /** An exponential draw of the given mean: the gaps of a Poisson process. */
  exponential(mean: number): number {
    return -Math.log1p(-this.float()) * mean;
  }

  /** Index of one of the weights, with probability in proportion to it. */
  weighted(weights: readonly number[]): number {
    let left = this.float() * weights.reduce((sum, weight) => sum + weight, 0);
    for (let i = 0; i < weights.length - 1; i += 1) {
      left -= weights[i] ?? 0;
      if (left < 0) return i;
    }
    return weights.length - 1;
  }
}

/** The stream of one purpose. Different (seed, purpose) give unrelated streams. */
export function stream(seed: number, purpose: string): Prng {
  return new Prng(mix32(seed), fnv1a(purpose, 0x811c_9dc5), fnv1a(purpose, 0x1234_5671));
}
