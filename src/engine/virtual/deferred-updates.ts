import type { Ref } from '../../model/arena.ts';

/** Deferred updates of an emulated host that are queued and not yet applied. */
export class DeferredUpdates {
  backlog = 0;
  backlogMax = 0;
  readonly #byMm = new Map<Ref, number>();

  /** Of an address space. */
  of(mm: Ref): number {
    return this.#byMm.get(mm) ?? 0;
  }

  queued(mm: Ref): void {
    this.#byMm.set(mm, this.of(mm) + 1);
    this.backlog += 1;
    if (this.backlog > this.backlogMax) this.backlogMax = this.backlog;
  }

  /** Whether it was the last one of its address space. */
  applied(mm: Ref): boolean {
    this.backlog -= 1;
    const left = this.of(mm) - 1;
    if (left > 0) this.#byMm.set(mm, left);
    else this.#byMm.delete(mm);
    return left <= 0;
  }
}
