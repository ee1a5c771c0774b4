/** A job of a worker's deferred queue: the accounting updates that it could not make at once. */
import { z } from 'zod';
import type { DeferredUpdate } from '../engine/wall/wall-control.ts';

/** Words per update in a job: operation id and time are relative to the job's first. */
const WORDS = 6;
const BATCH_LIMIT = 10_000;

/** Tens of thousands of numbers: one predicate is faster than a schema for each of them. */
function areWords(u: unknown): boolean {
  if (!Array.isArray(u) || u.length === 0 || u.length % WORDS !== 0 || u.length > BATCH_LIMIT * WORDS) return false;
  for (const word of u as unknown[]) if (!Number.isSafeInteger(word)) return false;
  return true;
}

export const DeferredJob = z.strictObject({
  v: z.literal(1),
  /** Of the first update. */
  id: z.int(),
  ns: z.int(),
  /** opId - id, mm, guest, incarnation, npage, queuedAtNs - ns of each update. */
  u: z.custom<readonly number[]>(areWords),
});
export type DeferredJob = z.infer<typeof DeferredJob>;

export function encodeJob(updates: readonly DeferredUpdate[]): DeferredJob {
  const id = updates[0]?.opId ?? 0;
  const ns = updates[0]?.queuedAtNs ?? 0;
  const u: number[] = [];
  for (const x of updates) u.push(x.opId - id, x.mm, x.guest, x.incarnation, x.npage, x.queuedAtNs - ns);
  return { v: 1, id, ns, u };
}

/** Decodes job data from Redis, which anybody may have written. Null when it is not exactly what `encodeJob` makes. */
export function decodeJob(data: unknown): DeferredUpdate[] | null {
  const parsed = DeferredJob.safeParse(data);
  if (!parsed.success) return null;
  const { id, ns, u } = parsed.data;
  const word = (at: number): number => u[at] as number;
  const updates: DeferredUpdate[] = [];
  for (let at = 0; at < u.length; at += WORDS) {
    const mm = word(at + 1);
    const guest = word(at + 2);
    const incarnation = word(at + 3);
    if (mm < 0 || guest < 0 || incarnation < 0) return null;
    const opId = id + word(at);
    const queuedAtNs = ns + word(at + 5);
    if (!Number.isSafeInteger(opId) || !Number.isSafeInteger(queuedAtNs)) return null;
    updates.push({ opId, mm, guest, incarnation, npage: word(at + 4), queuedAtNs });
  }
  return updates;
}
