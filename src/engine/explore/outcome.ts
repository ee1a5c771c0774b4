/** How an execution ended, and whether the case allows that. */
import type { AllowedOutcome } from './case.ts';

export interface Outcome {
  readonly results: Readonly<Record<string, readonly string[]>>;
  /** Of the first actor's address space; null when it has none any more. */
  readonly lockedVmPages: bigint | null;
  /** By type1 and by iommufd; a page pinned twice counts twice, but once within one object of iommufd. */
  readonly pinnedPages: number;
  /** Charged to the first actor's user, by a variant that charges users; null for the others. */
  readonly userLockedVmPages: bigint | null;
}

export function isAllowed(found: Outcome, allowed: AllowedOutcome): boolean {
  if (allowed.pinnedPages !== undefined && allowed.pinnedPages !== found.pinnedPages) return false;
  if (allowed.userLockedVmPages !== undefined && found.userLockedVmPages !== BigInt(allowed.userLockedVmPages))
    return false;
  if (allowed.lockedVmPages !== undefined && found.lockedVmPages !== BigInt(allowed.lockedVmPages)) return false;
  for (const [actor, results] of Object.entries(allowed.results ?? {})) {
    if (found.results[actor]?.join() !== results.join()) return false;
  }
  return true;
}

/** `mapper: OK, ENOMEM; locked_vm 2, pinned 2`; with iommufd also the count of the user that is charged. */
export function outcomeText(o: Outcome): string {
  const results = Object.entries(o.results).map(([name, list]) => `${name}: ${list.join(', ') || '-'}`);
  const user = o.userLockedVmPages === null ? '' : `, user's locked_vm ${o.userLockedVmPages}`;
  return [...results, `locked_vm ${o.lockedVmPages ?? '-'}${user}, pinned ${o.pinnedPages}`].join('; ');
}
