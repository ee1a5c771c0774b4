/**
 * From a scenario file to a valid scenario: reads, applies overrides, checks everything, and reports every fault at
 * once.
 */
import { nearest, suggestion } from '../base/suggest.ts';
import type { ActorPlan } from '../engine/plan.ts';
import type { GuestSetting } from '../guest/workload/workload.ts';
import { crowdedHost } from './crowd.ts';
import { extremes } from './distribution.ts';
import { FaultList } from './fault-list.ts';
import { scenarioError } from './faults.ts';
import { errorMap, problems } from './issues.ts';
import { BACKING_PAGE_BYTES } from './memory-schema.ts';
import { applyOverrides, type Override } from './overrides.ts';
import type { Registry } from './registry.ts';
import { type GuestClass, MAX_ACTORS, MAX_GUESTS, type Scenario, scenarioSchema } from './schema.ts';
import {
  isList,
  isMapping,
  locate,
  type Located,
  type ParsedSource,
  parseSource,
  type PathPart,
  plain,
  type SourceText,
} from './source.ts';
import { checkThresholds, operations } from './threshold-check.ts';

/** A valid scenario, ready to be planned. */
export interface ResolvedScenario {
  readonly scenario: Scenario;
  /** Canonical id of the variant. */
  readonly variant: string;
  /** Invariants expected to be violated under that variant. */
  readonly expect: readonly string[];
  /** By operation, outcomes expected under that variant besides `ok`. */
  readonly expectErrors: ReadonlyMap<string, readonly string[]>;
  /** What users should know although it is no fault. */
  readonly notes: readonly string[];
  readonly source: SourceText;
  /** Every value as written, overrides applied, with its origin. Defaults are not in it. */
  readonly root: Located;
}

/** Checks the text of a scenario. @throws UserError (exit 104) with every fault of it. */
export function validateScenario(
  file: string,
  text: string,
  registry: Registry,
  overrides: readonly Override[] = [],
): ResolvedScenario {
  return resolveScenario(parseSource(file, text), registry, overrides);
}

/** Checks a scenario that has been read. @throws UserError (exit 104) with every fault of it. */
export function resolveScenario(
  parsed: ParsedSource,
  registry: Registry,
  overrides: readonly Override[] = [],
): ResolvedScenario {
  const { source } = parsed;
  if (parsed.root === null) throw scenarioError(parsed.faults, source);
  const { root: overridden, faults } = applyOverrides(
    parsed.root,
    overrides,
    Object.keys(scenarioSchema.shape),
    guestKeys(),
  );
  const root = asWritten(asWritten(overridden, ['variant']), ['guests', '*', 'actors', '*', 'workload']);
  const checker = new Checker(root, registry);
  const result = checker.check();
  const all = [...parsed.faults, ...faults, ...checker.faults.faults];
  if (result === null || all.length > 0) throw scenarioError(all, source);
  return { ...result, source, root };
}

/**
 * Names that YAML reads as something else are meant as written: variant 4.10 is not 4.1, workload null is no absence.
 */
function asWritten(node: Located, path: readonly string[]): Located {
  const [part, ...rest] = path;
  if (part === undefined) {
    const isOther = typeof node.value === 'number' || (node.value === null && node.written === 'null');
    return isOther && node.written !== undefined ? { ...node, value: node.written } : node;
  }
  if (part === '*' && isList(node.value)) return { ...node, value: node.value.map((item) => asWritten(item, rest)) };
  const child = isMapping(node.value) ? node.value.get(part) : undefined;
  if (child === undefined || !isMapping(node.value)) return node;
  return { ...node, value: new Map(node.value).set(part, asWritten(child, rest)) };
}

const guestKeys = (): string[] => Object.keys(scenarioSchema.shape.guests.element.shape);

class Checker {
  readonly faults: FaultList;
  readonly #root: Located;
  readonly #registry: Registry;

  constructor(root: Located, registry: Registry) {
    this.#root = root;
    this.#registry = registry;
    this.faults = new FaultList(root);
  }

