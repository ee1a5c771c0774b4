/** Invariants checked at rest; the oracle checks the others while operations run. */
import type { Arena, Ref } from '../arena.ts';
import type { Oracle } from '../oracle.ts';
import { checkBalance } from './balance.ts';
import { checkMmOutlives } from './mm-outlives-process.ts';
import { checkUpdates } from './updates.ts';

/**
 * Everything that must hold when no operation runs and no update is on its way. `containers` are all that may hold
 * pages.
 */
export function checkAtRest(a: Arena, oracle: Oracle, mms: Iterable<Ref>, containers: readonly Ref[]): void {
  for (const mm of mms) {
    checkBalance(a, oracle, mm, containers);
    checkUpdates(a, oracle, mm);
    checkMmOutlives(a, oracle, mm);
  }
}
