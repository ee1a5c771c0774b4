/**
 * How much memory a fleet must be allowed to lock: found by running the model, and set beside the formula that explains
 * it.
 *
 * A cell (variant, number of devices) is a search for the smallest limit at which few enough requests are refused. It
 * begins at what the formula says, so that where the two agree it is over after two simulations: the formula passes,
 * one page less does not.
 */
import { EXIT, UserError } from '../base/errors.ts';
import type { StopSignal } from '../base/stop-signal.ts';
import { roundedBytes } from '../base/units-text.ts';
import { PAGE_BYTES } from '../base/units.ts';
import { simulateAll } from '../emulator/host-pool.ts';
import { guestsOfHost, type HostResult, type HostTask } from '../emulator/host-result.ts';
import type { ActorPlan, GuestPlan, RunPlan } from '../engine/plan.ts';
import { actualSeries, Op, Outcome, OUTCOMES } from '../metrics/ops.ts';
import type { MODEL_COUNTERS, Variant } from '../model/env.ts';
import { resolveVariant } from '../model/kernels/index.ts';
import { ALIKE, outcomeText, type Setting, settingParts } from '../report/experiment.ts';
import { explainEntryLimit } from '../report/explanation.ts';
import { percent, wrap } from '../report/format.ts';
import { REGISTRY } from '../run/registry.ts';
import { scenarioOf } from '../run/scenario-file.ts';
import { mergedSnapshot } from '../run/simulated-results.ts';
import type { Override } from '../scenario/overrides.ts';
import type { ParsedSource } from '../scenario/source.ts';
import { plansOf, settingOf } from './experiment.ts';

/** Beyond this (4 PiB) no limit helps. */
const LIMIT_MAX_PAGES = 2 ** 40;

/** Operations that ask for memory to be locked. */
const REQUESTS = [Op.map, Op.pin, Op.mlock, Op.attach];

/** Who pays for what a guest has pinned. */
export type Payer = 'mm' | 'user' | 'nobody';

/** What simulations under one limit came to, all seeds together. */
export interface Probe {
  /** Null: no limit. */
  readonly limitPages: number | null;
  /** Requests for locked memory that were granted or that the limit refused, and how many it refused. */
  readonly requests: number;
  readonly refused: number;
  /** Requests that something else refused, by outcome (`enospc`): no limit would change that. */
  readonly otherRefusals: Readonly<Record<string, number>>;
  /** Of these, mappings beyond dma_entry_limit. */
  readonly entryLimitRefusals: number;
  /** Most mappings in one container. */
  readonly mappings: number;
  /** Invariants that were violated. */
  readonly violations: readonly string[];
}

export interface Advice {
  readonly variant: string;
  /** Devices of a guest, each in a container of its own; a guest of which the scenario has more has those. */
  readonly devices: number;
  readonly payer: Payer;
  /** The smallest limit in pages; null: no limit suffices, not even unlimited. */
  readonly limitPages: number | null;
  readonly formulaPages: number;
  /** Under that limit; where there is none, under no limit at all. */
  readonly at: Probe;
  /** One page less; null where the limit is 0 or there is none. */
  readonly below: Probe | null;
  /** Simulations of the whole fleet it took. */
  readonly simulations: number;
  readonly seeds: readonly number[];
  readonly setting: Setting;
}

export interface AdviseOptions {
  readonly variants: readonly string[];
  readonly devices: readonly number[];
  /** Share of requests that may be refused, 0 to 1. */
  readonly maxFailures: number;
  readonly repeat: number;
  readonly threads: number | undefined;
  readonly onProgress?: (done: number, of: number) => void;
  /** Set: what is not found by then is left out. */
  readonly stop?: StopSignal;
}

export interface Advised {
  readonly name: string;
  readonly guests: number;
  readonly seeds: readonly number[];
  readonly cells: readonly Advice[];
  /** Limits that were asked for; fewer `cells`: it was stopped. */
  readonly wanted: number;
  /** Said below the table. */
  readonly notes: readonly string[];
}

export const shareOf = (probe: Probe): number => (probe.requests === 0 ? 0 : probe.refused / probe.requests);

export const payerOf = (variant: Variant): Payer =>
  variant.iommufd === null || variant.iommufd.account === 'mm'
    ? 'mm'
    : variant.iommufd.account === 'creator'
      ? 'user'
      : 'nobody';

