/**
 * The job queues of a run, on BullMQ: the only module that knows it.
 *
 * BullMQ delivers at least once: a job whose lock could not be renewed in time is handed out again. Handlers must be
 * idempotent. A job is never given up because it stalled, and its data is untrusted input to the handler.
 */
import { Queue, Worker, type Job, type JobJson } from 'bullmq';
import { openRedis, type RedisTarget } from './redis.ts';

export interface QueueName {
  /** Prefix of all keys of the queue; its {hash tag} keeps them in one slot of a Redis Cluster. */
  readonly prefix: string;
  readonly name: string;
}

const RUN_ID = /^[A-Za-z0-9-]{1,64}$/;

/** Whether a text can name a run or a worker: it becomes part of Redis keys. */
export const isKeyPart = (text: string): boolean => RUN_ID.test(text);

/** Prefix of the control keys and of the guest queue of a run. */
export const runPrefix = (runId: string): string => `{pinstorm:${runId}}`;
export const guestQueue = (runId: string): QueueName => ({ prefix: runPrefix(runId), name: 'guests' });
/** Each worker's deferred queue has a hash tag of its own: in a cluster they spread over the shards. */
export const deferredQueue = (runId: string, workerId: string): QueueName => ({
  prefix: `{pinstorm:${runId}:${workerId}}`,
  name: `deferred-${workerId}`,
});

/** How long a job's lock holds without renewal, and how often lost locks are looked for, in milliseconds. */
export interface QueueTiming {
  readonly lockDurationMs: number;
  readonly stalledIntervalMs: number;
}
export const DEFAULT_TIMING: QueueTiming = { lockDurationMs: 30_000, stalledIntervalMs: 5_000 };

export interface JobProducer {
  /** Adds one job; a job of that id that still exists is left as it is. Rejects when Redis stays away. */
  add(id: string, data: unknown): Promise<void>;
  addAll(jobs: readonly { readonly id: string; readonly data: unknown }[]): Promise<void>;
  /** Jobs by state. */
  counts(): Promise<{ waiting: number; active: number; failed: number }>;
  /** Removes the jobs nobody has taken yet. */
  removeWaiting(): Promise<void>;
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
  // Failures reach the caller through the rejected command.
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
    async removeWaiting() {
      await bull.drain();
    },
    async close() {
      await bull.close().catch(() => {});
      connection.disconnect();
    },
  };
}

/** A worker that hands data it cannot parse to the handler as null instead of stumbling over the job for ever. */
class LenientWorker extends Worker<unknown, void> {
  protected override createJob(json: JobJson, jobId: string): Job<unknown, void> {
    try {
      return super.createJob(json, jobId);
    } catch {
      return super.createJob({ ...json, data: 'null' }, jobId);
    }
  }
}

export interface JobConsumer {
  /** Jobs handled at a time; takes effect at once. */
  setConcurrency(jobs: number): void;
  /** Locks that were lost while a handler ran: each means a second delivery. */
  readonly lostLocks: number;
  /** Ends. `force`: without waiting for running handlers. */
  close(force: boolean): Promise<void>;
}

/** Takes jobs and hands them to `handler`; a rejection marks the job as failed, it is not repeated. */
export function openConsumer(
  target: RedisTarget,
  queue: QueueName,
  options: { readonly concurrency: number; readonly timing?: QueueTiming | undefined },
  handler: (id: string, data: unknown) => Promise<void>,
): JobConsumer {
  const connection = openRedis(target, 'endless');
  const timing = options.timing ?? DEFAULT_TIMING;
  let lostLocks = 0;
  const bull = new LenientWorker(queue.name, (job) => handler(job.id ?? '', job.data), {
    connection,
    prefix: queue.prefix,
    concurrency: options.concurrency,
    lockDuration: timing.lockDurationMs,
    stalledInterval: timing.stalledIntervalMs,
    maxStalledCount: 1_000_000,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 100 },
  });
  // Connection trouble heals by itself; a lost lock is a second delivery, which handlers expect.
  bull.on('error', (error) => {
    if (/lock/i.test(error.message)) lostLocks++;
  });
  return {
    setConcurrency(jobs) {
      bull.concurrency = jobs;
    },
    get lostLocks() {
      return lostLocks;
    },
    async close(force) {
      await bull.close(force).catch(() => {});
      connection.disconnect();
    },
  };
}
