/**
 * The arena: one buffer, one pool per structure. A ref is the index of a structure's first 32-bit word; 0 is NULL.
 *
 * Pools have a fixed capacity chosen at creation; a freed structure goes on its pool's free list. The same code serves
 * an ArrayBuffer (virtual, explore: one thread) and a SharedArrayBuffer (wall: many threads), where the free list is
 * guarded by a latch. The operating system commits a page of the buffer only when it is first touched, so generous
 * capacities cost address space, not memory.
 */
import { F64_FIELD, STRUCTS, STRUCT_NAMES, word64, type Field, type StructName, type U64Field } from './layout.ts';

export type Ref = number;
export type Capacity = Record<StructName, number>;

// Header: word 0 is never a valid ref; per pool four words {latch, freeHead, bump, live}.
const POOL_WORDS = 4;
const POOL_LATCH = 0;
const POOL_FREE = 1;
const POOL_BUMP = 2;
const POOL_LIVE = 3;
/** Looks at a taken latch before its waiter sleeps, and for how long it then does. */
const SPINS_MAX = 500;
const LATCH_NAP_MS = 0.05;
/** Words shared by everybody: run-wide counters of the model. */
export const SHARED = {
  opSequence: 0,
  workQueued: 4,
  workApplied: 6,
  workLatch: 8,
  WORDS: 16,
} as const;
const HEADER_START = 2;
const POOLS_START = HEADER_START + SHARED.WORDS;

/** Thrown when a pool is full: the capacity of the arena, not a modelled allocation failure. */
export class ArenaFullError extends Error {
  constructor(
    readonly pool: StructName,
    readonly capacity: number,
  ) {
    super(`the arena's pool of ${pool} is full (capacity ${capacity})`);
    this.name = 'ArenaFullError';
  }
}

export class Arena {
  readonly i32: Int32Array;
  readonly f64: Float64Array;
  readonly u64: BigUint64Array;
  readonly #base: Record<StructName, number>;
  readonly #capacity: Capacity;
  readonly #pool: Record<StructName, number>;

  private constructor(
    readonly buffer: ArrayBufferLike,
    capacity: Capacity,
  ) {
    this.i32 = new Int32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.u64 = new BigUint64Array(buffer);
    this.#capacity = capacity;
    const { base, pool } = place(capacity);
    this.#base = base;
    this.#pool = pool;
  }

