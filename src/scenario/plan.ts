/**
 * From a valid scenario to the frozen plan of a run. A pure function: no clock, no randomness but the scenario's seed.
 *
 * What is drawn for a guest comes from streams of its own, hash(seed, guest index, purpose), so guest 17 is the same
 * guest whichever worker makes it and whether or not guests 0 to 16 are made.
 */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../base/canonical-json.ts';
import { guestSeed, stream } from '../base/prng.ts';
import { PAGE_BYTES } from '../base/units.ts';
import type { ActorPlan, ArrivalPlan, GuestPlan, Json, MemoryPlan, RunPlan, StagePlan } from '../engine/plan.ts';
import type { Distribution } from './distribution.ts';
import { BACKING_PAGE_BYTES } from './memory-schema.ts';
import type { Registry } from './registry.ts';
import type { ActorClass, ArrivalSpec, GuestClass, Scenario } from './schema.ts';
import type { ResolvedScenario } from './validate.ts';

/** Makes the guests of a scenario one by one, in any order. */
export class Planner {
  readonly guestCount: number;
  readonly #seed: number;
  readonly #classes: readonly ClassPlanner[];

  constructor(scenario: Scenario) {
    this.#seed = scenario.seed;
    let first = 0;
    this.#classes = scenario.guests.map((guest) => {
      const planner = new ClassPlanner(guest, first, scenario.seed);
      first += guest.count;
      return planner;
    });
    this.guestCount = first;
  }

  /** Guest `index` of the run, frozen. @throws RangeError for an index outside the run. */
  guest(index: number): GuestPlan {
    let low = 0;
    let high = this.#classes.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#classes[middle] as ClassPlanner).first <= index) low = middle;
      else high = middle - 1;
    }
    const planner = this.#classes[low];
    if (planner === undefined || !Number.isInteger(index) || index < 0 || index >= this.guestCount) {
      throw new RangeError(`no guest ${index} of ${this.guestCount}`);
    }
    return planner.guest(index, guestSeed(this.#seed, index));
  }
}

class ClassPlanner {
  readonly first: number;
  readonly #guest: GuestClass;
  /** Per actor of the class, its instances; and the lists of actors that guests have, by which of them those are. */
  readonly #actors: readonly (readonly ActorPlan[])[];
  readonly #mixes = new Map<string, readonly ActorPlan[]>();
  /** Guests of a class have few different memories: each is one shared object. */
  readonly #memories = new Map<string, MemoryPlan>();
  /** Start of each guest, ns; only where they arrive at a rate, since each depends on the one before. */
  readonly #arrivalsNs: Float64Array | null;

  constructor(guest: GuestClass, first: number, seed: number) {
    this.#guest = guest;
    this.first = first;
    this.#actors = deepFreeze(guest.actors.map(actorsOf));
    const { rate, at } = guest.start;
    if (rate === undefined) {
      this.#arrivalsNs = null;
    } else {
      const gaps = stream(seed, `${guest.class}/start`);
      let ns: number = at;
      this.#arrivalsNs = Float64Array.from({ length: guest.count }, () =>
        Math.round((ns += gaps.exponential(1e9 / rate))),
      );
    }
  }

  guest(index: number, seed: number): GuestPlan {
    const guest = this.#guest;
    return Object.freeze({
      index,
      class: guest.class,
      seed,
      startNs: this.#startNs(index, seed),
      durationNs: guest.duration ?? null,
      memory: this.#memory(seed),
      memlockBytes: guest.memlock,
      capIpcLock: guest.cap_ipc_lock,
      ...(guest.uid === undefined ? {} : { uid: guest.uid }),
      iommu: guest.iommu,
      containers: guest.containers,
      ...(guest.mdev === 'none' ? {} : { mdev: guest.mdev }),
      actors: this.#mix(seed),
    });
  }

  /** The actors of a guest: all of the class, but those that are drawn. Equal lists are one shared object. */
  #mix(seed: number): readonly ActorPlan[] {
    const has = this.#guest.actors.map(
      ({ name, chance }) => chance === 1 || stream(seed, `actor.${name}.chance`).float() < chance,
    );
    const id = has.map(Number).join('');
    let actors = this.#mixes.get(id);
    if (actors === undefined) {
      actors = Object.freeze(this.#actors.filter((_, i) => has[i]).flat());
      this.#mixes.set(id, actors);
    }
    return actors;
  }

  #startNs(index: number, seed: number): number {
    if (this.#arrivalsNs !== null) return this.#arrivalsNs[index - this.first] ?? 0;
    const { at, spread } = this.#guest.start;
    return spread === undefined || spread === 0 ? at : at + stream(seed, 'start').below(spread);
  }

  #memory(seed: number): MemoryPlan {
    const { size, backing, contiguity, populated } = this.#guest.memory;
    const bytes = draw(size, seed, 'memory.size', sizeIn);
    const name = draw(backing, seed, 'memory.backing', null);
    const pieceBytes =
      contiguity === undefined ? BACKING_PAGE_BYTES[name] : draw(contiguity, seed, 'memory.contiguity', sizeIn);
    const filled = draw(populated, seed, 'memory.populated', null);
    const id = `${bytes} ${name} ${pieceBytes} ${filled}`;
    let memory = this.#memories.get(id);
    if (memory === undefined) {
      memory = Object.freeze({ bytes, backing: name, contiguityPages: pieceBytes / PAGE_BYTES, populated: filled });
      this.#memories.set(id, memory);
    }
    return memory;
  }
}

