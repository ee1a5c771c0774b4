/**
 * A case under the virtual driver: the same program on an emulated host, in simulated nanoseconds. Its actors start at
 * random instants and every step takes a random while longer than its cost, so that every seed is another interleaving;
 * whether a fault happens is drawn too.
 */
import { type Prng, stream } from '../../base/prng.ts';
import { StatsBlock } from '../../metrics/stats.ts';
import type { Ref } from '../../model/arena.ts';
import type { FaultSite, Path } from '../../model/env.ts';
import { KernelBug } from '../../model/paths/notify.ts';
import type { StepId } from '../../model/steps.ts';
import { ActorFaults } from '../actor-faults.ts';
import { type CaseWorld, runActor } from '../explore/case-ops.ts';
import type { ExploreCase } from '../explore/case.ts';
import type { Execution, Failure } from '../explore/execution.ts';
import { outcomeText } from '../explore/outcome.ts';
import { DEFAULT_PROFILE, machineCost, stepCosts } from '../profile.ts';
import { statsLayout } from '../stats-layout.ts';
import { WORK_MAX_ACTIVE } from '../workqueue.ts';
import { exactCosts } from './step-costs.ts';
import { VirtualActor, VirtualHost } from './virtual-actor.ts';

/** Actors start within so much time of each other, ns: about as long as an operation takes. */
export const START_SPREAD_NS = 20_000;

/** A step takes up to so much longer than it costs, ns. */
const STEP_SPREAD_NS = 2_000;

/** An actor that waits to be killed looks so often, and so long. */
export const PARK_NS = 50_000;
export const PARKED_MAX_NS = 500_000_000;

/** One execution of a case, by whatever driver. */
export interface CaseExecution {
  readonly outcome: string;
  readonly failures: readonly Failure[];
}

/** When each actor starts, how long its steps take, and the answers to faults: as often as the case allows. */
export class CaseChances {
  readonly startsNs: readonly number[];
  readonly #random: Prng;
  readonly #left: Map<string, number>;

  constructor(plan: ExploreCase, seed: number, purpose: string) {
    this.#random = stream(seed, purpose);
    this.startsNs = plan.actors.map(() => this.#random.below(START_SPREAD_NS));
    this.#left = new Map(Object.entries(plan.faults));
  }

  stepNs(): number {
    return this.#random.below(STEP_SPREAD_NS);
  }

  inject(site: FaultSite): boolean {
    const left = this.#left.get(site) ?? 0;
    if (left === 0 || this.#random.below(2) === 0) return false;
    this.#left.set(site, left - 1);
    return true;
  }
}

class CaseActor extends VirtualActor {
  constructor(
    host: VirtualHost,
    actor: Ref,
    task: Ref,
    private readonly chances: CaseChances,
  ) {
    // With faults of its own, so that nothing is done in one go: every step can be its own.
    super(host, actor, task, 0, 0, new ActorFaults(new Map(), stream(0, 'unused')));
  }

  override at(step: StepId, object: Ref): boolean {
    this.spend(this.chances.stepNs());
    return super.at(step, object);
  }

  override inject(site: FaultSite): boolean {
    return this.chances.inject(site);
  }
}

const LAYOUT = statsLayout({ thresholds: [] });

/** Nobody reads it: what a case comes to is its outcome. */
const STATS = new StatsBlock(LAYOUT, new ArrayBuffer(LAYOUT.bytes));

/** Runs the case once. The same seed gives the same execution. */
export function simulateCase(x: Execution, seed: number): CaseExecution {
  x.rewind();
  const { plan, built } = x;
  const chances = new CaseChances(plan, seed, 'case');
  const cost = (name: Parameters<typeof machineCost>[1]): number => machineCost(DEFAULT_PROFILE.costNs, name);
  const virtual = new VirtualHost({
    arena: x.arena,
    stats: STATS,
    variant: x.variant,
    oracle: x.oracle,
    addressSpace: x.addressSpace,
    costNs: exactCosts(stepCosts(DEFAULT_PROFILE.costNs)),
    host: {
      cpus: null,
      sliceNs: cost('time_slice'),
      wakeUpNs: cost('wake_up'),
      spinNs: cost('spin_handover'),
      lineNs: cost('line_transfer'),
      memoryNs: cost('memory_4k'),
      workMaxActive: WORK_MAX_ACTIVE,
    },
    onMark: () => {},
    onMapped: () => {},
    onEnd: () => {},
    onSettled: () => {},
  });
  const world: CaseWorld<CaseActor> = {
    plan,
    built,
    park(k) {
      k.sleepUntil(k.nowNs() + PARK_NS);
      return k.nowNs() < PARKED_MAX_NS;
    },
  };
  function* guarded(k: CaseActor, id: number): Path<void> {
    try {
      yield* runActor(k, world, id, x.standings[id] as Execution['standings'][number]);
    } catch (error) {
      if (!(error instanceof KernelBug)) throw error;
      x.fail('kernel-bug', error.message);
    }
  }
  for (const [id, { actor, task }] of built.entries()) {
    if (id >= plan.actors.length) continue;
    const k = new CaseActor(virtual, actor, task, chances);
    virtual.add(k, guarded(k, id), chances.startsNs[id] as number);
  }
  virtual.host.run();
  const stuck = virtual.host.stuck().length;
  if (stuck > 0) x.fail('deadlock', `${stuck} actors wait for ever`);
  else x.finish();
  return { outcome: outcomeText(x.outcome()), failures: x.failures };
}
