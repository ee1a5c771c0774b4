/** At rest every deferred update has been applied, exactly once. */
import type { Arena, Ref } from '../arena.ts';
import { MM } from '../layout.ts';
import type { Oracle } from '../oracle.ts';

export function checkUpdates(a: Arena, oracle: Oracle, mm: Ref): void {
  const queued = a.get(mm, MM.deferredQueued);
  const applied = a.get(mm, MM.deferredApplied);
  if (applied < queued) oracle.report('lost-update', mm, `${queued} updates were deferred, ${applied} were applied`);
  if (applied > queued) oracle.report('double-update', mm, `${queued} updates were deferred, ${applied} were applied`);
}
