/**
 * The job queues of a run, on BullMQ: the only module that knows it.
 *
 * BullMQ delivers at least once: a job whose lock could not be renewed in time is handed out again. Handlers must be
 * idempotent. A job is never given up because it stalled, and its data is untrusted input to the handler.
 */
import { type Job, type JobJson, Queue, Worker } from './bullmq.ts';
import type { Redis } from './ioredis.ts';
import { isRefusal, openRedis, type RedisTarget } from './redis.ts';

export interface QueueName {
  /** Prefix of all keys of the queue; its {hash tag} keeps them in one slot of a Redis Cluster. */
  readonly prefix: string;
  readonly name: string;
}

const RUN_ID = /^[A-Za-z0-9-]{1,64}$/;

/** Whether a text can name a run or a worker: it becomes part of Redis keys. */
export const isKeyPart = (text: string): boolean => RUN_ID.test(text);

/**
 * Keys of a run or an experiment expire this long after its coordinator was last there, ms: a Redis that comes back
 * with a snapshot older than the run's end brings back keys that nobody would remove. Longer than any `orphanMs`.
 */
export const KEYS_LIVE_MS = 24 * 3600 * 1000;

/** Hash tag of the control keys and of the guest queue of a run. */
export const runTag = (prefix: string, runId: string): string => `{${prefix}:${runId}}`;
export const guestQueue = (prefix: string, runId: string): QueueName => ({
  prefix: runTag(prefix, runId),
  name: 'guests',
});

/** Each worker's deferred queue has a hash tag of its own: in a cluster they spread over the shards. */
export const deferredQueue = (prefix: string, runId: string, workerId: string): QueueName => ({
  prefix: `{${prefix}:${runId}:${workerId}}`,
  name: `deferred-${workerId}`,
});

/** How long a job's lock holds without renewal, and how often lost locks are looked for, in milliseconds. */
export interface QueueTiming {
  readonly lockDurationMs: number;
  readonly stalledIntervalMs: number;
}
export const DEFAULT_TIMING: QueueTiming = { lockDurationMs: 30_000, stalledIntervalMs: 5_000 };

/**
 * BullMQ's fetch loop tries again after this long when Redis refuses it, for example because its memory is full, ms.
 */
const FETCH_RETRY_MS = 1000;

/** Refusals of Redis are counted as one row when they are at most this far apart, ms. */
const ROW_GAP_MS = 15_000;

/** A row of refusals this long, and of at least this many, does not end by itself. */
const ROW_MS = 2000;
const ROW_REFUSALS = 3;

/**
 * Tells a refusal of Redis that lasts from one that happened once. Lost connections, a full memory and a Redis that
 * loads its data are none: they pass.
 */
export class Refusals {
  #count = 0;
  #firstMs = 0;
  #lastMs = 0;

  /** @param lasting called once with the refusal that goes on. */
  constructor(private readonly lasting: (error: Error) => void) {}

