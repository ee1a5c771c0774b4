/** Which coordinator leads a run: at most one decides, and another can take its place when it is gone. */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { EXIT, UserError } from '../base/errors.ts';
import type { RunKeys } from '../wire/keys.ts';
import { type JournalEntry, orphanMs } from '../wire/messages.ts';
import { KEYS_LIVE_MS } from '../wire/queue.ts';
import type { RedisTarget } from '../wire/redis.ts';

// The keys of the run expire unless a coordinator keeps them.
const BEAT = `
if redis.call('EXISTS', KEYS[3]) == 0 then return 'gone' end
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then return 'taken' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local now = redis.call('TIME')
redis.call('SET', KEYS[2], now[1] .. string.format('%03d', math.floor(now[2] / 1000)), 'PX', ARGV[3])
for i = 3, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[4]) end
return 'ok'
`;

/** What a script says that changes something for a coordinator which does not lead any more. */
const TAKEN = 'TAKEN another coordinator leads the run';

/** The beginning of such a script: which key and which argument have the leader's token. */
export const onlyLeader = (key: number, argument: number): string => `
local leader = redis.call('GET', KEYS[${key}])
if leader and leader ~= ARGV[${argument}] then return redis.error_reply('${TAKEN}') end`;

const NOTE = `${onlyLeader(1, 1)}
return redis.call('XADD', KEYS[2], '*', 'm', ARGV[2])
`;

/** The lead is free for another coordinator when its own was not there for so long. */
const LEADER_MS = 4000;
const RETRY_MS = 100;

export class Lead {
  /** The run is another coordinator's: nothing in Redis is ours to change. */
  taken = false;
  readonly token = randomUUID();

  constructor(
    private readonly redis: Redis,
    private readonly keys: RunKeys,
    private readonly options: { readonly target: RedisTarget; readonly runId: string; readonly leaseMs: number },
  ) {}

  /** taken: another coordinator leads the run. gone: Redis has lost the run. */
  async #try(): Promise<'ok' | 'taken' | 'gone'> {
    const { leader, alive, plan, ...rest } = this.keys;
    const keys = [leader, alive, plan, ...Object.values<string>(rest)];
    const times = [LEADER_MS, orphanMs(this.options), KEYS_LIVE_MS];
    return (await this.redis.eval(BEAT, keys.length, ...keys, this.token, ...times)) as 'ok';
  }

  /**
   * Takes or keeps the lead, and tells the workers that the run has a coordinator.
   * @throws UserError 113 when it cannot.
   */
  async hold(): Promise<void> {
    const { target } = this.options;
    const held = await this.#try();
    if (held === 'ok') return;
    if (held === 'taken') throw this.#lost();
    throw new UserError(
      EXIT.inconclusive,
      `Redis at ${target.label} has lost the data of the run`,
      'let it keep its data (appendonly yes); the run directory holds what was measured, see pinstorm report',
    );
  }

  #lost(): UserError {
    this.taken = true;
    return new UserError(EXIT.inconclusive, `another coordinator has taken over run ${this.options.runId}`, null);
  }

  /**
   * Does what only the leader may; the script that does it looks itself. @throws UserError 113 when another one leads.
   */
  async as<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Error && error.message.includes(TAKEN)) throw this.#lost();
      throw error;
    }
  }

  /** Writes a decision to the journal. @returns its id there. @throws UserError 113 when another coordinator leads. */
  note(entry: JournalEntry): Promise<string> {
    const { leader, journal } = this.keys;
    const text = JSON.stringify(entry);
    return this.as(async () => (await this.redis.eval(NOTE, 2, leader, journal, this.token, text)) as string);
  }

  /** Takes the lead of a run whose coordinator died a moment ago. @throws UserError 104 when it is alive. */
  async takeOver(): Promise<void> {
    const until = performance.now() + LEADER_MS + 10 * RETRY_MS;
    while ((await this.#try()) !== 'ok') {
      if (performance.now() > until) {
        this.taken = true;
        const what = `the coordinator of run ${this.options.runId} is alive`;
        throw new UserError(EXIT.invalid, what, 'stop it first, or let it go on');
      }
      await pause(RETRY_MS);
    }
  }
}