/** The `fraction` (0 to 1, 1 excluded) of the way through a range, on its steps. */
function sizeIn<T extends number>(range: { min: T; max: T; step: T }, below: (bound: number) => number): T {
  const steps = Math.floor((range.max - range.min) / range.step) + 1;
  return (range.min + below(steps) * range.step) as T;
}

/** Draws a value; a fixed one takes no randomness. `within` draws from a range, where the type has ranges. */
function draw<T>(
  distribution: Distribution<T>,
  seed: number,
  purpose: string,
  within: ((range: { min: T; max: T; step: T }, below: (bound: number) => number) => T) | null,
): T {
  if (distribution.kind === 'fixed') return distribution.value;
  const prng = stream(seed, purpose);
  if (distribution.kind === 'choose') return distribution.values[prng.weighted(distribution.weights)] as T;
  return within === null ? distribution.min : within(distribution, (bound) => prng.below(bound));
}

function actorsOf(actor: ActorClass): ActorPlan[] {
  return Array.from({ length: actor.count }, (_, instance) => ({
    name: actor.count === 1 ? actor.name : `${actor.name}-${instance}`,
    task: actor.task,
    workload: actor.workload,
    options: actor.options as { readonly [key: string]: Json },
    arrival: arrivalOf(actor.arrival),
    startNs: actor.start,
    iterations: actor.iterations ?? null,
  }));
}

function arrivalOf(spec: ArrivalSpec): ArrivalPlan {
  if (spec.kind === 'closed') return { kind: 'closed', options: { thinkNs: spec.think } };
  if (spec.kind === 'ramp') {
    return { kind: 'ramp', options: { fromPerSecond: spec.from, toPerSecond: spec.to, overNs: spec.over } };
  }
  if (spec.kind === 'burst') return { kind: 'burst', options: { operations: spec.operations, everyNs: spec.every } };
  return { kind: spec.kind, options: { perSecond: spec.rate } };
}

/**
 * The frozen plan of a run. Guests of a class share their actors and equal memories, so a plan of a million guests fits
 * in memory; written out as JSON it would not, and a worker takes its own guests from a Planner.
 */
export function planRun(
  resolved: ResolvedScenario,
  registry: Pick<Registry, 'profiles' | 'workloads' | 'ops' | 'checkThreshold'>,
): RunPlan {
  const { scenario } = resolved;
  const profile = registry.profiles.get(scenario.profile);
  if (profile === undefined) throw new Error(`validated profile ${scenario.profile} is gone`);
  const planner = new Planner(scenario);
  const guests = Array.from({ length: planner.guestCount }, (_, index) => planner.guest(index));
  const plan = {
    format: 1 as const,
    name: scenario.name,
    seed: scenario.seed,
    variant: resolved.variant,
    pace: scenario.pace,
    durationNs: scenario.duration ?? null,
    profile,
    faults: scenario.faults,
    deferred: { batch: scenario.deferred.batch, flushMs: scenario.deferred.flush / 1e6 },
    host: scenario.host,
    expect: resolved.expect,
    thresholds: [...written(scenario), ...errorThresholds(resolved, registry)],
    ...(resolved.notes.length === 0 ? {} : { notes: resolved.notes }),
    ...(scenario.stages.length === 0 ? {} : { stages: stagesOf(scenario.stages) }),
    guests,
  };
  return deepFreeze({ ...plan, hash: planHash(plan) });
}

