/** The intervals as CSV: a line for each slot of time, a column for each figure. */
import { escaped } from '../base/printable.ts';
import type { ChartData, Slot } from './chart-data.ts';

const QUANTILES = ['count', 'p50_ns', 'p99_ns', 'p999_ns', 'max_ns'] as const;

/** RFC 4180. Long runs have several intervals in a line, with their histograms added up. */
export function intervalsCsv({ slots }: ChartData): string {
  const names = (of: (slot: Slot) => Readonly<Record<string, unknown>>): string[] =>
    [...new Set(slots.flatMap((slot) => Object.keys(of(slot))))].toSorted();
  const [counters, gauges, guests, series] = [
    names((s) => s.counters),
    names((s) => s.gauges),
    names((s) => s.guests),
    names((s) => s.series),
  ];
  const heads = [
    'start_seconds',
    'end_seconds',
    ...counters,
    ...gauges,
    ...guests.map((state) => `guests_${state}`),
    ...series.flatMap((name) => QUANTILES.map((quantile) => `${name}.${quantile}`)),
  ];
  const lines = slots.map((slot) => [
    slot.start,
    slot.end,
    ...counters.map((name) => slot.counters[name] ?? 0),
    ...gauges.map((name) => slot.gauges[name] ?? ''),
    ...guests.map((state) => slot.guests[state] ?? ''),
    ...series.flatMap((name) => QUANTILES.map((_, i) => slot.series[name]?.[i] ?? (i === 0 ? 0 : ''))),
  ]);
  return [heads.map((head) => quoted(head)), ...lines].map((line) => `${line.join(',')}\r\n`).join('');
}

/**
 * Names come from the files of the run, which anybody may have changed: no separator of theirs counts, no formula, and
 * nothing that a terminal obeys when the file is shown there.
 */
function quoted(name: string): string {
  const text = escaped(name).replaceAll(/\s+/g, ' ');
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
