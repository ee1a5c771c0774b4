/**
 * The node's kworkers: each is an actor of the model that runs vfio_lock_acct_bg. At a pace it does so on the thread of
 * the guest, in the guest's model time. At pace 0, where there is none, it runs on the main thread and races with the
 * guest: where the lock is free that is one synchronous call, otherwise it waits in the lock's queue like any other
 * actor and goes on when its mailbox rings.
 */
import { newActor } from '../engine/guest.ts';
import { WallActor, type WallShared } from '../engine/wall/wall-actor.ts';
import type { DeferredUpdate } from '../engine/wall/wall-control.ts';
import { DEFERRED_LOCK_WAIT, DEFERRED_SETTLE } from '../metrics/ops.ts';
import type { Ref } from '../model/arena.ts';
import type { Path } from '../model/env.ts';
import { ACTOR } from '../model/layout.ts';
import { vfioLockAcctBg } from '../model/paths/work.ts';

interface Running {
  readonly update: DeferredUpdate;
  readonly done: () => void;
  /** What it does on the main thread; null for one on the thread of a guest. */
  readonly here: { readonly worker: WallActor; readonly path: Path<void>; readonly startNs: number } | null;
}

const nowNs = (): number => Number(process.hrtime.bigint());

export class KWorkers {
  readonly #idle: Ref[] = [];
  readonly #running = new Map<Ref, Running>();
  readonly #waiting: (() => void)[] = [];
  #closed = false;

  constructor(
    private readonly shared: WallShared,
    workers: number,
    /** Has the actor `worker` apply the update on the thread of its guest, which calls `applied`; null: main thread. */
    private readonly hand: ((worker: Ref, update: DeferredUpdate) => void) | null,
  ) {
    for (let i = 0; i < workers; i += 1) this.#idle.push(newActor(shared.arena, 0, shared.thread));
    void this.#listen();
  }

  /** Applies an update. Undefined when it was done at once, otherwise a promise. */
  apply(update: DeferredUpdate): void | Promise<void> {
    const ref = this.#idle.pop();
    if (ref === undefined) {
      return new Promise<void>((resolve) => this.#waiting.push(resolve)).then(() => this.apply(update));
    }
    if (this.hand !== null) {
      this.hand(ref, update);
      return new Promise<void>((done) => this.#running.set(ref, { update, done, here: null }));
    }
    const startNs = nowNs();
    const worker = new WallActor(this.shared, ref, 0, -1, 0, 0, null);
    worker.horizonNs = Infinity;
    worker.localNs = worker.clockNs();
    const path = vfioLockAcctBg(worker, update.mm, update.npage);
    if (path.next().done === true) {
      this.#appliedHere(ref, update, startNs);
      return;
    }
    return new Promise<void>((done) => {
      this.#running.set(ref, { update, done, here: { worker, path, startNs } });
    });
  }

  /** The update of a worker that was handed over has been applied. */
  applied(ref: Ref): void {
    const running = this.#running.get(ref);
    if (running === undefined) return;
    this.#running.delete(ref);
    this.#settled(ref, running.update);
    running.done();
  }

  close(): void {
    this.#closed = true;
    this.shared.control.ring(this.shared.thread);
  }

  #appliedHere(ref: Ref, update: DeferredUpdate, startNs: number): void {
    this.shared.stats.record(DEFERRED_LOCK_WAIT, nowNs() - startNs, 1);
    this.#settled(ref, update);
  }

  #settled(ref: Ref, update: DeferredUpdate): void {
    const now = nowNs();
    this.shared.stats.record(DEFERRED_SETTLE, now - update.queuedAtNs, 1);
    this.#idle.push(ref);
    this.#waiting.shift()?.();
  }

  async #listen(): Promise<void> {
    const { control, arena, thread } = this.shared;
    while (!this.#closed) {
      const bell = control.bell(thread);
      control.collect(arena, thread, (ref) => this.#resume(ref));
      await control.bellRung(thread, bell);
    }
  }

  #resume(ref: Ref): void {
    const running = this.#running.get(ref);
    if (running === undefined || running.here === null) return;
    const { update, done, here } = running;
    here.worker.localNs = Math.max(here.worker.localNs, this.shared.arena.get(ref, ACTOR.wokenAt));
    if (here.path.next().done !== true) return;
    this.#running.delete(ref);
    this.#appliedHere(ref, update, here.startNs);
    done();
  }
}
