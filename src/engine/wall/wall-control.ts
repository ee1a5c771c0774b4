/**
 * What the threads of the wall driver share beside the arena: stop flag, mailboxes for wake-ups, and the ring over
 * which failed trylocks are handed to the main thread. One SharedArrayBuffer, plain words, no locks.
 */
import type { Arena, Ref } from '../../model/arena.ts';
import { ACTOR } from '../../model/layout.ts';

const STOP = 0;
const RING_BELL = 1;
const RING_WAITING = 2;
const HEADER_WORDS = 8;
// Per thread: mailbox head, doorbell, whether it sleeps. A cache line each.
const THREAD_WORDS = 16;
const MAIL_HEAD = 0;
const BELL = 1;
const SLEEPING = 2;
const MESSAGES = 3;

// Ring cell (8-byte words): sequence u64, mm, guest, incarnation, npage, queued at, from.
const CELL = 8;

/** A failed trylock on its way to a job. */
export interface DeferredUpdate {
  /** Unique within this worker's life, dense from 1: the place in the ring's history. */
  readonly opId: number;
  /** MM ref. The update owns one of its mm_users. */
  readonly mm: Ref;
  readonly guest: number;
  readonly incarnation: number;
  /** Signed pages. */
  readonly npage: number;
  /** Monotonic ns of this process. */
  readonly queuedAtNs: number;
}

/** The same as it comes out of the ring. */
export interface RingUpdate extends DeferredUpdate {
  /** ACTOR ref: whose trylock failed. */
  readonly from: Ref;
}

export class WallControl {
  readonly #i32: Int32Array;
  readonly #f64: Float64Array;
  readonly #u64: BigUint64Array;
  readonly #ring: number;
  readonly #enqueue: number;
  readonly #dequeue: number;

  private constructor(
    readonly buffer: SharedArrayBuffer,
    readonly threads: number,
    readonly ringCells: number,
  ) {
    this.#i32 = new Int32Array(buffer);
    this.#f64 = new Float64Array(buffer);
    this.#u64 = new BigUint64Array(buffer);
    const start = (HEADER_WORDS + threads * THREAD_WORDS) >> 1;
    this.#enqueue = start;
    this.#dequeue = start + 8;
    this.#ring = start + 16;
  }

  /** `threads` counts the main thread, which is the last one. `ringCells` is a power of two. */
  static create(threads: number, ringCells: number): WallControl {
    const words8 = ((HEADER_WORDS + threads * THREAD_WORDS) >> 1) + 16 + ringCells * CELL;
    const c = new WallControl(new SharedArrayBuffer(words8 * 8), threads, ringCells);
    for (let i = 0; i < ringCells; i += 1) c.#u64[c.#ring + i * CELL] = BigInt(i);
    return c;
  }

  static attach(buffer: SharedArrayBuffer, threads: number, ringCells: number): WallControl {
    return new WallControl(buffer, threads, ringCells);
  }