/**
 * A guest with `devices` devices in all, each behind a container of its own. Those that the scenario has count; further
 * ones are copies of them in turn. A guest that has more stays as it is.
 */
export function withDevices(guest: GuestPlan, devices: number): GuestPlan {
  const { containers } = guest;
  const further = Array.from({ length: Math.max(0, devices - containers) }, (_, i) => containers + i).flatMap(
    (container) =>
      guest.actors
        .filter((actor) => actor.options['container'] === container % containers)
        .map((actor): ActorPlan => ({
          ...actor,
          name: `${actor.name}-device-${container}`,
          // There is one main thread.
          task: actor.task === 'main' ? 'thread' : actor.task,
          options: { ...actor.options, container },
        })),
  );
  return { ...guest, containers: Math.max(containers, devices), actors: [...guest.actors, ...further] };
}

const namesContainer = (actor: ActorPlan): boolean => typeof actor.options['container'] === 'number';

/** What an address space of a guest comes to hold, in pages. */
interface Held {
  readonly mapped: number;
  readonly mlocked: number;
}

/** Per address space of the guest: threads and CLONE_VM children share the first, a forked child has its own. */
function heldBy(guest: GuestPlan): Held[] {
  const own = { mapped: 0, mlocked: 0 };
  const all = [own];
  for (const actor of guest.actors) {
    const pages = REGISTRY.workloads.get(actor.workload)?.peakPages?.(actor.options, guest.memory) ?? 0;
    let held = own;
    if (actor.task === 'child') all.push((held = { mapped: 0, mlocked: 0 }));
    if (actor.workload === 'mlock-loop') held.mlocked += pages;
    else held.mapped += pages;
  }
  return all;
}

/**
 * The formula: what whoever pays is charged at most, in pages, if every request succeeds. Every container pays for all
 * it has mapped, twice for what is mapped twice. type1, and iommufd in RLIMIT_MODE 1, charge the address space, as
 * mlock does; iommufd charges the user all its guests share, and mlock is a count of its own.
 */
export function formulaPages(guests: readonly GuestPlan[], payer: Payer): number {
  const users = new Map<number, number>();
  let most = 0;
  for (const guest of guests) {
    const spaces = heldBy(guest);
    for (const { mapped, mlocked } of spaces) most = Math.max(most, payer === 'mm' ? mapped + mlocked : mlocked);
    if (payer !== 'user') continue;
    const user = guest.uid ?? -1 - guest.index;
    const sum = (users.get(user) ?? 0) + spaces.reduce((n, { mapped }) => n + mapped, 0);
    users.set(user, sum);
    most = Math.max(most, sum);
  }
  return most;
}

/** Asks for probes of limits until it knows the smallest one at which `ok` holds. Null: there is none. */
function* smallest(
  formula: number,
  ok: (probe: Probe) => boolean,
): Generator<number | null, { at: Probe; below: Probe | null }, Probe> {
  let high: Probe;
  let low: Probe | null = null;
  const first = yield formula;
  const pagesOf = (probe: Probe): number => probe.limitPages as number;
  if (ok(first)) {
    high = first;
    for (let step = 1; low === null && pagesOf(high) > 0; step *= 2) {
      const probe: Probe = yield Math.max(0, pagesOf(high) - step);
      if (ok(probe)) high = probe;
      else low = probe;
    }
  } else {
    low = first;
    const most = yield LIMIT_MAX_PAGES;
    if (!ok(most)) return { at: yield null, below: null };
    high = most;
    for (let step = 1; pagesOf(low) + step < pagesOf(high); step *= 2) {
      const probe: Probe = yield pagesOf(low) + step;
      if (ok(probe)) high = probe;
      else low = probe;
    }
  }
  while (low !== null && pagesOf(high) - pagesOf(low) > 1) {
    const probe: Probe = yield Math.floor((pagesOf(low) + pagesOf(high)) / 2);
    if (ok(probe)) high = probe;
    else low = probe;
  }
  return { at: high, below: low };
}

interface Search {
  readonly setting: Setting;
  readonly variant: Variant;
  readonly devices: number;
  readonly plans: readonly RunPlan[];
  /** Guests as the scenario has them. */
  readonly given: readonly GuestPlan[];
  readonly formula: number;
  readonly steps: ReturnType<typeof smallest>;
  /** The limit to be tried next; undefined when the search is over. */
  next: number | null | undefined;
  found: { at: Probe; below: Probe | null } | null;
  simulations: number;
}