  check(): Pick<ResolvedScenario, 'scenario' | 'variant' | 'expect' | 'expectErrors' | 'notes'> | null {
    if (!isMapping(this.#root.value)) {
      this.faults.add({ path: [], message: 'a scenario is a map', hint: "start with 'name:' and 'guests:'" });
      return null;
    }
    const data = plain(this.#root);
    const parsed = scenarioSchema.safeParse(data, { error: errorMap });
    if (!parsed.success) for (const problem of problems(parsed.error.issues, data)) this.faults.add(problem);
    // Names are checked on what was written, so that one fault does not hide another.
    const variant = this.#variant();
    this.faults.name(['profile'], 'profile', [...this.#registry.profiles.keys()]);
    this.faults.keys(['faults'], 'fault site', this.#registry.faultSites);
    const expected = this.#expect(variant);
    checkThresholds(this.#root, this.#registry, variant, this.faults);
    const options = this.#guests();
    if (!parsed.success || variant === null) return null;
    const guests = parsed.data.guests.map((guest, g) => ({
      ...guest,
      actors: guest.actors.map((actor, a) => ({ ...actor, options: options.get(`${g}/${a}`) ?? {} })),
    }));
    // What can work is only judged where it is known what is meant.
    if (this.faults.faults.length === 0) this.#refusals({ ...parsed.data, guests }, variant);
    if (this.faults.faults.length > 0) return null;
    const note = this.#registry.variantNote(parsed.data.variant);
    const notes = note === null ? [] : [note];
    return { scenario: { ...parsed.data, guests }, variant, ...expected, notes };
  }

  /** What is well written and cannot work under the variant. */
  #refusals({ guests, host }: Scenario, variant: string): void {
    for (const [g, guest] of guests.entries()) {
      for (const { path, message, hint } of this.#registry.refusals(settingOf(guest), variant))
        this.faults.add({ path: ['guests', g, ...path], message, hint });
    }
    const crowd = crowdedHost(guests, host.count);
    if (crowd !== null) this.faults.add({ path: ['guests'], ...crowd });
  }

  #variant(): string | null {
    const node = locate(this.#root, ['variant']);
    if (node === undefined) return this.#resolveVariant('E', [], false);
    return typeof node.value === 'string' ? this.#resolveVariant(node.value, ['variant'], false) : null;
  }

  #resolveVariant(name: string, path: readonly PathPart[], atKey: boolean): string | null {
    const { variants } = this.#registry;
    try {
      return this.#registry.resolveVariant(name);
    } catch (error) {
      const { message } = error as Error;
      if (!message.startsWith('unknown variant')) {
        this.faults.add({
          path,
          atKey,
          message,
          hint: 'name a kernel from 3.6 on that has been released, or a variant',
        });
        return null;
      }
      const near = nearest(name, variants);
      const guess = near === null ? '' : `did you mean '${near}'? `;
      const hint = `${guess}variants are ${variants.join(', ')}, or a kernel version such as "4.10"`;
      this.faults.add({ path, atKey, message: `unknown variant '${name}'`, hint });
      return null;
    }
  }

  /** What is expected under the variant; the names of all variants' lists are checked. */
  #expect(variant: string | null): Pick<ResolvedScenario, 'expect' | 'expectErrors'> {
    const invariants = new Set<string>();
    const errors = new Map<string, string[]>();
    const take = (list: Located, path: readonly PathPart[], applies: boolean): void => {
      if (!isList(list.value)) return;
      for (const [index, item] of list.value.entries()) {
        if (isMapping(item.value))
          this.#expectErrors(item.value, [...path, index], applies ? errors : new Map<string, string[]>());
        else this.faults.name([...path, index], 'invariant', this.#registry.invariants);
        if (applies && typeof item.value === 'string') invariants.add(item.value);
      }
    };
    const node = locate(this.#root, ['expect']);
    if (node !== undefined) take(node, ['expect'], true);
    if (node !== undefined && isMapping(node.value)) {
      for (const [key, list] of node.value) {
        const applies = key === '*' || this.#resolveVariant(key, ['expect', key], true) === variant;
        take(list, ['expect', key], applies);
      }
    }
    return { expect: [...invariants], expectErrors: errors };
  }

  /** `{map: ENOMEM, mlock: [ENOMEM]}`: adds the outcomes to those of each operation. */
  #expectErrors(map: ReadonlyMap<string, Located>, path: readonly PathPart[], into: Map<string, string[]>): void {
    const { errors, ops } = this.#registry;
    const performed = operations(this.#root, this.#registry);
    for (const [op, node] of map) {
      const at = { path: [...path, op], atKey: true };
      if (!ops.includes(op))
        this.faults.add({ ...at, message: `unknown operation '${op}'`, hint: suggestion(op, ops) });
      else if (performed.size > 0 && !performed.has(op)) {
        const hint = `take it out; actors perform ${[...performed].join(', ')}`;
        this.faults.add({ ...at, message: `no actor of this scenario performs ${op}`, hint });
      }
      const names = isList(node.value) ? node.value.map((_, i) => [...path, op, i]) : [[...path, op]];
      for (const place of names) {
        const name = locate(this.#root, place)?.value;
        if (typeof name !== 'string') continue;
        const outcome = errors.get(name);
        if (outcome === undefined) {
          const known = [...errors.keys()].join(', ');
          const hint = `the statistics tell apart ${known}; other_error is any other`;
          this.faults.add({ path: place, message: `unknown error '${name}'`, hint });
          continue;
        }
        const list = into.get(op) ?? [];
        if (!list.includes(outcome)) into.set(op, [...list, outcome]);
      }
    }
  }

  /** Checks across classes and actors; returns the parsed options by `guest/actor`. */
  #guests(): ReadonlyMap<string, Record<string, unknown>> {
    const options = new Map<string, Record<string, unknown>>();
    const guests = locate(this.#root, ['guests'])?.value;
    if (!isList(guests)) return options;
    this.faults.unique(
      guests.map((_, g) => ['guests', g, 'class']),
      'class of guests',
    );
    let guestCount = 0;
    let actorCount = 0;
    for (const [g] of guests.entries()) {
      const count = this.#count(['guests', g]);
      guestCount += count;
      const actors = locate(this.#root, ['guests', g, 'actors'])?.value;
      if (!isList(actors)) continue;
      this.faults.unique(
        actors.map((_, a) => ['guests', g, 'actors', a, 'name']),
        'actor',
      );
      let mains = 0;
      for (const [a] of actors.entries()) {
        const path = ['guests', g, 'actors', a];
        const instances = this.#count(path);
        actorCount += count * instances;
        if (locate(this.#root, [...path, 'task'])?.value === 'main') mains += instances;
        if (mains > 1) {
          const hint = 'use task: thread for the others';
          this.faults.add({ path: [...path, 'task'], message: 'a guest has one main thread', hint });
          mains = 0;
        }
        const parsed = this.#options(path);
        if (parsed !== null) options.set(`${g}/${a}`, parsed);
      }
    }
    if (guestCount > MAX_GUESTS) {
      this.faults.add({
        path: ['guests'],
        message: `${guestCount} guests are too many`,
        hint: `the maximum is ${MAX_GUESTS}`,
      });
    } else if (actorCount > MAX_ACTORS) {
      this.faults.add({
        path: ['guests'],
        message: `${actorCount} actors are too many`,
        hint: `the maximum is ${MAX_ACTORS}`,
      });
    }
    return options;
  }

  #count(path: readonly PathPart[]): number {
    const count = locate(this.#root, [...path, 'count'])?.value;
    // A count that is too large by itself is a fault of its own.
    return typeof count === 'number' && count > 0 ? Math.min(count, MAX_GUESTS) : 1;
  }

  #options(path: readonly PathPart[]): Record<string, unknown> | null {
    const { workloads } = this.#registry;
    const name = locate(this.#root, [...path, 'workload'])?.value;
    if (typeof name !== 'string') return null;
    const workload = workloads.get(name);
    if (workload === undefined) {
      const hint = suggestion(name, workloads.keys());
      this.faults.add({ path: [...path, 'workload'], message: `unknown workload '${name}'`, hint });
      return null;
    }
    const node = locate(this.#root, [...path, 'options']);
    const data = node === undefined ? {} : plain(node);
    if (typeof data !== 'object' || data === null || Array.isArray(data)) return null;
    const parsed = workload.options.safeParse(data, { error: errorMap });
    if (parsed.success) return parsed.data as Record<string, unknown>;
    for (const problem of problems(parsed.error.issues, data, [...path, 'options'])) this.faults.add(problem);
    return null;
  }
}

/** A class of guests as the workloads judge it. */
function settingOf({ memory, iommu, containers, mdev, actors }: GuestClass): GuestSetting {
  const sizes = extremes(memory.size);
  return {
    memoryBytes: [Math.min(...sizes), Math.max(...sizes)],
    pageBytes: Math.max(
      ...extremes(memory.backing).map((name) => (name.startsWith('hugetlb') ? BACKING_PAGE_BYTES[name] : 4096)),
    ),
    iommu,
    containers,
    mdev,
    actors: actors.map(({ name, count, chance, task, workload, options }) => ({
      name,
      count,
      always: chance === 1,
      task,
      workload,
      options: options as ActorPlan['options'],
    })),
  };
}
