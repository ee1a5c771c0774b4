/** Every count and sentence of a summary, on every variant, against the guests' own records. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HostResult } from '../../src/emulator/host-result.ts';
import type { GuestPlan, RunPlan } from '../../src/engine/plan.ts';
import { actualSeries, Op, Outcome, OUTCOMES } from '../../src/metrics/ops.ts';
import type { Variant } from '../../src/model/env.ts';
import { VARIANTS } from '../../src/model/kernels/index.ts';
import type { RunResults } from '../../src/report/results.ts';
import { virtualResults } from '../../src/run/simulated-results.ts';
import { planOf, simulate } from '../guest/workload/plan.ts';

const PAGE = 4096;

/** Pages of one mapping; each is one physically contiguous chunk, larger than what is left of the limit at the end. */
const PIECE = 16;
const BOOT = { workload: 'boot', options: { piece: `${PIECE * PAGE}B` }, iterations: 1 };

/** Two guests of user 7 that each map five pieces. */
function booted(
  { id }: Variant,
  memlockPages: number | null,
): { results: RunResults; result: HostResult; count: (op: 'map' | 'pin', failed: boolean) => number } {
  const one = planOf(
    id,
    {
      uid: 7,
      memlockBytes: memlockPages === null ? null : memlockPages * PAGE,
      memory: { bytes: 5 * PIECE * PAGE, backing: 'anon4k', contiguityPages: PIECE, populated: true },
    },
    [BOOT],
  );
  const [guest] = one.guests as [GuestPlan];
  const plan: RunPlan = { ...one, guests: [guest, { ...guest, index: 1, seed: 18 }] };
  const { result, snapshot } = simulate(plan);
  const series = (op: 'map' | 'pin', failed: boolean): number =>
    OUTCOMES.reduce(
      (n, _, outcome) => n + ((outcome !== Outcome.ok) === failed ? snapshot.count(actualSeries(Op[op], outcome)) : 0),
      0,
    );
  return { results: virtualResults(plan, [result]), result, count: series };
}

/** What charges the guests' memory. */
const payer = ({ iommufd }: Variant): 'mm' | 'user' | 'nobody' =>
  iommufd === null || iommufd.account === 'mm' ? 'mm' : iommufd.account === 'none' ? 'nobody' : 'user';

describe('counts and sentences of a summary', () => {
  for (const variant of VARIANTS) {
    const pays = payer(variant);

    it(`${variant.id}: refusals, guests that failed, pages`, () => {
      const { results, result, count } = booted(variant, 40);
      const { accounting, counters } = results;
      const refused = count('map', true);
      assert.equal(refused > 0, pays !== 'nobody', 'somebody is refused wherever something is charged');
      const failing = result.guests.filter((g) => g.failedOperations > 0);
      const times = result.guests.reduce((n, g) => n + g.failedOperations, 0);
      assert.equal(times, refused);
      assert.equal(accounting.limitRefusals, refused, 'each refused operation counts once');
      assert.deepEqual(
        accounting.notes.filter((note) => note.startsWith('boot')),
        refused === 0 ? [] : [`boot: map failed: ENOMEM (${failing.length} guests, ${refused} times)`],
      );
      const mapped = count('map', false) * PIECE;
      const pinned = counters['pages_pinned'] ?? 0;
      assert.ok(pinned >= mapped, `${pinned} of ${mapped}`);
      if (refused === 0) assert.equal(pinned, mapped);
      assert.equal(counters['pages_unpinned'], pinned, 'all is given back when the guests close');
      assert.equal(accounting.balance, 'exact');
      const sentence = {
        mm: /^\d+ times an operation was refused because the memory really pinned had reached RLIMIT_MEMLOCK\.$/,
        user: /^\d+ times .* the pages charged to user 7, whose quota 2 guests share, had reached RLIMIT_MEMLOCK\.$/,
        nobody: /^Nothing is charged and no limit applies; pinned_vm equals the pages really pinned\.$/,
      }[pays];
      assert.match(accounting.explanation, sentence);
    });

    it(`${variant.id}: without a limit, how updates are made`, () => {
      const { results, count } = booted(variant, null);
      assert.equal(count('map', true), 0);
      assert.equal(results.counters['pages_pinned'], 2 * 5 * PIECE);
      assert.deepEqual(results.accounting.notes, []);
      const { explanation } = results.accounting;
      if (pays === 'nobody') assert.match(explanation, /^Nothing is charged/);
      else if (variant.deferring) assert.match(explanation, /^Every trylock of mmap_sem succeeded/);
      else if (variant.lockFree || pays === 'user') assert.match(explanation, /^No update takes mmap_sem/);
      else assert.match(explanation, /^Every update took mmap_sem at once or waited for it/);
      assert.match(explanation, pays === 'user' ? /the user's locked_vm equals/ : /(locked|pinned)_vm equals/);
      if (pays === 'user' || pays === 'nobody' || variant.lockFree) {
        const { lockWait } = results.split;
        assert.equal(lockWait['mmap_write'], undefined, 'nobody waited for the lock that no update takes');
      }
    });

    if (variant.external !== null) {
      it(`${variant.id}: pages that an mdev driver pins are pinned pages`, () => {
        const guest: Partial<GuestPlan> = { mdev: 'only', capIpcLock: true };
        const actor = {
          workload: 'mdev-pin',
          options: { pages: '4 pages', window: '64 pages', calls: 2 },
          iterations: 10,
        };
        const { result, snapshot } = simulate(planOf(variant.id, guest, [actor]));
        assert.deepEqual(result.violationCounts, {});
        const pinned = snapshot.counter('pages_pinned');
        assert.ok(pinned > 0 && pinned <= 40, `${pinned} distinct pages of 10 calls of 4`);
        assert.equal(snapshot.counter('pages_unpinned'), pinned);
      });
    }
  }
});