/** @throws UserError for a faulty scenario. */
export async function advise(
  source: ParsedSource,
  overrides: readonly Override[],
  { variants, devices, maxFailures, repeat, threads, onProgress, stop }: AdviseOptions,
): Promise<Advised> {
  const ok = (probe: Probe): boolean => shareOf(probe) <= maxFailures;
  const origin = { kind: 'flag', text: '--variants' } as const;
  const searches = variants.flatMap((name) => {
    const resolved = scenarioOf(source, [...overrides, { path: 'variant', value: name, origin }]);
    const planned = plansOf(resolved, repeat);
    // Where nothing is drawn, one seed stands for all.
    const plans = planned.random ? planned.plans : planned.plans.slice(0, 1);
    const [first] = plans as [RunPlan];
    const variant = resolveVariant(first.variant);
    const setting = settingOf(first, planned.random);
    // Devices that every guest has anyway make no row of their own.
    const least = Math.min(...first.guests.map(({ containers }) => containers));
    return [...new Set(devices.map((n) => Math.max(n, least)))].map((n): Search => {
      const own = plans.map((plan) => ({ ...plan, guests: plan.guests.map((guest) => withDevices(guest, n)) }));
      const formula = Math.max(...own.map((plan) => formulaPages(plan.guests, payerOf(variant))));
      const steps = smallest(formula, ok);
      const next = steps.next().value as number | null;
      return {
        setting,
        variant,
        devices: n,
        plans: own,
        given: first.guests,
        formula,
        steps,
        next,
        found: null,
        simulations: 0,
      };
    });
  });
  for (;;) {
    // One round: the next probe of every search that is not over, side by side.
    const open = searches.filter((search) => search.found === null);
    onProgress?.(searches.length - open.length, searches.length);
    if (open.length === 0) break;
    const probes = await probeAll(open, threads, stop);
    if (stop?.isSet === true) break;
    for (const [i, search] of open.entries()) {
      search.simulations += search.plans.length;
      const step = search.steps.next(probes[i] as Probe);
      if (step.done === true) search.found = step.value;
      else search.next = step.value;
    }
  }
  const over = searches.filter((search) => search.found !== null);
  if (over.length === 0) throw new UserError(EXIT.stopped, 'stopped by the user before a limit was found', null);
  const cells = over.map(({ setting, variant, devices: n, plans, formula, found, simulations }): Advice => {
    const { at, below } = found as NonNullable<Search['found']>;
    return {
      variant: variant.id,
      devices: n,
      payer: payerOf(variant),
      limitPages: at.limitPages,
      formulaPages: formula,
      at,
      below,
      simulations,
      seeds: plans.map(({ seed }) => seed),
      setting,
    };
  });
  const [plan] = searches[0]?.plans ?? [];
  const seeds = searches[0]?.plans.map(({ seed }) => seed) ?? [];
  const facts = { name: plan?.name ?? '', guests: plan?.guests.length ?? 0, seeds, cells, wanted: searches.length };
  return { ...facts, notes: notesOf(cells, searches, ok) };
}

async function probeAll(
  searches: readonly Search[],
  threads: number | undefined,
  stop: StopSignal | undefined,
): Promise<Probe[]> {
  const tasks: HostTask[] = [];
  const slices = searches.map(({ plans, next }) =>
    plans.map((plan) => {
      const memlockBytes = next === null || next === undefined ? null : next * PAGE_BYTES;
      const limited = { ...plan, guests: plan.guests.map((g) => ({ ...g, memlockBytes, capIpcLock: false })) };
      const { guests: _guests, ...head } = limited;
      const from = tasks.length;
      for (let i = 0; i < Math.min(plan.host.count, Math.max(1, plan.guests.length)); i += 1) {
        tasks.push({ plan: head, guests: guestsOfHost(limited, i) });
      }
      return { plan, from, to: tasks.length };
    }),
  );
  const hosts = await simulateAll(tasks, { threads, stop });
  return slices.map((runs, i) => {
    const limitPages = searches[i]?.next ?? null;
    const probes = runs.map(({ plan, from, to }) => probeOf(plan, hosts.slice(from, to), limitPages));
    const otherRefusals: Record<string, number> = {};
    for (const [outcome, n] of probes.flatMap((p) => Object.entries(p.otherRefusals))) {
      otherRefusals[outcome] = (otherRefusals[outcome] ?? 0) + n;
    }
    return {
      limitPages,
      otherRefusals,
      entryLimitRefusals: probes.reduce((n, p) => n + p.entryLimitRefusals, 0),
      requests: probes.reduce((n, p) => n + p.requests, 0),
      refused: probes.reduce((n, p) => n + p.refused, 0),
      mappings: Math.max(...probes.map((p) => p.mappings)),
      violations: [...new Set(probes.flatMap((p) => p.violations))],
    };
  });
}

