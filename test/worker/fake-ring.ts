/** Stand-in for the emulator in tests of the deferred pipeline: a ring, and a map for an arena. */
import type { DeferredPort } from '../../src/emulator/emulator.ts';
import type { DeferredUpdate } from '../../src/engine/wall/wall-control.ts';
import { IdSet } from '../../src/emulator/id-set.ts';

export class FakeRing implements DeferredPort {
  /** Pages applied, by mm. */
  readonly pages = new Map<number, number>();
  readonly intended = new Map<number, number>();
  readonly ring: DeferredUpdate[] = [];
  applied = 0;
  discarded = 0;
  duplicates = 0;
  /** The planted bug: forget which operation ids were applied. */
  checkIds = true;
  /** When set, each apply waits for this first, like a held mmap_sem. */
  hold: Promise<void> | undefined;
  readonly #ids = new IdSet(1);
  #nextId = 1;
  #doorbell: () => void = () => {};

  push(mm: number, npage: number, guest = 0, incarnation = 1): void {
    const queuedAtNs = Number(process.hrtime.bigint());
    this.ring.push({ opId: this.#nextId++, mm, guest, incarnation, npage, queuedAtNs });
    this.intended.set(mm, (this.intended.get(mm) ?? 0) + npage);
    if (this.ring.length === 1) queueMicrotask(() => this.#doorbell());
  }

  drainDeferred(max: number, out: DeferredUpdate[]): number {
    const taken = this.ring.splice(0, max);
    out.push(...taken);
    return taken.length;
  }

  onDeferred(callback: () => void): void {
    this.#doorbell = callback;
  }

  applyDeferred(update: DeferredUpdate): boolean | Promise<boolean> {
    if (!this.#ids.add(update.opId) && this.checkIds) {
      this.duplicates++;
      return false;
    }
    if (this.hold === undefined) return this.#apply(update);
    return this.hold.then(() => this.#apply(update));
  }

  #apply(update: DeferredUpdate): boolean {
    this.applied++;
    this.pages.set(update.mm, (this.pages.get(update.mm) ?? 0) + update.npage);
    return true;
  }

  discardDeferred(): void {
    this.discarded++;
  }

  /** The oracle: address spaces where what was applied is not what was intended. */
  violations(): number[] {
    return [...this.intended].filter(([mm, pages]) => (this.pages.get(mm) ?? 0) !== pages).map(([mm]) => mm);
  }
}
