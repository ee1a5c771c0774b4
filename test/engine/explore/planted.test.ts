/**
 * A planted bug for each invariant: every strategy finds it within a stated number of schedules, and the same case
 * without the bug is exhausted without a violation. A checker that cannot fail would fail here.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ENOMEM } from '../../../src/base/errno.ts';
import type { ExploreCase } from '../../../src/engine/explore/case.ts';
import { DfsStrategy } from '../../../src/engine/explore/dfs.ts';
import { Execution, type FailureKind } from '../../../src/engine/explore/execution.ts';
import { PctStrategy } from '../../../src/engine/explore/pct.ts';
import { RandomStrategy } from '../../../src/engine/explore/random.ts';
import { search } from '../../../src/engine/explore/search.ts';
import type { Strategy } from '../../../src/engine/explore/strategy.ts';
import type { Ref } from '../../../src/model/arena.ts';
import type { Ctx, Path, Variant } from '../../../src/model/env.ts';
import { resolveVariant, VARIANTS } from '../../../src/model/kernels/index.ts';
import { MM } from '../../../src/model/layout.ts';
import { addLockedVm, exceeds, lockedVm } from '../../../src/model/locked-vm.ts';
import { memlockPages, mmget, taskMm } from '../../../src/model/mm.ts';
import { INVARIANTS } from '../../../src/model/oracle.ts';
import { downWrite, upWrite } from '../../../src/model/rwsem.ts';
import { S } from '../../../src/model/steps.ts';
import { actor, caseOf, close, dfs, exit, hold, map, UNBOUNDED, unmap } from './cases.ts';

/** Its pin loop charges through the variant, so that another charge can be put in. */
const H = resolveVariant('H');

function* locked(k: Ctx, mm: Ref, pages: number): Path<void> {
  yield* downWrite(k, mm);
  if (k.at(S.LockedVmWrite, mm)) yield;
  addLockedVm(k.arena, mm, pages);
  yield* upWrite(k, mm);
}

const own = (k: Ctx): Ref => taskMm(k.arena, k.current);

/** The test against the limit is made before the lock and never again. */
const uncheckedUnderLock: Variant = {
  ...H,
  *acctPin(k, _call, npage) {
    const mm = own(k);
    if (k.at(S.LockedVmRead, mm)) yield;
    if (exceeds(lockedVm(k.arena, mm), npage, memlockPages(k.arena, k.current))) return -ENOMEM;
    yield* locked(k, mm, npage);
    return 0;
  },
};

/** locked_vm is read in one step and written in another, without the lock. */
const lostIncrement: Variant = {
  ...H,
  *acctPin(k, _call, npage) {
    const mm = own(k);
    if (k.at(S.LockedVmRead, mm)) yield;
    const v = lockedVm(k.arena, mm);
    if (k.at(S.LockedVmWrite, mm)) yield;
    k.arena.setU64(mm, MM.lockedVm, v + BigInt(npage));
    return 0;
  },
};

/** An unmap that finds the lock busy takes the pages back twice. */
const doubleDecrement: Variant = {
  ...H,
  *acctDma(k, _dma, npage) {
    const mm = own(k);
    if (k.at(S.DownWriteTrylock, mm)) yield;
    const busy = k.arena.get(mm, MM.semOwner) !== 0;
    yield* locked(k, mm, npage);
    if (busy) yield* locked(k, mm, npage);
    k.oracle.decremented(mm);
    return 0;
  },
};

/** Twice the pages are charged, and half of it given back at once. */
const overCharge: Variant = {
  ...H,
  *acctPin(k, _call, npage) {
    const mm = own(k);
    yield* locked(k, mm, 2 * npage);
    yield* locked(k, mm, -npage);
    return 0;
  },
};

/** The work item is queued twice. */
const queuedTwice: Variant = {
  ...H,
  *acctPin(k, _call, npage) {
    const mm = own(k);
    if (k.at(S.DownWriteTrylock, mm)) yield;
    if (k.arena.get(mm, MM.semState) === 0) {
      addLockedVm(k.arena, mm, npage);
      return 0;
    }
    k.oracle.deferredQueued(mm, npage);
    for (let times = 0; times < 2; times += 1) {
      mmget(k.arena, mm);
      if (k.at(S.QueueWork, mm)) yield;
      k.defer(mm, npage);
    }
    return 0;
  },
};

/** A failed trylock is taken for a success. */
const forgotten: Variant = {
  ...H,
  *acctPin(k, _call, npage) {
    const mm = own(k);
    if (k.at(S.DownWriteTrylock, mm)) yield;
    if (k.arena.get(mm, MM.semState) === 0) addLockedVm(k.arena, mm, npage);
    else k.oracle.deferredQueued(mm, npage);
    return 0;
  },
};

/** Nothing is ever charged or given back: only between the operations can that be seen. */
// oxlint-disable-next-line require-yield
function* nothing(): Path<number> {
  return 0;
}
const neverCharged: Variant = { ...H, acctPin: nothing, acctDma: nothing };

/** Every charge keeps a reference to the address space. */
const keptReference: Variant = {
  ...H,
  *acctPin(k, _call, npage) {
    const mm = own(k);
    mmget(k.arena, mm);
    yield* locked(k, mm, npage);
    return 0;
  },
};

