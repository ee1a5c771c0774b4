/** Stand-in for the emulator in tests of the pipeline and of the processes: a ring, a map for an arena, no kernel. */
import type {
  AccountingReport,
  DeferredUpdate,
  Emulator,
  EmulatorOptions,
  GuestOutcome,
} from '../../src/worker/emulator-api.ts';
import type { GuestPlan } from '../../src/engine/guest-plan.ts';
import { IdSet } from '../../src/worker/id-set.ts';

export class FakeEmulator implements Emulator {
  readonly threads: number;
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
  #stop = false;
  readonly #states = { running: 0, completed: 0, stopped: 0 };

  constructor(options: Pick<EmulatorOptions, 'threads'> = { threads: 1 }) {
    this.threads = options.threads;
  }

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

  /** Pushes one pair of updates per millisecond for `durationNs` (or until stopped), then ends. */
  async startGuest(plan: GuestPlan, incarnation: number, startAtMs: number): Promise<GuestOutcome> {
    const { setTimeout: pause } = await import('node:timers/promises');
    await pause(Math.max(0, startAtMs + plan.startNs / 1e6 - Date.now()));
    this.#states.running++;
    const endAt = performance.now() + (plan.durationNs ?? Infinity) / 1e6;
    let operations = 0;
    while (!this.#stop && performance.now() < endAt) {
      this.push(plan.index, 512, plan.index, incarnation);
      this.push(plan.index, -512, plan.index, incarnation);
      operations += 2;
      await pause(1);
    }
    const state = this.#stop ? 'stopped' : 'completed';
    this.#states.running--;
    this.#states[state]++;
    return { guest: plan.index, incarnation, state, operations, failedOperations: 0, lockedVmAfterPages: '0' };
  }

  stopGuests(): void {
    this.#stop = true;
  }

  snapshot(): unknown {
    return { operations: this.applied };
  }

  /** The oracle: what was applied must be what was intended. */
  quiesce(): Promise<AccountingReport> {
    const violations = [...this.intended]
      .filter(([mm, pages]) => (this.pages.get(mm) ?? 0) !== pages)
      .map(([mm, pages]) => ({
        invariant: 'balance',
        guest: mm,
        detail: `intended ${pages} pages, applied ${this.pages.get(mm) ?? 0}`,
      }));
    return Promise.resolve({ checked: this.intended.size, violationCount: violations.length, violations });
  }

  states(): { [state: string]: number } {
    return { ...this.#states };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
