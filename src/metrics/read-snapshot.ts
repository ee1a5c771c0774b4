/** Reads encoded snapshots. Apart from what writes them, so that the threads that simulate load no zod. */
import { z } from 'zod';
import { oneLine } from '../base/printable.ts';
import { SERIES_BY_NAME } from './ops.ts';
import { type EncodedSnapshot, FORMAT, Snapshot } from './snapshot.ts';
import type { StatsLayout } from './stats.ts';

/** Longest encoded snapshot accepted, characters. */
export const MAX_SNAPSHOT_CHARS = 4 << 20;

const amount = z.number().min(0).max(Number.MAX_VALUE);
const encoded: z.ZodType<EncodedSnapshot> = z.strictObject({
  format: z.literal(FORMAT),
  layout: z.string().max(64),
  counters: z.record(z.string().max(64), amount),
  /** By series name: compressed histogram, sum in ns, maximum in ns, counts between the edges. */
  series: z.record(z.string().max(64), z.tuple([z.string(), amount, amount, z.array(amount).max(65)])),
});

/**
 * Reads an encoded snapshot of the same layout. The text is untrusted: its size, names, counts and histograms are
 * checked.
 * @throws {Error} saying what is wrong with it.
 */
export function decodeSnapshot(layout: StatsLayout, text: string): Snapshot {
  if (text.length > MAX_SNAPSHOT_CHARS) throw new Error(`statistics of ${text.length} characters are too long`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new Error('statistics are not JSON');
  }
  const checked = encoded.safeParse(parsed);
  if (!checked.success)
    throw new Error(`statistics are malformed: ${oneLine(z.prettifyError(checked.error).split('\n')[0] ?? '')}`);
  if (checked.data.layout !== layout.fingerprint) throw new Error('statistics of a different layout or version');
  const snapshot = new Snapshot(layout);
  for (const [name, value] of Object.entries(checked.data.counters)) {
    const index = layout.counterNames.indexOf(name);
    if (index < 0) throw new Error(`statistics name an unknown counter: ${oneLine(name)}`);
    snapshot.counters[index] = value;
  }
  for (const [name, [histogram, sumNs, maxNs, buckets]] of Object.entries(checked.data.series)) {
    const id = SERIES_BY_NAME.get(name);
    if (id === undefined) throw new Error(`statistics name an unknown series: ${oneLine(name)}`);
    if (buckets.length !== layout.buckets) throw new Error(`statistics of ${name} have ${buckets.length} buckets`);
    snapshot.data.set(id, { cells: layout.scale.decode(histogram), buckets: Float64Array.from(buckets), sumNs, maxNs });
  }
  return snapshot;
}