  note(error: unknown): void {
    if (!isRefusal(error) || this.#count === Infinity) return;
    const now = performance.now();
    if (this.#count === 0 || now - this.#lastMs > ROW_GAP_MS) {
      this.#count = 0;
      this.#firstMs = now;
    }
    this.#lastMs = now;
    this.#count += 1;
    if (this.#count < ROW_REFUSALS || now - this.#firstMs < ROW_MS) return;
    this.#count = Infinity;
    this.lasting(error);
  }

  /** Redis did what was asked: the row has ended. */
  accepted(): void {
    if (this.#count !== Infinity) this.#count = 0;
  }
}

// With its jobs, wherever they stand.
const RENEW = `
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, ARGV[2])
  local kind = redis.call('TYPE', key).ok
  local ids = {}
  if kind == 'list' then ids = redis.call('LRANGE', key, 0, -1) end
  if kind == 'zset' then ids = redis.call('ZRANGE', key, 0, -1) end
  for _, id in ipairs(ids) do redis.call('PEXPIRE', ARGV[1] .. id, ARGV[2]) end
end
`;

export interface JobProducer {
  /** Adds one job; a job of that id that still exists is left as it is. Rejects when Redis stays away. */
  add(id: string, data: unknown): Promise<void>;
  addAll(jobs: readonly { readonly id: string; readonly data: unknown }[]): Promise<void>;
  /** Jobs by state. */
  counts(): Promise<{ waiting: number; active: number; failed: number }>;
  /** Keeps the queue and its jobs for another `KEYS_LIVE_MS`. */
  renew(): Promise<void>;
  /** Removes the jobs nobody has taken yet. */
  removeWaiting(): Promise<void>;
  /** Removes the queue with everything in it, also jobs that are being handled. */
  remove(): Promise<void>;
  close(): Promise<void>;
}

export function openProducer(target: RedisTarget, queue: QueueName): JobProducer {
  const connection = openRedis(target, 'finite');
  const bull = new Queue(queue.name, {
    connection,
    prefix: queue.prefix,
    streams: { events: { maxLen: 100 } },
    defaultJobOptions: { removeOnComplete: true, removeOnFail: { count: 100 } },
  });
  // Errors reach the caller through the rejected command.
  bull.on('error', () => {});
  return {
    async add(id, data) {
      await bull.add(queue.name, data, { jobId: id });
    },
    async addAll(jobs) {
      await bull.addBulk(jobs.map(({ id, data }) => ({ name: queue.name, data, opts: { jobId: id } })));
    },
    async counts() {
      const { waiting = 0, active = 0, failed = 0 } = await bull.getJobCounts('waiting', 'active', 'failed');
      return { waiting, active, failed };
    },
    async renew() {
      const keys = Object.values(bull.keys);
      await connection.eval(RENEW, keys.length, ...keys, bull.toKey(''), KEYS_LIVE_MS);
    },
    async removeWaiting() {
      await bull.drain();
    },
    async remove() {
      await bull.obliterate({ force: true });
    },
    async close() {
      await bull.close().catch(() => {});
      connection.disconnect();
    },
  };
}

/** Longest data of a job, characters: the largest batch of deferred updates has a tenth of it. */
const MAX_JOB_CHARS = 4 << 20;

/**
 * Uses only a job's id and data: anyone who can write to Redis can set its options and its parent
 * too. Data that is too long or no JSON reaches the handler as null, so that the worker does not stumble over it for
 * ever.
 */
class LenientWorker extends Worker<unknown, void> {
  protected override createJob(json: JobJson, jobId: string): Job<unknown, void> {
    const bare = { id: jobId, name: '', opts: {}, progress: 0, attemptsMade: 0, attemptsStarted: 0, timestamp: 0 };
    const make = (data: string): Job<unknown, void> =>
      super.createJob({ ...bare, data, failedReason: '', returnvalue: '', stalledCounter: 0 }, jobId);
    try {
      return make(json.data.length <= MAX_JOB_CHARS ? json.data : 'null');
    } catch {
      return make('null');
    }
  }
}

export interface JobConsumer {
  /** Locks that were lost while a handler ran: each means a second delivery. */
  readonly lostLocks: number;
  /** Deliveries of jobs so damaged that BullMQ itself could not read them: no handler sees these. */
  readonly unreadable: number;
  /** How often the consumer connected again because jobs lay in Redis and none was handed out. */
  readonly reopened: number;
  /** Ends. `force`: without waiting for running handlers. */
  close(force: boolean): Promise<void>;
}

export interface ConsumerOptions {
  /** Jobs handled at a time. */
  readonly concurrency: number;
  readonly timing?: QueueTiming | undefined;
  /** Redis keeps refusing to hand out jobs: none will come. */
  readonly onRefused: (error: Error) => void;
}

/**
 * Looks at the queue, one in each interval of the search for stalled jobs, that must all find jobs and nothing handed
 * out. BullMQ itself takes two intervals to give a stalled job back.
 */
const LOOKS = 4;

/** Jobs that wait, and jobs that are said to be handled and whose lock has run out: those that nobody takes back. */
const UNSERVED = `
local unserved = redis.call('LLEN', KEYS[1])
for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  if redis.call('EXISTS', ARGV[1] .. id .. ':lock') == 0 then unserved = unserved + 1 end
end
return unserved
`;

/** Takes jobs and hands them to `handler`; a rejection marks the job as failed, it is not repeated. */
export function openConsumer(
  target: RedisTarget,
  queue: QueueName,
  options: ConsumerOptions,
  handler: (id: string, data: unknown) => Promise<void>,
): JobConsumer {
  return new Consumer(target, queue, options, handler);
}

/**
 * A BullMQ worker under supervision. Its fetch loop and its search for stalled jobs can stop for good when a connection
 * is lost at a bad moment or dies without a word, and it reports nothing then: taskforcesh/bullmq issues 3185, 4479,
 * 4585. So a consumer that is handed nothing while jobs lie in Redis starts again with fresh connections.
 */
class Consumer implements JobConsumer {
  lostLocks = 0;
  unreadable = 0;
  reopened = 0;
  readonly #refusals: Refusals;
  readonly #watch: NodeJS.Timeout;
  #connection: Redis;
  #bull: LenientWorker;
  #handling = 0;
  /** Whether a job was handed out since the last look. */
  #served = false;
  /** The look at the queue that Redis has not answered yet. */
  #looking = false;
  #starved = 0;
  #closed = false;

  constructor(
    private readonly target: RedisTarget,
    private readonly queue: QueueName,
    private readonly options: ConsumerOptions,
    private readonly handler: (id: string, data: unknown) => Promise<void>,
  ) {
    this.#refusals = new Refusals(options.onRefused);
    this.#connection = openRedis(target, 'endless');
    this.#bull = this.#open();
    this.#watch = setInterval(() => void this.#look(), (options.timing ?? DEFAULT_TIMING).stalledIntervalMs);
  }

  #open(): LenientWorker {
    const { concurrency, timing = DEFAULT_TIMING } = this.options;
    const bull = new LenientWorker(this.queue.name, (job) => this.#handle(job), {
      connection: this.#connection,
      prefix: this.queue.prefix,
      concurrency,
      lockDuration: timing.lockDurationMs,
      stalledInterval: timing.stalledIntervalMs,
      maxStalledCount: 1_000_000,
      runRetryDelay: FETCH_RETRY_MS,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 100 },
    });
    // Connection trouble heals by itself; a lost lock is a second delivery, which handlers expect.
    bull.on('error', (error) => {
      if (bull !== this.#bull) return;
      this.#refusals.note(error);
      if (error instanceof SyntaxError) {
        this.unreadable += 1;
        this.#served = true;
      } else if (/lock/i.test(error.message)) this.lostLocks += 1;
    });
    return bull;
  }

  async #handle(job: Job<unknown, void>): Promise<void> {
    this.#refusals.accepted();
    this.#served = true;
    this.#handling += 1;
    try {
      await this.handler(job.id ?? '', job.data);
    } finally {
      this.#handling -= 1;
    }
  }