/**
 * The limit refuses with ENOMEM, or mlock with EPERM where it is 0; other reasons for ENOMEM, such as injected faults,
 * are told apart by the model's counter of its refusals. A call that a signal interrupted was neither granted nor
 * refused.
 */
function probeOf(plan: RunPlan, hosts: readonly HostResult[], limitPages: number | null): Omit<Probe, 'limitPages'> {
  const broken = hosts.find(({ error }) => error !== null)?.error;
  if (broken !== undefined) throw new UserError(EXIT.inconclusive, `a guest ended with an error: ${broken}`, null);
  const snapshot = mergedSnapshot(plan, hosts);
  const count = (op: number, outcome: number): number => snapshot.count(actualSeries(op, outcome));
  const counter = (name: (typeof MODEL_COUNTERS)[number]): number =>
    snapshot.counters[snapshot.layout.counterNames.indexOf(name)] ?? 0;
  const all = (outcome: number): number => REQUESTS.reduce((n, op) => n + count(op, outcome), 0);
  const granted = all(Outcome.ok);
  const denied = limitPages === 0 ? count(Op.mlock, Outcome.other_error) : 0;
  const over = Math.min(all(Outcome.enomem), counter('limit_refusals'));
  const others = OUTCOMES.flatMap((name, outcome): [string, number][] => {
    if (outcome === Outcome.ok || outcome === Outcome.interrupted) return [];
    const ofLimit = outcome === Outcome.enomem ? over : outcome === Outcome.other_error ? denied : 0;
    const n = all(outcome) - ofLimit;
    return n === 0 ? [] : [[name, n]];
  });
  return {
    requests: granted + over + denied,
    refused: over + denied,
    otherRefusals: Object.fromEntries(others),
    entryLimitRefusals: counter('entry_limit_refusals'),
    mappings: Math.max(0, ...hosts.map(({ mappingsMax }) => mappingsMax)),
    violations: [...new Set(hosts.flatMap(({ violationCounts }) => Object.keys(violationCounts)))],
  };
}

const PAYER_TEXT: Readonly<Record<Payer, string>> = {
  mm:
    'pinned pages are charged to the address space. It needs the sum over its containers of what each has mapped, what is ' +
    'mapped twice counting twice, plus what mlock holds.',
  user:
    'pinned pages are charged to the user. It needs the same sum over all guests of one uid; what mlock holds is counted ' +
    'apart, by the address space.',
  nobody: 'pinned pages are charged to nobody. Only mlock needs a limit.',
};

function notesOf(cells: readonly Advice[], searches: readonly Search[], ok: (probe: Probe) => boolean): string[] {
  const notes: string[] = [];
  const variantsWith = (of: (cell: Advice) => boolean): string =>
    [...new Set(cells.filter(of).map(({ variant }) => variant))].join(', ');
  for (const payer of ['mm', 'user', 'nobody'] as const) {
    const names = variantsWith((c) => c.payer === payer);
    if (names !== '') notes.push(`${names}: ${PAYER_TEXT[payer]}`);
  }
  const { formula, plans } = searches.reduce((a, b) => (b.formula > a.formula ? b : a));
  const largest = (plans[0]?.guests ?? []).reduce((a, b) => (sizeOf(b) > sizeOf(a) ? b : a));
  const [own] = heldBy(largest) as [Held, ...Held[]];
  notes.push(
    `The largest guest, of class ${largest.class} with ${roundedBytes(largest.memory.bytes)} of memory, maps ` +
      `${roundedBytes(own.mapped * PAGE_BYTES)} through ${plural(largest.containers, 'container')}` +
      `${own.mlocked > 0 ? ` and locks ${roundedBytes(own.mlocked * PAGE_BYTES)} with mlock` : ''}. ` +
      'Devices without a vIOMMU share one container, so they need what one needs.',
  );
  if (formula > 0 && !searches.some(({ plans: [plan] }) => plan?.guests.some((g) => g.actors.some(namesContainer)))) {
    notes.push('No workload of the scenario names a container, so the number of devices changes nothing.');
  }
  const given = new Map((searches[0]?.given ?? []).filter(({ containers }) => containers > 1).map((g) => [g.class, g]));
  for (const { class: name, containers } of given.values()) {
    notes.push(
      `Class ${name} has ${containers} containers in the scenario: these are ${containers} devices. ` +
        'A row of more adds copies of them, a row of fewer leaves them as they are.',
    );
  }
  for (const cell of cells) {
    const why = differenceOf(cell, ok);
    const name = `${cell.variant}, ${plural(cell.devices, 'device')}`;
    if (why !== null) notes.push(`${name}: ${why}`);
    const others = othersOf(cell.at);
    if (others !== null) notes.push(`${name}: ${others}`);
  }
  return notes;
}

