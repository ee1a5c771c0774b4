/**
 * The contended loop of virtual.bench.ts: every actor repeats {work, hold the write lock of its address space, work}. `generic`
 * runs it as paths of the model on the virtual driver; `hot` is the same loop written by hand, equal actor by actor
 * (test/engine/contended.test.ts).
 *
 * All delays of the loop are constant, so the events of each kind come up in the order in which they were made: a ring per
 * kind replaces the heap. And nobody can see a lock between its owner's steps, so an acquisition says at once when the lock
 * will be free, and an uncontended chunk is one event. It shows what a hand-written form of the driver's hot loop gains; the
 * driver itself runs contended loops as paths.
 */
import { StatsBlock } from '../src/metrics/stats.ts';
import { statsLayout } from '../src/engine/stats-layout.ts';
import { newActor } from '../src/engine/guest.ts';
import { VirtualActor, VirtualHost } from '../src/engine/virtual.ts';
import { AddressSpace } from '../src/model/address-space.ts';
import { Arena, capacityFor, type Ref } from '../src/model/arena.ts';
import type { Path } from '../src/model/env.ts';
import { resolveVariant } from '../src/model/kernels/index.ts';
import { mmNew } from '../src/model/mm.ts';
import { Oracle } from '../src/model/oracle.ts';
import { downWrite, upWrite } from '../src/model/rwsem.ts';
import { S, STEP_NAMES } from '../src/model/steps.ts';

export interface Contended {
  readonly actors: number;
  readonly untilNs: number;
}

export const BEFORE_NS = 15_360;
export const HOLD_NS = 20;
export const AFTER_NS = 200;
export const SPIN_NS = 30;
/** work, down_write, hold, up_write, work. */
const STEPS_PER_CHUNK = 5;

export function generic({ actors, untilNs }: Contended): { chunks: number; steps: number; perActor: number[] } {
  const arena = Arena.create(capacityFor({ guests: actors, actorsPerGuest: 2, mappingsPerGuest: 1 }), false);
  const variant = resolveVariant('E');
  const costNs = new Float64Array(STEP_NAMES.length);
  costNs[S.UserWork] = BEFORE_NS;
  costNs[S.LockedVmWrite] = HOLD_NS;
  costNs[S.Mmput] = AFTER_NS;
  const layout = statsLayout({ thresholds: [] });
  const virtual = new VirtualHost({
    arena,
    stats: new StatsBlock(layout, new ArrayBuffer(layout.bytes)),
    variant,
    oracle: new Oracle(arena),
    addressSpace: new AddressSpace(arena, variant.gup),
    costNs,
    host: { cpus: null, sliceNs: 3e6, wakeUpNs: 5000, spinNs: SPIN_NS, lineNs: 0, memoryNs: 0, workMaxActive: 256 },
    onMark: () => {},
    onMapped: () => {},
    onEnd: () => {},
    onSettled: () => {},
  });
  const locks: Ref[] = Array.from({ length: Math.max(1, actors >> 2) }, (_, i) => mmNew(arena, i));
  const perActor = Array.from({ length: actors }, () => 0);
  function* loop(k: VirtualActor, mm: Ref, n: number): Path<void> {
    for (;;) {
      if (k.at(S.UserWork, 0)) yield;
      if (k.localNs >= untilNs) return;
      yield* downWrite(k, mm);
      if (k.at(S.LockedVmWrite, mm)) yield;
      if (k.at(S.UpWrite, mm)) yield;
      upWrite(k, mm);
      perActor[n] = (perActor[n] as number) + 1;
      if (k.at(S.Mmput, mm)) yield;
    }
  }
  for (let n = 0; n < actors; n += 1) {
    const k = new VirtualActor(virtual, newActor(arena, 0, 0), 0, -1, 0, null);
    virtual.add(k, loop(k, locks[n % locks.length] as Ref, n), 0);
  }
  virtual.host.run();
  const chunks = perActor.reduce((sum, n) => sum + n, 0);
  return { chunks, steps: chunks * STEPS_PER_CHUNK, perActor };
}