/** A charge that is refused leaves the lock held. */
const keptLock: Variant = {
  ...H,
  *acctPin(k, _call, npage) {
    const mm = own(k);
    yield* downWrite(k, mm);
    if (exceeds(lockedVm(k.arena, mm), npage, memlockPages(k.arena, k.current))) return -ENOMEM;
    if (k.at(S.LockedVmWrite, mm)) yield;
    addLockedVm(k.arena, mm, npage);
    yield* upWrite(k, mm);
    return 0;
  },
};

const reader = actor('reader', 'thread', hold('read'));
const twoMaps = (limitPages: number): ExploreCase =>
  caseOf('two maps', [actor('a', 'main', map(0, 1)), actor('b', 'thread', map(0, 1, 1))], {
    containers: 2,
    memlockPages: limitPages,
  });
const mapBesideReader = caseOf('map beside a reader', [actor('a', 'main', map(0, 1)), reader]);

interface Planted {
  readonly kind: FailureKind;
  readonly bug: Variant;
  readonly plan: ExploreCase;
  /** The same variant without the bug. */
  readonly sound: Variant;
}

const PLANTED: Readonly<Record<string, Planted>> = {
  'unlocked check, then charge': { kind: 'limit-bypass', bug: uncheckedUnderLock, plan: twoMaps(1), sound: H },
  'lost increment': { kind: 'balance', bug: lostIncrement, plan: twoMaps(16), sound: H },
  'two errors that cancel': {
    kind: 'balance',
    bug: neverCharged,
    plan: caseOf('map and unmap', [actor('a', 'main', map(0, 1), unmap(0, 1)), reader]),
    sound: H,
  },
  'double decrement': {
    kind: 'wrap',
    bug: doubleDecrement,
    plan: caseOf('unmap beside a writer', [actor('a', 'main', unmap(0, 1)), actor('b', 'thread', hold('write'))], {
      setup: [{ actor: 'a', op: map(0, 1) }],
    }),
    sound: H,
  },
  'over-charge for a moment': { kind: 'over-penalty', bug: overCharge, plan: twoMaps(2), sound: H },
  'update applied twice': { kind: 'double-update', bug: queuedTwice, plan: mapBesideReader, sound: H },
  'update forgotten': { kind: 'lost-update', bug: forgotten, plan: mapBesideReader, sound: H },
  'replay without unwinding': {
    kind: 'leak-at-release',
    bug: { ...H, replayUnwinds: false },
    plan: caseOf('failed attach', [actor('a', 'main', { op: 'attach', container: 0 }, close), reader], {
      mdev: 'only',
      memlockPages: 1,
      setup: [{ actor: 'a', op: map(0, 2) }],
    }),
    sound: H,
  },
  'reference kept': {
    kind: 'mm-outlives-process',
    bug: keptReference,
    plan: caseOf('map and exit', [actor('a', 'main', map(0, 1), exit), actor('b', 'child', hold('read'))]),
    sound: H,
  },
  'lock kept': {
    kind: 'deadlock',
    bug: keptLock,
    plan: caseOf(
      'two maps and a writer',
      [actor('a', 'main', map(0, 1), hold('write')), actor('b', 'thread', map(0, 1, 1))],
      { containers: 2, memlockPages: 1 },
    ),
    sound: H,
  },
};

/** Schedules within which each strategy finds each of them. */
const WITHIN = 200;
const STRATEGIES: Readonly<Record<string, () => Strategy>> = {
  dfs: () => new DfsStrategy(),
  random: () => new RandomStrategy(7),
  pct: () => new PctStrategy(7, 3),
};

describe('planted bugs', () => {
  for (const [name, { kind, bug, plan, sound }] of Object.entries(PLANTED)) {
    for (const [strategy, make] of Object.entries(STRATEGIES)) {
      it(`${name} (${kind}) is found by ${strategy} within ${WITHIN} schedules`, () => {
        const others = new Set<string>(INVARIANTS.filter((i) => i !== kind));
        const result = search(new Execution(plan, bug), make(), {
          ...UNBOUNDED,
          maxSchedules: WITHIN,
          expected: others,
        });
        assert.equal(result.verdict, 'violated');
        assert.ok(result.failures.has(kind));
      });
    }
    it(`${name}: without it the case is exhausted without a violation`, () => {
      assert.equal(dfs(plan, sound).verdict, 'exhausted');
    });
  }

  it('there is one for each invariant', () => {
    const kinds = new Set(Object.values(PLANTED).map((p) => p.kind));
    assert.deepEqual(
      [...INVARIANTS].filter((i) => !kinds.has(i)),
      [],
    );
  });

  it('4.12 and later are clean under exhaustion of all of these cases, apart from the attach that leaks until 5.8', () => {
    const synchronous = VARIANTS.filter((v) => !v.deferring && !v.id.startsWith('I') && !v.id.startsWith('J'));
    assert.ok(synchronous.length >= 9);
    for (const { plan, kind } of Object.values(PLANTED)) {
      for (const variant of synchronous) {
        const leaks = kind === 'leak-at-release' && !variant.replayUnwinds;
        assert.equal(dfs(plan, variant).verdict, leaks ? 'violated' : 'exhausted', `${plan.name}, ${variant.id}`);
      }
    }
  });
});
