/** A plan as a table for people, at most 80 columns wide. */
import { plural } from '../base/plural.ts';
import { formatBytes, formatDuration, roundedBytes } from '../base/units-text.ts';
import { asBytes, asNs, PAGE_BYTES } from '../base/units.ts';
import type { GuestPlan, RunPlan } from '../engine/plan.ts';
import type { Registry } from './registry.ts';

const COLUMNS = 80;

type Warned = Pick<Registry, 'workloads' | 'limits' | 'limitsUsers' | 'checkThreshold'>;

/** Guests of one class, summed up. */
interface ClassSummary {
  readonly name: string;
  readonly guests: number;
  readonly bytes: readonly [min: number, max: number];
  readonly backings: readonly string[];
  readonly memlock: string;
  readonly startNs: readonly [min: number, max: number];
  readonly actors: string;
  readonly memoryPages: number;
  /** Pages its guests hold locked at most, if every operation succeeds. */
  readonly peakPages: number;
}

export function planText(plan: RunPlan, description: string, registry: Warned): string {
  const byClass = new Map<string, GuestPlan[]>();
  for (const guest of plan.guests) {
    const others = byClass.get(guest.class);
    if (others === undefined) byClass.set(guest.class, [guest]);
    else others.push(guest);
  }
  const classes = [...byClass.values()].map((guests) => summarise(guests, registry));
  const peakPages = classes.reduce((sum, one) => sum + one.peakPages, 0);
  const memoryPages = classes.reduce((sum, one) => sum + one.memoryPages, 0);
  const actors = plan.guests.reduce((sum, guest) => sum + guest.actors.length, 0);
  const lines = [
    plan.name,
    ...(description === '' ? [] : wrap(description, '')),
    '',
    ...facts(plan),
    '',
    `${plural(plan.guests.length, 'guest')}, ${plural(actors, 'actor')}, ${roundedBytes(memoryPages * PAGE_BYTES)} of memory`,
    `locked at peak if every map succeeds: ${peakPages} pages (${roundedBytes(peakPages * PAGE_BYTES)})`,
    '',
    ...table(classes),
    ...sharedQuotas(plan, registry).flatMap((text) => ['', ...wrap(text, '')]),
    ...memlockWarnings(plan, registry).flatMap((text) => ['', ...wrap(`warning: ${text}`, '')]),
  ];
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

/** The users whose guests share a quota, which is why these guests are not spread over workers. */
function sharedQuotas({ variant, guests }: RunPlan, registry: Warned): string[] {
  if (!registry.limitsUsers(variant)) return [];
  const byUid = new Map<number, number>();
  for (const { uid } of guests) if (uid !== undefined) byUid.set(uid, (byUid.get(uid) ?? 0) + 1);
  const shared = [...byUid].filter(([, count]) => count > 1);
  const [first] = shared;
  if (first === undefined) return [];
  const who =
    shared.length > 1
      ? `Guests of one uid (${shared.length} have several)`
      : `The ${first[1]} guests of uid ${first[0]}`;
  return [`${who} share one quota: they run on one worker, whatever --workers says.`];
}

/**
 * Classes of guests whose limit is below what they map, under a variant that has the limit: their maps will be refused.
 * Nothing where the scenario expects that.
 */
export function memlockWarnings(plan: RunPlan, registry: Warned): string[] {
  if (!registry.limits(plan.variant)) return [];
  const stages = (plan.stages ?? []).map(({ name }) => name);
  const expectsRefusals = plan.thresholds.some(({ metric, expression }) => {
    const { ops, expected } = registry.checkThreshold(metric, expression, stages);
    return expected.includes('enomem') && (ops ?? []).some((op) => op === 'map' || op === 'pin');
  });
  if (expectsRefusals) return [];
  const worst = new Map<string, { guests: number; peakPages: number; memlockBytes: number }>();
  const peaks = new Map<object, Map<object, number>>();
  for (const guest of plan.guests) {
    if (guest.capIpcLock || guest.memlockBytes === null) continue;
    let ofMemory = peaks.get(guest.memory);
    if (ofMemory === undefined) peaks.set(guest.memory, (ofMemory = new Map<object, number>()));
    let peakPages = ofMemory.get(guest.actors);
    if (peakPages === undefined) ofMemory.set(guest.actors, (peakPages = peakOf(guest, registry)));
    if (peakPages * PAGE_BYTES <= guest.memlockBytes) continue;
    const found = worst.get(guest.class) ?? { guests: 0, peakPages: 0, memlockBytes: guest.memlockBytes };
    found.guests += 1;
    found.peakPages = Math.max(found.peakPages, peakPages);
    worst.set(guest.class, found);
  }
  return [...worst].map(([name, { guests, peakPages, memlockBytes }]) => {
    const [limit, peak] = [formatBytes(asBytes(memlockBytes)), roundedBytes(peakPages * PAGE_BYTES)];
    return `${plural(guests, 'guest')} of class ${name} lock up to ${peak} each, and memlock is ${limit}: operations will be refused`;
  });
}

function facts(plan: RunPlan): string[] {
  const rows: [string, string][] = [
    ['variant', plan.variant],
    ['seed', String(plan.seed)],
    ['pace', plan.pace === 0 ? '0 (as fast as it goes)' : String(plan.pace)],
    ['duration', plan.durationNs === null ? 'until all guests have ended' : formatDuration(asNs(plan.durationNs))],
    ['profile', `${plan.profile.name}${plan.profile.calibrated ? '' : ' (not calibrated)'}`],
    [
      'deferred',
      `up to ${plural(plan.deferred.batch, 'update')} a job, flushed after ${formatDuration(asNs(plan.deferred.flushMs * 1e6))}`,
    ],
  ];
  const faults = Object.entries(plan.faults);
  if (faults.length > 0) rows.push(['faults', faults.map(([site, p]) => `${site} ${p}`).join(', ')]);
  if (plan.expect.length > 0) rows.push(['expected', plan.expect.join(', ')]);
  for (const { metric, expression } of plan.thresholds) rows.push(['threshold', `${metric}: ${expression}`]);
  for (const note of plan.notes ?? []) rows.push(['note', note]);
  rows.push(['hash', plan.hash]);
  return rows.map(([name, value]) => `${name.padEnd(10)} ${value}`);
}

function summarise(guests: readonly GuestPlan[], registry: Pick<Registry, 'workloads'>): ClassSummary {
  const [first] = guests as [GuestPlan, ...GuestPlan[]];
  // Guests with equal memory and equal actors share the objects.
  const peaks = new Map<object, Map<object, number>>();
  let most = first;
  let peakPages = 0;
  let memoryPages = 0;
  const bytes: [number, number] = [Infinity, 0];
  const startNs: [number, number] = [Infinity, 0];
  for (const guest of guests) {
    let ofMemory = peaks.get(guest.memory);
    if (ofMemory === undefined) peaks.set(guest.memory, (ofMemory = new Map<object, number>()));
    let peak = ofMemory.get(guest.actors);
    if (peak === undefined) ofMemory.set(guest.actors, (peak = peakOf(guest, registry)));
    if (guest.actors.length > most.actors.length) most = guest;
    peakPages += peak;
    memoryPages += guest.memory.bytes / PAGE_BYTES;
    widen(bytes, guest.memory.bytes);
    widen(startNs, guest.startNs);
  }
  return {
    name: first.class,
    guests: guests.length,
    bytes,
    backings: [...new Set(guests.map((guest) => guest.memory.backing))],
    memlock: first.memlockBytes === null ? 'unlimited' : formatBytes(asBytes(first.memlockBytes)),
    startNs,
    actors: actorsText(most),
    memoryPages,
    peakPages,
  };
}

function widen(range: [number, number], value: number): void {
  range[0] = Math.min(range[0], value);
  range[1] = Math.max(range[1], value);
}

function peakOf(guest: GuestPlan, registry: Pick<Registry, 'workloads'>): number {
  let pages = 0;
  for (const actor of guest.actors) {
    pages += registry.workloads.get(actor.workload)?.peakPages?.(actor.options, guest.memory) ?? 0;
  }
  return pages;
}

/** `mapper: map-unmap, vcpu x8: fault` */
function actorsText(guest: GuestPlan): string {
  const groups = new Map<string, { name: string; workload: string; count: number }>();
  for (const { name, workload } of guest.actors) {
    const base = name.replace(/-\d+$/, '');
    const group = groups.get(`${base} ${workload}`) ?? { name: base, workload, count: 0 };
    group.count += 1;
    groups.set(`${base} ${workload}`, group);
  }
  return [...groups.values()]
    .map(({ name, workload, count }) => `${name}${count > 1 ? ` x${count}` : ''}: ${workload}`)
    .join(', ');
}

function table(classes: readonly ClassSummary[]): string[] {
  const rows = classes.map((one) => [
    one.name,
    String(one.guests),
    range(one.bytes, (n) => roundedBytes(n)),
    one.backings.join(','),
    one.memlock,
    range(one.startNs, (n) => formatDuration(asNs(Math.round(n / 1e6) * 1e6))),
  ]);
  const head = ['CLASS', 'GUESTS', 'MEMORY', 'BACKING', 'MEMLOCK', 'START'];
  const widths = head.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => Math.min(row[i]?.length ?? 0, 24))),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (i === 1 ? cell.padStart(widths[i] ?? 0) : clip(cell, 24).padEnd(widths[i] ?? 0)))
      .join('  ')
      .slice(0, COLUMNS);
  const lines = [line(head)];
  for (const [i, row] of rows.entries()) lines.push(line(row), ...wrap(classes[i]?.actors ?? '', '    '));
  return lines;
}

const range = ([min, max]: readonly [number, number], text: (n: number) => string): string =>
  text(min) === text(max) ? text(min) : `${text(min)}..${text(max)}`;
const clip = (text: string, width: number): string => (text.length > width ? `${text.slice(0, width - 2)}..` : text);

function wrap(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(/\s+/)) {
    if (line.length > indent.length && line.length + 1 + word.length > COLUMNS) {
      lines.push(line);
      line = indent;
    }
    line += line.length > indent.length ? ` ${word}` : word;
  }
  return [...lines, line];
}