  /** A new arena. `shared` selects a SharedArrayBuffer. */
  static create(capacity: Capacity, shared: boolean): Arena {
    const { words } = place(capacity);
    if (words > ARENA_WORDS_MAX)
      throw new RangeError(`an arena of ${words} words: it holds at most ${ARENA_WORDS_MAX}`);
    const bytes = words * 4;
    return new Arena(shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes), capacity);
  }

  /** The same arena seen from another thread. `capacity` must be what it was created with. */
  static attach(buffer: ArrayBufferLike, capacity: Capacity): Arena {
    return new Arena(buffer, capacity);
  }

  /** The value of an `i32` or `f64` field. */
  get(ref: Ref, field: Field): number {
    return (field < F64_FIELD ? this.i32[ref + field] : this.f64[word64(ref, field)]) as number;
  }

  set(ref: Ref, field: Field, value: number): void {
    if (field < F64_FIELD) this.i32[ref + field] = value;
    else this.f64[word64(ref, field)] = value;
  }

  /** field += by, not atomic. */
  add(ref: Ref, field: Field, by: number): void {
    this.set(ref, field, this.get(ref, field) + by);
  }

  getU64(ref: Ref, field: U64Field): bigint {
    return this.u64[word64(ref, field)] as bigint;
  }

  /** Stores `value` modulo 2^64. */
  setU64(ref: Ref, field: U64Field, value: bigint): void {
    this.u64[word64(ref, field)] = value;
  }

  addU64(ref: Ref, field: U64Field, by: bigint): void {
    this.setU64(ref, field, this.getU64(ref, field) + by);
  }

  get capacity(): Capacity {
    return this.#capacity;
  }

  /** Words [start, end) of the run-wide counters. */
  shared(word: number): number {
    return HEADER_START + word;
  }

  /** Allocates and zeroes one structure. @throws ArenaFullError. */
  alloc(kind: StructName): Ref {
    const pool = this.#pool[kind];
    const words = STRUCTS[kind].WORDS;
    this.lock(pool + POOL_LATCH);
    let ref = this.i32[pool + POOL_FREE] as number;
    if (ref !== 0) {
      this.i32[pool + POOL_FREE] = this.i32[ref] as number;
    } else {
      const n = this.i32[pool + POOL_BUMP] as number;
      if (n >= this.#capacity[kind]) {
        this.unlock(pool + POOL_LATCH);
        throw new ArenaFullError(kind, this.#capacity[kind]);
      }
      this.i32[pool + POOL_BUMP] = n + 1;
      ref = this.#base[kind] + n * words;
    }
    this.i32[pool + POOL_LIVE] = (this.i32[pool + POOL_LIVE] as number) + 1;
    this.unlock(pool + POOL_LATCH);
    this.i32.fill(0, ref, ref + words);
    return ref;
  }

  free(kind: StructName, ref: Ref): void {
    const pool = this.#pool[kind];
    this.lock(pool + POOL_LATCH);
    this.i32[ref] = this.i32[pool + POOL_FREE] as number;
    this.i32[pool + POOL_FREE] = ref;
    this.i32[pool + POOL_LIVE] = (this.i32[pool + POOL_LIVE] as number) - 1;
    this.unlock(pool + POOL_LATCH);
  }

  /** Structures of a kind in use. */
  live(kind: StructName): number {
    return Atomics.load(this.i32, this.#pool[kind] + POOL_LIVE);
  }

  /** A dense index of a structure within its pool, for tables kept beside the arena. */
  indexOf(kind: StructName, ref: Ref): number {
    return (ref - this.#base[kind]) / STRUCTS[kind].WORDS;
  }

  refAt(kind: StructName, index: number): Ref {
    return this.#base[kind] + index * STRUCTS[kind].WORDS;
  }

  /** How many structures of a kind were ever handed out: refs with a smaller index have been in use. */
  highWater(kind: StructName): number {
    return Atomics.load(this.i32, this.#pool[kind] + POOL_BUMP);
  }

  /**
   * A spinlock on one word, for critical sections of a few instructions that never contain a step. Holders leave within
   * nanoseconds unless the operating system has preempted them: then spinning would burn the very slice they wait for,
   * so after a while the waiter sleeps.
   */
  lock(word: number): void {
    while (Atomics.compareExchange(this.i32, word, 0, 1) !== 0) {
      for (let spins = 0; Atomics.load(this.i32, word) !== 0; spins += 1) {
        if (spins >= SPINS_MAX) {
          Atomics.wait(this.i32, word, 1, LATCH_NAP_MS);
          break;
        }
      }
    }
  }

  unlock(word: number): void {
    Atomics.store(this.i32, word, 0);
  }
}

/** An index of a word is an i32. */
export const ARENA_WORDS_MAX = 2 ** 31 - 1;

/** Words of an arena of that capacity, also where there can be none. */
export const arenaWords = (capacity: Capacity): number => place(capacity).words;

/** The next multiple of 16 words, a line of the cache, also beyond 2^31. */
const aligned = (at: number): number => Math.ceil(at / 16) * 16;

function place(capacity: Capacity): {
  base: Record<StructName, number>;
  pool: Record<StructName, number>;
  words: number;
} {
  const base = {} as Record<StructName, number>;
  const pool = {} as Record<StructName, number>;
  let at = POOLS_START;
  for (const kind of STRUCT_NAMES) {
    pool[kind] = at;
    at += POOL_WORDS;
  }
  at = aligned(at);
  for (const kind of STRUCT_NAMES) {
    base[kind] = at;
    at += capacity[kind] * STRUCTS[kind].WORDS;
    at = aligned(at);
  }
  return { base, pool, words: at };
}

/** Capacities for `guests` guests of `actors` actors and `mappings` mappings each, with room to spare. */
export function capacityFor(p: {
  guests: number;
  actorsPerGuest: number;
  processesPerGuest?: number;
  containersPerGuest?: number;
  mappingsPerGuest: number;
  segmentsPerGuest?: number;
  pinnedPagesPerGuest?: number;
  extraActors?: number;
}): Capacity {
  const processes = p.processesPerGuest ?? 2;
  const actors = p.guests * p.actorsPerGuest + (p.extraActors ?? 16);
  return {
    mm: p.guests * processes + 8,
    task: actors + p.guests * processes,
    process: p.guests * processes + 8,
    files: p.guests * processes + 8,
    user: p.guests + 8,
    container: p.guests * (p.containersPerGuest ?? 1) + 8,
    group: p.guests * (p.containersPerGuest ?? 1) + 8,
    dma: p.guests * p.mappingsPerGuest + 64,
    chunk: p.guests * p.mappingsPerGuest * 2 + 256,
    pages: p.guests * p.mappingsPerGuest + 64,
    vpfn: p.guests * (p.pinnedPagesPerGuest ?? 0) + 64,
    seg: p.guests * (p.segmentsPerGuest ?? 64) + 256,
    vwork: actors * 64 + 1024,
    actor: actors,
  };
}
