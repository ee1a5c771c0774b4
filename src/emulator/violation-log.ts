import type { Violation } from '../model/oracle.ts';
import type { AccountingReport } from './emulator.ts';

/** Violations kept whole, of each invariant; the rest are counted. */
const VIOLATIONS_KEPT = 10;

/** What the oracles of a process found. */
export class ViolationLog {
  /** By invariant. */
  readonly counts = new Map<string, number>();
  readonly #kept: Violation[] = [];

  count(invariant: string, n: number): void {
    this.counts.set(invariant, (this.counts.get(invariant) ?? 0) + n);
  }

  /** The first few of each invariant are kept whole. */
  keep(v: Violation): void {
    if (this.#kept.filter((x) => x.invariant === v.invariant).length < VIOLATIONS_KEPT) this.#kept.push(v);
  }

  report(): Omit<AccountingReport, 'checked'> {
    let violationCount = 0;
    for (const n of this.counts.values()) violationCount += n;
    return { violationCount, violations: this.#kept };
  }
}