  async #look(): Promise<void> {
    // A consumer whose hands are full, or that was handed something, is well.
    const idle = !this.#served && this.#handling < this.options.concurrency;
    this.#served = false;
    if (!idle) {
      this.#starved = 0;
    } else if (this.#looking || (await this.#unserved()) > 0) {
      this.#starved += 1;
      // The last look may end when the consumer has been closed.
      if (this.#starved >= LOOKS && !this.#closed) this.#reopen();
    } else {
      this.#starved = 0;
    }
  }

  async #unserved(): Promise<number> {
    const { wait, active } = this.#bull.keys;
    this.#looking = true;
    const connection = this.#connection;
    try {
      return Number(await connection.eval(UNSERVED, 2, wait as string, active as string, this.#bull.toKey('')));
    } catch {
      return 0;
    } finally {
      if (connection === this.#connection) this.#looking = false;
    }
  }

  /** Jobs that are being handled go on; their results come to nothing, and they are handed out again. */
  #reopen(): void {
    const [bull, connection] = [this.#bull, this.#connection];
    this.reopened += 1;
    this.#starved = 0;
    this.#looking = false;
    this.#connection = openRedis(this.target, 'endless');
    this.#bull = this.#open();
    connection.disconnect();
    void bull.close(true).catch(() => {});
  }

  async close(force: boolean): Promise<void> {
    this.#closed = true;
    clearInterval(this.#watch);
    await this.#bull.close(force).catch(() => {});
    this.#connection.disconnect();
  }
}
