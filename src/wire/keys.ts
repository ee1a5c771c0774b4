import { runTag } from './queue.ts';

/** Hash of the runs in this Redis: run id to RunRecord. Workers started by hand look here. */
export const runsKey = (prefix: string): string => `{${prefix}}:runs`;

export interface RunKeys {
  /** The plan, JSON, gzip. */
  readonly plan: string;
  /** Stream: what the coordinator tells the workers. */
  readonly control: string;
  /** Stream: registrations, outcomes, finals; never trimmed. */
  readonly events: string;
  /** Stream: a message per worker and second; the oldest are trimmed. */
  readonly intervals: string;
  /** Stream: what the coordinator decided and after which event, so that another one can go on in its place. */
  readonly journal: string;
  /** Hash: slice to `incarnation:worker`. */
  readonly claims: string;
  /** Hash: name of a worker to the token of the process that has it. Others cannot claim under that name. */
  readonly workers: string;
  /** Hash: workers declared lost. They may not claim, and end when they see it. */
  readonly fenced: string;
  /** Hash: worker to the slices that were taken from it, so that asking twice gets one answer. */
  readonly reclaimed: string;
  /** When the coordinator was last there, ms of the Redis clock. Expires when the workers stop waiting for it. */
  readonly alive: string;
  /** Token of the one coordinator that may decide; expires soon after it was last there. */
  readonly leader: string;
}

export function runKeys(prefix: string, runId: string): RunKeys {
  const key = (name: string): string => `${runTag(prefix, runId)}:${name}`;
  return {
    plan: key('plan'),
    control: key('control'),
    events: key('events'),
    intervals: key('intervals'),
    journal: key('journal'),
    claims: key('claims'),
    workers: key('workers'),
    fenced: key('fenced'),
    reclaimed: key('reclaimed'),
    alive: key('alive'),
    leader: key('leader'),
  };
}