  get stopping(): boolean {
    return Atomics.load(this.#i32, STOP) !== 0;
  }

  /** 1: actors end at their next operation boundary. 2: threads leave as soon as nothing of theirs runs. */
  setStop(level: 1 | 2): void {
    Atomics.store(this.#i32, STOP, level);
    for (let t = 0; t < this.threads; t += 1) this.ring(t);
  }

  get stopLevel(): number {
    return Atomics.load(this.#i32, STOP);
  }

  // ---- mailboxes

  #thread(t: number): number {
    return HEADER_WORDS + t * THREAD_WORDS;
  }

  /** Puts an actor into its thread's mailbox. Any thread may call it; an actor is in there at most once. */
  post(a: Arena, thread: number, actor: Ref): void {
    if (Atomics.compareExchange(a.i32, actor + ACTOR.wakePending, 0, 1) !== 0) return;
    const head = this.#thread(thread) + MAIL_HEAD;
    let seen = Atomics.load(this.#i32, head);
    for (;;) {
      Atomics.store(a.i32, actor + ACTOR.wakeNext, seen);
      const was = Atomics.compareExchange(this.#i32, head, seen, actor);
      if (was === seen) break;
      seen = was;
    }
    this.ring(thread);
  }

  /** Empties a thread's mailbox. The caller is that thread. */
  collect(a: Arena, thread: number, visit: (actor: Ref) => void): void {
    const head = this.#thread(thread) + MAIL_HEAD;
    if (Atomics.load(this.#i32, head) === 0) return;
    let actor = Atomics.exchange(this.#i32, head, 0);
    while (actor !== 0) {
      const next = Atomics.load(a.i32, actor + ACTOR.wakeNext);
      Atomics.store(a.i32, actor + ACTOR.wakePending, 0);
      visit(actor);
      actor = next;
    }
  }

  /** Rings a thread's bell and wakes it if it sleeps. */
  ring(thread: number): void {
    const at = this.#thread(thread);
    Atomics.add(this.#i32, at + BELL, 1);
    // One system call a sleep: whoever rings first takes the flag down.
    if (Atomics.load(this.#i32, at + SLEEPING) !== 0 && Atomics.exchange(this.#i32, at + SLEEPING, 0) !== 0) {
      Atomics.notify(this.#i32, at + BELL);
    }
  }

  /** A message waits on the thread's port. */
  announceMessage(thread: number): void {
    Atomics.store(this.#i32, this.#thread(thread) + MESSAGES, 1);
    this.ring(thread);
  }

  takeMessageFlag(thread: number): boolean {
    const at = this.#thread(thread) + MESSAGES;
    return Atomics.load(this.#i32, at) !== 0 && Atomics.exchange(this.#i32, at, 0) !== 0;
  }

  bell(thread: number): number {
    return Atomics.load(this.#i32, this.#thread(thread) + BELL);
  }

  /** Sleeps until the bell differs from `bell` or `timeoutMs` have passed. Blocks the thread. */
  sleep(thread: number, bell: number, timeoutMs: number): void {
    const at = this.#thread(thread);
    Atomics.store(this.#i32, at + SLEEPING, 1);
    Atomics.wait(this.#i32, at + BELL, bell, timeoutMs);
    Atomics.store(this.#i32, at + SLEEPING, 0);
  }

  /** The same for the main thread: a promise. */
  bellRung(thread: number, bell: number): Promise<void> {
    const at = this.#thread(thread);
    Atomics.store(this.#i32, at + SLEEPING, 1);
    return waitAsync(this.#i32, at + BELL, bell);
  }

  // ---- the hand-over ring: many producers, one consumer (bounded queue after D. Vyukov)

  /** False when the ring is full. */
  push({ mm, guest, incarnation, npage, queuedAtNs, from }: Omit<RingUpdate, 'opId'>): boolean {
    const u = this.#u64;
    let position = Atomics.load(u, this.#enqueue);
    for (;;) {
      const cell = this.#ring + (Number(position) & (this.ringCells - 1)) * CELL;
      const sequence = Atomics.load(u, cell);
      if (sequence === position) {
        const was = Atomics.compareExchange(u, this.#enqueue, position, position + 1n);
        if (was === position) {
          this.#f64[cell + 1] = mm;
          this.#f64[cell + 2] = guest;
          this.#f64[cell + 3] = incarnation;
          this.#f64[cell + 4] = npage;
          this.#f64[cell + 5] = queuedAtNs;
          this.#f64[cell + 6] = from;
          Atomics.store(u, cell, position + 1n);
          break;
        }
        position = was;
      } else if (sequence < position) {
        return false;
      } else {
        position = Atomics.load(u, this.#enqueue);
      }
    }
    Atomics.add(this.#i32, RING_BELL, 1);
    if (Atomics.load(this.#i32, RING_WAITING) !== 0 && Atomics.exchange(this.#i32, RING_WAITING, 0) !== 0) {
      Atomics.notify(this.#i32, RING_BELL);
    }
    return true;
  }

  /** Moves at most `max` updates out of the ring. Only the main thread calls it. */
  drain(max: number, out: RingUpdate[]): number {
    const u = this.#u64;
    let position = Atomics.load(u, this.#dequeue);
    let n = 0;
    while (n < max) {
      const cell = this.#ring + (Number(position) & (this.ringCells - 1)) * CELL;
      if (Atomics.load(u, cell) !== position + 1n) break;
      out.push({
        opId: Number(position) + 1,
        mm: this.#f64[cell + 1] as number,
        guest: this.#f64[cell + 2] as number,
        incarnation: this.#f64[cell + 3] as number,
        npage: this.#f64[cell + 4] as number,
        queuedAtNs: this.#f64[cell + 5] as number,
        from: this.#f64[cell + 6] as number,
      });
      Atomics.store(u, cell, position + BigInt(this.ringCells));
      position += 1n;
      n += 1;
    }
    Atomics.store(u, this.#dequeue, position);
    return n;
  }

  /** Updates handed over since the start. */
  get pushed(): number {
    return Number(Atomics.load(this.#u64, this.#enqueue));
  }

  get drained(): number {
    return Number(Atomics.load(this.#u64, this.#dequeue));
  }

  ringBell(): number {
    return Atomics.load(this.#i32, RING_BELL);
  }

  ringFilled(bell: number): Promise<void> {
    Atomics.store(this.#i32, RING_WAITING, 1);
    return waitAsync(this.#i32, RING_BELL, bell);
  }

  /** Wakes the main thread out of `ringFilled` (at the end of the run). */
  nudge(): void {
    Atomics.add(this.#i32, RING_BELL, 1);
    Atomics.notify(this.#i32, RING_BELL);
  }
}

interface WaitAsync {
  waitAsync(
    a: Int32Array,
    i: number,
    v: number,
  ): { async: false; value: string } | { async: true; value: Promise<string> };
}

async function waitAsync(words: Int32Array, index: number, value: number): Promise<void> {
  // Node 20 has Atomics.waitAsync; TypeScript's es2022 library does not know it yet.
  const w = (Atomics as unknown as WaitAsync).waitAsync(words, index, value);
  if (w.async) await w.value;
}