/** The thresholds as the scenario has them. */
function written(scenario: Scenario): RunPlan['thresholds'][number][] {
  return Object.entries(scenario.thresholds).flatMap(([metric, list]) =>
    list.map((entry) =>
      typeof entry === 'string'
        ? { metric, expression: entry, abortOnFail: false, delayAbortEvalNs: 0 }
        : {
            metric,
            expression: entry.threshold,
            abortOnFail: entry.abortOnFail,
            delayAbortEvalNs: entry.delayAbortEval,
          },
    ),
  );
}

/**
 * The thresholds that every scenario has unless it writes its own: no operation that its actors perform ends in an
 * error, other than those it expects.
 */
function errorThresholds(
  { scenario, expectErrors }: ResolvedScenario,
  { workloads, ops, checkThreshold }: Pick<Registry, 'workloads' | 'ops' | 'checkThreshold'>,
): RunPlan['thresholds'][number][] {
  // A threshold of a stage says nothing about the rest of the run.
  const own = new Set(
    written(scenario).flatMap(({ metric, expression }) => {
      const info = checkThreshold(
        metric,
        expression,
        scenario.stages.map(({ name }) => name),
      );
      return info.errors ? (info.ops ?? []) : [];
    }),
  );
  const names = scenario.guests.flatMap((guest) => guest.actors.map(({ workload }) => workload));
  const performed = new Set(names.flatMap((name) => workloads.get(name)?.ops ?? []));
  return ops.flatMap((op) => {
    if (!performed.has(op) || own.has(op)) return [];
    const expected = expectErrors.get(op) ?? [];
    const metric = `op_errors{op:${op}${expected.length === 0 ? '' : `,expected:${expected.join('+')}`}}`;
    return [{ metric, expression: 'rate == 0 or empty', abortOnFail: false, delayAbortEvalNs: 0 }];
  });
}

function stagesOf(stages: Scenario['stages']): StagePlan[] {
  let startNs = 0;
  return stages.map(({ name, duration }) => {
    const stage = { name, startNs, endNs: duration === undefined ? null : startNs + duration };
    startNs += duration ?? 0;
    return stage;
  });
}

/** SHA-256 of the canonical JSON of a plan without its hash, hex. */
export function planHash(plan: Omit<RunPlan, 'hash'>): string {
  const { guests, ...rest } = plan;
  const hash = createHash('sha256');
  // The same bytes as canonicalJson(plan), made in pieces: 'guests' stands between its neighbours in key order.
  const before = Object.entries(rest).filter(([key]) => key < 'guests');
  const after = Object.entries(rest).filter(([key]) => key > 'guests');
  hash.update(`${canonicalJson(Object.fromEntries(before)).slice(0, -1)},"guests":[`);
  const shared = new Map<object, string>();
  const textOf = (value: object): string => {
    let text = shared.get(value);
    if (text === undefined) shared.set(value, (text = canonicalJson(value)));
    return text;
  };
  let piece: string[] = [];
  for (const guest of guests) {
    const {
      actors,
      memory,
      capIpcLock,
      class: name,
      containers,
      durationNs,
      index,
      iommu,
      mdev,
      memlockBytes,
      seed,
      startNs,
      uid,
    } = guest;
    piece.push(
      `${index === 0 ? '' : ','}{"actors":${textOf(actors)},"capIpcLock":${capIpcLock},"class":${JSON.stringify(name)},` +
        `"containers":${containers},"durationNs":${durationNs},"index":${index},"iommu":"${iommu}",` +
        `${mdev === undefined ? '' : `"mdev":"${mdev}",`}"memlockBytes":${memlockBytes},` +
        `"memory":${textOf(memory)},"seed":${seed},"startNs":${startNs}${uid === undefined ? '' : `,"uid":${uid}`}}`,
    );
    if (piece.length < 1024) continue;
    hash.update(piece.join(''));
    piece = [];
  }
  hash.update(`${piece.join('')}],${canonicalJson(Object.fromEntries(after)).slice(1)}`);
  return hash.digest('hex');
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const child of Object.values(value)) deepFreeze(child);
  }
  return value;
}
