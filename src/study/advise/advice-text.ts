/** Advice in words: the table, and why a limit is another one than the formula says. */
import { plural } from '../../base/plural.ts';
import { roundedBytes } from '../../base/units-text.ts';
import { PAGE_BYTES } from '../../base/units.ts';
import { resolveVariant } from '../../model/kernels/index.ts';
import { ALIKE, outcomeText, settingParts } from '../../report/experiment.ts';
import { explainEntryLimit } from '../../report/explanation.ts';
import { percent, wrap } from '../../report/format.ts';
import type { Advice, Advised, Fleet } from './advice.ts';
import { type Held, heldBy, namesContainer, type Payer, sizeOf } from './formula.ts';
import { type Probe, shareOf } from './probe.ts';

const PAYER_TEXT: Readonly<Record<Payer, string>> = {
  mm:
    'pinned pages are charged to the address space. It needs the sum over its containers of what each has mapped, what is ' +
    'mapped twice counting twice, plus what mlock holds.',
  user:
    'pinned pages are charged to the user. It needs the same sum over all guests of one uid; what mlock holds is counted ' +
    'apart, by the address space.',
  nobody: 'pinned pages are charged to nobody. Only mlock needs a limit.',
};

/** What is said below the table. */
export function notesOf(cells: readonly Advice[], fleets: readonly Fleet[], ok: (probe: Probe) => boolean): string[] {
  const notes: string[] = [];
  const variantsWith = (of: (cell: Advice) => boolean): string =>
    [...new Set(cells.filter(of).map(({ variant }) => variant))].join(', ');
  for (const payer of ['mm', 'user', 'nobody'] as const) {
    const names = variantsWith((c) => c.payer === payer);
    if (names !== '') notes.push(`${names}: ${PAYER_TEXT[payer]}`);
  }
  const { formulaPages, plans } = fleets.reduce((a, b) => (b.formulaPages > a.formulaPages ? b : a));
  const largest = (plans[0]?.guests ?? []).reduce((a, b) => (sizeOf(b) > sizeOf(a) ? b : a));
  const [own] = heldBy(largest) as [Held, ...Held[]];
  notes.push(
    `The largest guest, of class ${largest.class} with ${roundedBytes(largest.memory.bytes)} of memory, maps ` +
      `${roundedBytes(own.mapped * PAGE_BYTES)} through ${plural(largest.containers, 'container')}` +
      `${own.mlocked > 0 ? ` and locks ${roundedBytes(own.mlocked * PAGE_BYTES)} with mlock` : ''}. ` +
      'Devices without a vIOMMU share one container, so they need what one needs.',
  );
  if (
    formulaPages > 0 &&
    !fleets.some(({ plans: [plan] }) => plan?.guests.some((g) => g.actors.some(namesContainer)))
  ) {
    notes.push('No workload of the scenario names a container, so the number of devices changes nothing.');
  }
  const given = new Map((fleets[0]?.given ?? []).filter(({ containers }) => containers > 1).map((g) => [g.class, g]));
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

/** The document for programs. */
export function adviceJson(advised: Advised, maxFailures: number): string {
  const share = (probe: Probe): object => ({ ...probe, refusedShare: shareOf(probe) });
  const cells = advised.cells.map((cell) => ({
    ...cell,
    limitBytes: cell.limitPages === null ? null : cell.limitPages * PAGE_BYTES,
    formulaBytes: cell.formulaPages * PAGE_BYTES,
    at: share(cell.at),
    below: cell.below === null ? null : share(cell.below),
  }));
  const complete = cells.length === advised.wanted;
  return `${JSON.stringify({ ...advised, complete, maxFailures, cells }, null, 2)}\n`;
}
