/** The sentences of a summary that say why the account is as it is. */
import type { Accounting, AccountPolicy } from './results.ts';
import { missingDeferred } from './verdict.ts';

/** The default of the module parameter; emulated hosts do not change it. */
const DMA_ENTRY_LIMIT = 65_535;
/** Of a run directory that does not tell: type1, which waits for the lock. */
const UNKNOWN: AccountPolicy = { update: 'waits', charged: 'locked_vm', users: 0, largest: null };

/** `policy` is that of the run's variant; undefined in run directories of earlier versions. */
export function explain(
  accounting: Accounting,
  counters: Readonly<Record<string, number>>,
  policy: AccountPolicy = UNKNOWN,
): string {
  const refusals = accounting.limitRefusals;
  const full = counters['entry_limit_refusals'] ?? 0;
  const first =
    refusals > 0
      ? `${times(refusals)} an operation was refused because ${quota(policy)} had reached RLIMIT_MEMLOCK.`
      : updates(accounting, counters, policy);
  return full === 0 ? first : `${first} ${explainEntryLimit(full)}`;
}

/** Why `refusals` mappings were refused with ENOSPC. */
export function explainEntryLimit(refusals: number): string {
  return (
    `${times(refusals)} a mapping was refused with ENOSPC because its container held ${DMA_ENTRY_LIMIT}, which is ` +
    'dma_entry_limit: map larger pieces, or raise that parameter of the module vfio_iommu_type1.'
  );
}

/** Why a request was refused that fits. */
export function explainOverPenalty({ update }: AccountPolicy): string {
  const cause = {
    trylock: 'updates that found mmap_sem taken were deferred and not applied yet',
    'lock-free': 'another request, which was refused as well, showed in the counter until it was taken back',
    waits: 'pages were charged that nobody held',
  }[update];
  return `An operation was refused though it fits: ${cause}.`;
}

/** What reached the limit. */
function quota({ charged, users, largest }: AccountPolicy): string {
  if (charged !== 'user') return 'the memory really pinned';
  if (largest === null) return "the pages charged to the guest's user";
  const { uid, guests } = largest;
  if (users === 1) return `the pages charged to user ${uid}, whose quota ${shared(guests)},`;
  return `the pages charged to one of ${users} users (of user ${uid} ${shared(guests)})`;
}

const shared = (guests: number): string => (guests === 1 ? 'one guest uses' : `${guests} guests share`);

/** Whether updates were deferred, and whether the account is right. */
function updates(
  { deferred, balance }: Accounting,
  counters: Readonly<Record<string, number>>,
  { update, charged }: AccountPolicy,
): string {
  const account = { locked_vm: 'locked_vm', user: "the user's locked_vm", nobody: 'pinned_vm' }[charged];
  const truth = {
    exact: `${account} equals the pages really pinned.`,
    violated: `${account} does not equal the pages really pinned.`,
    unchecked: `whether ${account} is right was not checked.`,
  }[balance];
  if (charged === 'nobody') return `Nothing is charged and no limit applies; ${truth}`;
  if (update === 'lock-free') return `No update takes mmap_sem, so nothing is deferred; ${truth}`;
  if (deferred.queued === 0) {
    return update === 'trylock' || (counters['trylock_attempts'] ?? 0) > 0
      ? `Every trylock of mmap_sem succeeded, so nothing was deferred; ${truth}`
      : `Every update took mmap_sem at once or waited for it, so nothing was deferred; ${truth}`;
  }
  const missing = missingDeferred(deferred);
  const fate = missing === 0 ? 'all of them were applied or discarded with their guest' : `${missing} were not applied`;
  return `${deferred.queued} updates found mmap_sem taken and were deferred; ${fate}, and ${truth}`;
}

const times = (n: number): string => (n === 1 ? 'Once' : `${n} times`);
