/**
 * The oracle: the exact ledger of pages really pinned, kept beside the model and never visible to it. Kernel paths tell
 * it what happens; nothing flows back. It judges by the invariants alone and knows no defect by name.
 *
 * Ledger of one address space:
 *   committed   pages of finished operations that are still held (mlock apart: MM.mlockedPages)
 *   in flight   pages asked for by operations that have not returned, and pages of unfinished unmaps
 * so committed + in flight + mlocked is an upper bound of what any honest account may show at this moment.
 */
import type { Arena, Ref } from './arena.ts';
import { CONTAINER, MM, USER, type Field } from './layout.ts';
import { isWrapped, lockedVm } from './locked-vm.ts';

export const INVARIANTS = [
  'balance',
  'limit-bypass',
  'over-penalty',
  'wrap',
  'lost-update',
  'double-update',
  'leak-at-release',
  'mm-outlives-process',
] as const;
export type InvariantName = (typeof INVARIANTS)[number];

export interface Violation {
  readonly invariant: InvariantName;
  readonly guest: number;
  readonly mm: Ref;
  /** One line: what the account shows and what is true. */
  readonly detail: string;
}

/** The limit of a task with CAP_IPC_LOCK. */
export const NO_LIMIT = 1n << 62n;

/** Keeps the first violations whole and counts the rest. */
export class Oracle {
  readonly counts: Record<InvariantName, number> = {
    balance: 0,
    'limit-bypass': 0,
    'over-penalty': 0,
    wrap: 0,
    'lost-update': 0,
    'double-update': 0,
    'leak-at-release': 0,
    'mm-outlives-process': 0,
  };
  readonly violations: Violation[] = [];
  /** Called on each violation, before the path goes on. */
  onViolation: ((v: Violation) => void) | null = null;

  constructor(
    private readonly arena: Arena,
    /** Violations kept whole; all are counted. */
    private readonly keepMax = 64,
  ) {}

  report(invariant: InvariantName, mm: Ref, detail: string): void {
    this.reportFor(invariant, this.arena.get(mm, MM.guest), mm, detail);
  }

  /** The same where the mm may be gone. */
  reportFor(invariant: InvariantName, guest: number, mm: Ref, detail: string): void {
    const v: Violation = { invariant, guest, mm, detail };
    this.counts[invariant] += 1;
    if (this.violations.length < this.keepMax) this.violations.push(v);
    this.onViolation?.(v);
  }

  /**
   * An operation begins that may come to hold up to `pages` more pages of `mm`; `limitPages` is what its caller may
   * lock, NO_LIMIT with CAP_IPC_LOCK. The result is for `end`.
   */
  begin(mm: Ref, pages: number, limitPages?: bigint): number {
    const a = this.arena;
    a.lock(mm + MM.oracleLatch);
    this.#plus(mm, MM.ledgerInFlight, pages);
    if (limitPages !== undefined) {
      const known = a.getU64(mm, MM.ledgerLimit);
      if (known !== 0n && known !== limitPages + 1n) a.set(mm, MM.ledgerMixed, 1);
      a.setU64(mm, MM.ledgerLimit, limitPages + 1n);
    }
    const exempt = a.get(mm, MM.ledgerExempt);
    a.unlock(mm + MM.oracleLatch);
    return exempt;
  }

  /**
   * The operation is over and holds `held` of the `asked` pages. `limitPages` is what the caller may lock and `bypass`
   * whether it is exempt: an operation that ends with more committed than that has got past the limit. `judge`: whether
   * it got anything. With `began` (what `begin` returned) and callers of different limits, it does not answer for what
   * others may have got meanwhile.
   */
  end(
    mm: Ref,
    asked: number,
    held: number,
    limitPages: bigint,
    bypass: boolean,
    began?: number,
    judge = held > 0,
  ): void {
    const a = this.arena;
    const latch = mm + MM.oracleLatch;
    a.lock(latch);
    this.#plus(mm, MM.ledgerInFlight, -asked);
    this.#plus(mm, MM.ledgerCommitted, held);
    const committed = a.get(mm, MM.ledgerCommitted);
    let others = 0;
    if (a.get(mm, MM.ledgerMixed) === 1) {
      if (began !== undefined) {
        others = a.get(mm, MM.ledgerExempt) - began + a.get(mm, MM.ledgerInFlight);
      }
      this.#plus(mm, MM.ledgerExempt, asked);
    }
    a.unlock(latch);
    if (bypass || !judge) return;
    const total = BigInt(committed) + this.#mlocked(mm);
    if (total - BigInt(others) > limitPages) {
      this.report('limit-bypass', mm, `${total} pages are held under a limit of ${limitPages}`);
    }
  }

  /** An unmap begins: its pages count as held until it returns. */
  beginRelease(mm: Ref, pages: number): void {
    this.#add(mm, MM.ledgerInFlight, pages);
    this.#add(mm, MM.ledgerCommitted, -pages);
  }

  endRelease(mm: Ref, pages: number): void {
    this.#add(mm, MM.ledgerInFlight, -pages);
  }

  /** Pages begin (or, negative, cease) to count on their own because the container lost (or got) its IOMMU domain. */
  recommit(mm: Ref, pages: number): void {
    this.#add(mm, MM.ledgerCommitted, pages);
  }

