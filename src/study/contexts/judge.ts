/**
 * The open question of the seed thread, asked of the model: is what a strategy infers from `current` right in every
 * context from which VFIO is called? Each calling context is built and run under each strategy, several times with
 * different limits and capabilities, and what happened is observed from outside: whose account changed, whose pages
 * were pinned, whose limit and whose capability decided, and whether an invariant was violated. Nothing here knows what
 * a strategy ought to do.
 */
import { errnoName } from '../../base/errno.ts';
import type { InvariantName } from '../../model/oracle.ts';
import { type Observed, type Rights, Scene, type Whose } from './scene.ts';
import { type Act, type CallingContext, CONTEXTS, STRATEGIES, type Strategy } from './strategies.ts';

export interface Cell {
  readonly context: string;
  readonly strategy: string;
  readonly act: Act;
  /**
   * `ok`, an errno's name, `nothing` (success that removed nothing), `atomic` for a call that may sleep where none may,
   * or `no mdev` where the kernel has no such call.
   */
  readonly outcome: string;
  /** The function that would sleep. */
  readonly sleepsIn: string | null;
  /** Whose account changed, and whose pages were pinned. */
  readonly account: Whose;
  readonly pages: Whose;
  readonly limit: Whose;
  readonly capability: Whose;
  /** What `right` means below; null where the act does not ask. */
  readonly rightMm: boolean;
  readonly rightLimit: boolean | null;
  readonly rightCapability: boolean | null;
  /** Pages without mmap_sem, accounting without a reference to the mm. */
  readonly fast: boolean;
  readonly safe: boolean;
  readonly violations: readonly InvariantName[];
}

/** Runs a context under a strategy. */
export function judge(context: CallingContext, strategy: Strategy): Cell {
  const act = context.actOf?.[strategy.id] ?? context.act;
  const { variant } = strategy;
  const run = (rights: Partial<Rights>): Observed =>
    new Scene(variant).run(context, act, {
      ownerPages: null,
      callerPages: null,
      ownerCap: false,
      callerCap: false,
      ...rights,
    });
  const base = run({});
  const outcome = outcomeOf(base, act === 'pin' && variant.external === null);
  const charged = outcome === 'ok' && base.pages !== 'not asked';
  const isKthread = context.id === '3' || context.id === '4';
  // Who ought to be asked: the caller for a mapping of its own, the mapping process for everything else.
  const rightful = act === 'map' && !isKthread ? 'caller' : 'owner';
  const refused = (o: Observed): boolean => o.ret < 0;

  let limitOf: Whose = 'not asked';
  let capOf: Whose = 'not asked';
  const sameProcess = ['1', '2', '2b', '2b own', '8', '8 pin'].includes(context.id);
  const sameTask = context.id === '1' || context.id === '2b own';
  if (charged) {
    const ownerTight = refused(run({ ownerPages: 0 }));
    const callerTight = sameProcess ? ownerTight : refused(run({ callerPages: 0 }));
    limitOf = decided(ownerTight, callerTight, sameProcess);
    const tight = { ownerPages: 0, callerPages: 0 };
    const ownerHelps = !refused(run({ ...tight, ownerCap: true }));
    const callerHelps = sameTask ? ownerHelps : !refused(run({ ...tight, callerCap: true }));
    capOf = decided(ownerHelps, callerHelps, sameTask);
  }
  // As it is in life: the owner is at its limit without a capability, a kernel thread has all of them.
  const natural = run({ ownerPages: 0, callerCap: isKthread });
  const violations = [...new Set([...base.violations, ...natural.violations])];
  const rightMm =
    base.ownerDelta === base.expectedOwner &&
    base.callerDelta === base.expectedCaller &&
    (base.pages === 'not asked' || (act === 'map' && !base.sameMm ? base.pages === 'caller' : base.pages === 'owner'));
  return {
    context: context.id,
    strategy: strategy.id,
    act,
    outcome,
    sleepsIn: base.sleepsIn,
    account: decided(base.ownerDelta !== 0n, base.callerDelta !== 0n, false),
    pages: base.pages,
    limit: limitOf,
    capability: capOf,
    rightMm,
    rightLimit: charged ? limitOf === rightful || limitOf === 'one and the same' : null,
    rightCapability: charged ? capOf === rightful || capOf === 'one and the same' : null,
    fast: outcome === 'ok' && base.readLocks === 0 && base.references <= (act === 'pin' ? 1 : 0),
    safe: outcome !== 'atomic' && outcome !== 'no mdev' && rightMm && violations.length === 0,
    violations,
  };
}

function outcomeOf(o: Observed, noMdev: boolean): string {
  if (noMdev) return 'no mdev';
  if (o.sleepsIn !== null) return 'atomic';
  if (o.ret < 0) return errnoName(o.ret);
  return o.nothing ? 'nothing' : 'ok';
}

function decided(owner: boolean, caller: boolean, same: boolean): Whose {
  if (same) return owner ? 'one and the same' : 'nobody';
  if (owner) return caller ? 'both' : 'owner';
  return caller ? 'caller' : 'nobody';
}

/** Every context under every strategy. */
export function judgeAll(): Cell[] {
  return CONTEXTS.flatMap((context) => STRATEGIES.map((strategy) => judge(context, strategy)));
}
