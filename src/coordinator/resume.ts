/** Comes to the state of a coordinator that died: its decisions and the messages of workers, read back in order. */
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import { VERSION } from '../base/version.ts';
import type { RunKeys } from '../wire/keys.ts';
import { ControlMessage, JournalEntry, WorkerMessage } from '../wire/messages.ts';
import { listRuns } from '../wire/runs.ts';
import { isBefore, readWhole, type StreamReader } from '../wire/streams.ts';
import type { CoordinatorOptions } from './coordinator-api.ts';
import type { Decisions } from './decisions.ts';
import type { Inbox } from './inbox.ts';

/** A run can only go on as it began. */
export function otherPlan(runId: string, what: string): UserError {
  const hint = 'give the same scenario, options and version again';
  return new UserError(EXIT.invalid, `run ${runId} was started with ${what}`, hint);
}

/** Checks that the run is there and is of this plan and version. @throws UserError 104 when it is not. */
export async function checkResumable(redis: Redis, { runId, plan, target }: CoordinatorOptions): Promise<void> {
  const record = (await listRuns(redis, target.prefix)).get(runId);
  if (record === undefined) {
    const hint = 'pinstorm clean lists the runs; one that has ended, or that Redis lost, cannot go on';
    throw new UserError(EXIT.invalid, `there is no run ${runId} at ${target.label}`, hint);
  }
  if (record.version !== VERSION || record.planHash !== plan.hash) {
    throw otherPlan(runId, record.version === VERSION ? 'another plan' : `pinstorm ${record.version}`);
  }
}

/**
 * Replays journal and events, and leaves `reader` behind the last event.
 * @returns the kinds of messages the workers were told: the effects of the last decision may have been left half done.
 */
export async function replay(
  redis: Redis,
  keys: RunKeys,
  reader: StreamReader<WorkerMessage>,
  inbox: Inbox,
  decisions: Decisions,
): Promise<ReadonlySet<ControlMessage['t'] | undefined>> {
  const apply = (entry: JournalEntry | null | undefined): void => {
    if (entry === null || entry === undefined) reader.refused += 1;
    else decisions.apply(entry.decision);
  };
  decisions.replaying = true;
  const now = performance.now();
  const journal = await readWhole(redis, keys.journal, JournalEntry);
  for (const [id, message] of await readWhole(redis, keys.events, WorkerMessage)) {
    while (journal[0] !== undefined && isBefore(journal[0][1]?.after ?? '0', id)) apply(journal.shift()?.[1]);
    if (message === null) reader.refused += 1;
    else inbox.receive(message, now);
    reader.skipTo(keys.events, id);
  }
  for (const [, entry] of journal) apply(entry);
  decisions.replaying = false;
  return new Set((await readWhole(redis, keys.control, ControlMessage)).map(([, message]) => message?.t));
}