  /** Moves committed pages between address spaces (vaddr update). */
  move(from: Ref, to: Ref, pages: number): void {
    this.#add(from, MM.ledgerCommitted, -pages);
    this.#add(to, MM.ledgerCommitted, pages);
  }

  /**
   * A request of pages (already in flight, `alreadyHeld` of them also held) was refused by the limit. If everything
   * that could be held, this request included, fits, the refusal was wrong: pages are paid for that nobody holds.
   */
  refused(mm: Ref, limitPages: bigint, alreadyHeld = 0): void {
    const a = this.arena;
    const latch = mm + MM.oracleLatch;
    a.lock(latch);
    const upper = a.get(mm, MM.ledgerCommitted) + a.get(mm, MM.ledgerInFlight) - alreadyHeld;
    a.unlock(latch);
    const total = BigInt(upper) + this.#mlocked(mm);
    if (total <= limitPages) {
      this.report(
        'over-penalty',
        mm,
        `refused at locked_vm ${show(lockedVm(a, mm))} of ${limitPages} pages though at most ${total} can be in use`,
      );
    }
  }

  /** locked_vm was changed by a decrement. */
  decremented(mm: Ref): void {
    const v = lockedVm(this.arena, mm);
    if (isWrapped(v)) this.report('wrap', mm, `locked_vm went below zero: ${show(v)}`);
  }

  /**
   * iommufd has pinned (or, negative, unpinned) pages it accounts for; `user` is whose expense they are, 0 nobody's,
   * and `inLockedVm` whether they belong in the mm's locked_vm.
   */
  iommufdPinned(mm: Ref, user: Ref, inLockedVm: boolean, pages: number): void {
    this.#add(mm, MM.ledgerPinnedVm, pages);
    if (inLockedVm) this.#add(mm, MM.ledgerIommufd, pages);
    if (user !== 0) this.#addUser(user, USER.ledgerPinned, pages);
  }

  /** A charge of `pages` pages to a user was accepted under `limitPages`, or (negative) taken back. */
  userCharged(user: Ref, mm: Ref, pages: number, limitPages: bigint): void {
    const total = this.#addUser(user, USER.ledgerCharged, pages);
    if (pages > 0 && BigInt(total) > limitPages) {
      this.report('limit-bypass', mm, `its user is charged ${total} pages under a limit of ${limitPages}`);
    }
  }

  /** A charge of `pages` pages to a user was refused. */
  userRefused(user: Ref, mm: Ref, pages: number, limitPages: bigint): void {
    const total = this.#addUser(user, USER.ledgerCharged, 0) + pages;
    if (BigInt(total) <= limitPages) {
      this.report(
        'over-penalty',
        mm,
        `its user was refused ${pages} pages though that makes ${total} of ${limitPages}`,
      );
    }
  }

  #addUser(user: Ref, field: Field, by: number): number {
    this.arena.lock(user + USER.oracleLatch);
    const sum = this.arena.get(user, field) + by;
    this.arena.set(user, field, sum);
    this.arena.unlock(user + USER.oracleLatch);
    return sum;
  }

  /**
   * The backend of a container has been released: every reference that was taken for its mappings has been put. Its
   * charges are the balance's business, which no longer has a mapping to set against what is left of them.
   */
  released(container: Ref): void {
    const a = this.arena;
    const pages = a.get(container, CONTAINER.ledgerPins);
    if (pages === 0) return;
    const guest = a.get(container, CONTAINER.ledgerGuest);
    const mm = a.get(container, CONTAINER.ledgerMm);
    const what = pages > 0 ? `${pages} page references were never put` : `${-pages} pages were put that nobody held`;
    this.reportFor('leak-at-release', guest, mm, `the container is released, ${what}`);
  }

  /** An update is deferred; from here on it must be applied exactly once. */
  deferredQueued(mm: Ref, npage: number): void {
    const latch = mm + MM.oracleLatch;
    this.arena.lock(latch);
    this.#plus(mm, MM.deferredQueued, 1);
    this.#plus(mm, MM.deferredQueuedPages, npage);
    this.arena.unlock(latch);
  }

  deferredApplied(mm: Ref, npage: number): void {
    const latch = mm + MM.oracleLatch;
    this.arena.lock(latch);
    this.#plus(mm, MM.deferredApplied, 1);
    this.#plus(mm, MM.deferredAppliedPages, npage);
    this.arena.unlock(latch);
  }

  #mlocked(mm: Ref): bigint {
    return this.arena.getU64(mm, MM.mlockedPages);
  }

  #add(mm: Ref, field: Field, by: number): void {
    this.arena.lock(mm + MM.oracleLatch);
    this.#plus(mm, field, by);
    this.arena.unlock(mm + MM.oracleLatch);
  }

  #plus(mm: Ref, field: Field, by: number): void {
    this.arena.add(mm, field, by);
  }
}

/** locked_vm for people: a wrapped value as the kernel prints it, with the negative it stands for. */
export function show(v: bigint): string {
  return isWrapped(v) ? `${v} (that is ${BigInt.asIntN(64, v)})` : `${v}`;
}