/** What no limit would change; null: nothing else was refused. */
function othersOf({ otherRefusals, entryLimitRefusals }: Probe): string | null {
  const counts = Object.entries(otherRefusals).map(([name, n]) => `${n} with ${outcomeText(name)}`);
  if (counts.length === 0) return null;
  const left = `The limit has no part in refusals of other kinds, which are left out: ${counts.join(', ')}.`;
  return entryLimitRefusals === 0 ? left : `${left} ${explainEntryLimit(entryLimitRefusals)}`;
}

const sizeOf = (guest: GuestPlan): number => heldBy(guest).reduce((n, { mapped, mlocked }) => n + mapped + mlocked, 0);

/** Why the model needs another limit than the formula says; null where it does not. */
function differenceOf(cell: Advice, ok: (probe: Probe) => boolean): string | null {
  const { limitPages, formulaPages: formula, at } = cell;
  if (limitPages === null) {
    if (ok(at)) return 'no limit is large enough, only the lack of one: what is charged grows without bound.';
    const share = `${percent(shareOf(at))} of requests fail even with RLIM_INFINITY`;
    return `${share}: locked_vm goes below zero for moments, and then exceeds any limit. Only CAP_IPC_LOCK helps.`;
  }
  const by = limitPages - formula;
  if (by === 0) return null;
  const pages = plural(Math.abs(by), 'page');
  if (by > 0) {
    const deferring = resolveVariant(cell.variant).deferring;
    return `${pages} more than the formula: ${deferring ? 'decrements that wait in work items still count' : 'more is charged for a moment than is held'}.`;
  }
  if (at.violations.includes('limit-bypass'))
    return `${pages} less than the formula: updates that wait are not seen by the test, so more is pinned than the limit allows.`;
  if (Object.keys(at.otherRefusals).length > 0) {
    return `${pages} less than the formula: what something else refuses is not locked.`;
  }
  return `${pages} less than the formula: not everything is locked at the same time, or some refusals are allowed.`;
}

const plural = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

const kib = (pages: number): string => String((pages * PAGE_BYTES) / 1024);

/** The table for people, at most 80 columns. */
export function adviceText({ name, guests, cells, notes }: Advised, maxFailures: number): string {
  const rows = cells.map(({ variant, devices, limitPages, formulaPages: formula, at, below }) => [
    variant,
    String(devices),
    limitPages === null ? (shareOf(at) <= maxFailures ? 'unlimited' : 'none') : kib(limitPages),
    limitPages === null ? '' : roundedBytes(limitPages * PAGE_BYTES),
    kib(formula),
    String(at.mappings),
    below === null ? '' : percent(shareOf(below)),
  ]);
  const head = ['variant', 'devices', 'ulimit -l', '', 'formula, KiB', 'mappings', 'a page less'];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] as string).length)));
  const line = (cols: readonly string[]): string =>
    cols.map((col, i) => (i === 0 ? col.padEnd(widths[i] as number) : col.padStart(widths[i] as number))).join('  ');
  return [
    `${name}: ${plural(guests, 'guest')}`,
    `The smallest limit at which at most ${percent(maxFailures)} of requests for locked memory are`,
    'refused, in KiB; the most mappings of one container; what a page less refuses.',
    '',
    line(head).trimEnd(),
    ...rows.map((row) => line(row).trimEnd()),
    ...notes.flatMap((note) => ['', ...wrap(note, 80)]),
    '',
    ...(cells.some(({ setting }) => setting.random) ? [] : [ALIKE]),
    ...wrap(`${settingParts(cells).join('; ')}.`, 80),
    '',
  ].join('\n');
}
