// slow: draws many programs
/**
 * Whatever a guest does, and in whatever order its steps come, the account is right on the variants whose account is
 * exact; the others differ only where the oracle names what went wrong.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Variant } from '../../src/model/env.ts';
import { resolveVariant, VARIANTS } from '../../src/model/kernels/index.ts';
import type { InvariantName } from '../../src/model/oracle.ts';
import { soaked } from '../soak.ts';
import { checker } from './check.ts';
import { has, type Outcome, type Program, programs, run } from './program.ts';

const check = checker(soaked(2_000, 10_000), 'programs');

const EXACT = VARIANTS.filter((v) => !v.deferring);
const DEFERRING = VARIANTS.filter((v) => v.deferring);
const variantOf = (among: readonly Variant[]): fc.Arbitrary<string> => fc.constantFrom(...among.map((v) => v.id));

function assertOnly(outcome: Outcome, allowed: readonly InvariantName[]): void {
  const wrong = outcome.violated.filter((v) => !allowed.includes(v));
  assert.deepEqual(wrong, [], outcome.details.join('\n'));
  assert.deepEqual(outcome.leaked, [], 'left after everybody has exited');
}

/** Violations that the proposals of J bring with them (docs/model.md), and why. */
function proposed(id: string, p: Program): InvariantName[] {
  const allowed: InvariantName[] = [];
  // A request that is lost shows in the counter, and so does a reserve, until it is taken back.
  if (id === 'J' || id === 'J-cache') allowed.push('over-penalty');
  // mlock tests and adds under mmap_sem, which no longer keeps VFIO's additions out in between.
  if ((id === 'J' || id === 'J-cas') && has(p, 'mlock')) allowed.push('limit-bypass');
  return allowed;
}

check(
  'E to J keep every invariant with the threads of one process',
  0.4,
  fc.tuple(variantOf(EXACT), programs('calm')),
  ([id, p]) => {
    assertOnly(run(resolveVariant(id), p), proposed(id, p));
  },
);

check(
  'H, I and later keep every invariant whoever unmaps, exits or calls exec',
  0.2,
  fc.tuple(variantOf(EXACT.filter((v) => v.recordsMm)), programs('wild')),
  ([id, p]) => {
    assertOnly(run(resolveVariant(id), p), []);
  },
);

/** What E to G get wrong when a mapping outlives the address space or the thread that made it (semantics 1.5). */
const OUTLIVED: readonly InvariantName[] = ['balance', 'over-penalty', 'wrap', 'limit-bypass'];

check(
  'E to G go wrong only when a mapping outlives its maker',
  0.1,
  fc.tuple(variantOf(EXACT.filter((v) => !v.recordsMm)), programs('wild')),
  ([id, p]) => {
    const outlives = has(p, 'exec', 'exit', 'fork', 'close') || p.tasks.some((t) => t === 'child' || t === 'vm_child');
    assertOnly(run(resolveVariant(id), p), outlives ? OUTLIVED : proposed(id, p));
  },
);

check(
  'A to D balance once every work item has run, with the threads of one process',
  0.15,
  fc.tuple(variantOf(DEFERRING), programs('calm')),
  ([id, p]) => {
    assertOnly(run(resolveVariant(id), p), ['limit-bypass', 'over-penalty', 'wrap']);
  },
);

check(
  'A to D end as E does, or the oracle names why not',
  0.15,
  fc.tuple(variantOf(DEFERRING), programs('calm')),
  ([id, p]) => {
    const exact = run(resolveVariant('E'), p, { serial: true });
    const deferring = run(resolveVariant(id), p, { serial: true });
    assert.deepEqual(exact.violated, [], exact.details.join('\n'));
    assertOnly(deferring, ['limit-bypass', 'over-penalty', 'wrap']);
    if (deferring.violated.length > 0) return;
    assert.deepEqual(
      { results: deferring.results, lockedVmPages: deferring.lockedVmPages },
      { results: exact.results, lockedVmPages: exact.lockedVmPages },
    );
  },
);