/** Events of one kind, oldest first: whose, when, and the place in the total order. */
class Ring {
  readonly #actor: Int32Array;
  readonly #ns: Float64Array;
  readonly #sequence: Float64Array;
  readonly #mask: number;
  #head = 0;
  #tail = 0;

  constructor(actors: number) {
    const cells = 2 ** Math.ceil(Math.log2(actors + 1));
    this.#mask = cells - 1;
    this.#actor = new Int32Array(cells);
    this.#ns = new Float64Array(cells).fill(Number.POSITIVE_INFINITY);
    this.#sequence = new Float64Array(cells);
  }

  push(actor: number, ns: number, sequence: number): void {
    const at = this.#tail;
    this.#actor[at] = actor;
    this.#ns[at] = ns;
    this.#sequence[at] = sequence;
    this.#tail = (at + 1) & this.#mask;
  }

  get ns(): number {
    return this.#ns[this.#head] as number;
  }

  get sequence(): number {
    return this.#sequence[this.#head] as number;
  }

  pop(): number {
    const at = this.#head;
    this.#ns[at] = Number.POSITIVE_INFINITY;
    this.#head = (at + 1) & this.#mask;
    return this.#actor[at] as number;
  }
}

export function hot({ actors, untilNs }: Contended): { chunks: number; steps: number; perActor: number[] } {
  const locks = Math.max(1, actors >> 2);
  const freeNs = new Float64Array(locks).fill(-1);
  /** First actor that spins on each lock, -1 none, and who comes after each actor. */
  const first = new Int32Array(locks).fill(-1);
  const last = new Int32Array(locks).fill(-1);
  const next = new Int32Array(actors).fill(-1);
  const done = new Int32Array(actors);
  /** The first spinner of the lock has a try coming up. */
  const trying = new Uint8Array(locks);
  const arrivals = new Ring(actors);
  const tries = new Ring(actors);
  let sequence = 0;
  for (let n = 0; n < actors; n += 1) arrivals.push(n, BEFORE_NS, (sequence += 1));
  for (;;) {
    const arrivalNs = arrivals.ns;
    const tryNs = tries.ns;
    const isTry = tryNs < arrivalNs || (tryNs === arrivalNs && tries.sequence < arrivals.sequence);
    const now = isTry ? tryNs : arrivalNs;
    if (now === Number.POSITIVE_INFINITY) break;
    const n = isTry ? tries.pop() : arrivals.pop();
    // An actor ends at the first arrival past the end.
    if (!isTry && now >= untilNs) continue;
    const lock = n % locks;
    const busyUntilNs = freeNs[lock] as number;
    if (isTry) trying[lock] = 0;
    // A release comes after an arrival of the same instant, which was made earlier; a try is made by the release.
    if (isTry ? now < busyUntilNs : now <= busyUntilNs) {
      if (isTry) {
        // Somebody was faster: the first in line tries again when that one is done.
        trying[lock] = 1;
        tries.push(n, busyUntilNs + SPIN_NS, (sequence += 1));
        continue;
      }
      if (first[lock] === -1) first[lock] = n;
      else next[last[lock] as number] = n;
      last[lock] = n;
      if (first[lock] === n && trying[lock] === 0) {
        trying[lock] = 1;
        tries.push(n, busyUntilNs + SPIN_NS, (sequence += 1));
      }
      continue;
    }
    if (isTry) {
      first[lock] = next[n] as number;
      next[n] = -1;
    }
    const releaseNs = now + HOLD_NS;
    freeNs[lock] = releaseNs;
    done[n] = (done[n] as number) + 1;
    const spinner = first[lock] as number;
    if (spinner !== -1 && trying[lock] === 0) {
      trying[lock] = 1;
      tries.push(spinner, releaseNs + SPIN_NS, (sequence += 1));
    }
    arrivals.push(n, releaseNs + AFTER_NS + BEFORE_NS, (sequence += 1));
  }
  const perActor = [...done];
  const chunks = perActor.reduce((sum, n) => sum + n, 0);
  return { chunks, steps: chunks * STEPS_PER_CHUNK, perActor };
}
