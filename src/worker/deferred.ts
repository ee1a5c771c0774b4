/**
 * Deferred accounting of one worker process: from the hand-over ring to BullMQ jobs and back to the arena.
 *
 * BullMQ delivers at least once and may lose jobs when Redis loses its data; the kernel's workqueue delivers exactly
 * once. So each update carries an operation id that the emulator applies once, and a job stays on our books, and is
 * sent again, until every update in it has been settled. When Redis is slow the books fill, the ring fills, and actors
 * wait: nothing is dropped.
 */
import type { DeferredPort } from '../emulator/emulator.ts';
import { IdSet } from '../emulator/id-set.ts';
import type { DeferredUpdate } from '../engine/wall/wall-control.ts';
import { decodeJob, type DeferredJob, encodeJob } from '../wire/deferred-job.ts';
import type { DeferredReport } from '../wire/messages.ts';
import {
  DEFAULT_TIMING,
  type JobConsumer,
  type JobProducer,
  openConsumer,
  openProducer,
  type QueueName,
  type QueueTiming,
  Refusals,
} from '../wire/queue.ts';
import type { RedisTarget } from '../wire/redis.ts';

export interface DeferredOptions {
  /** Updates per job at most. */
  readonly batch: number;
  /** A partly filled job leaves after this long. */
  readonly flushMs: number;
  /** Jobs on our books at a time; more wait in the ring. */
  readonly jobsMax?: number;
  /** Jobs handled at a time. */
  readonly concurrency?: number;
  /** A job that is not settled after this long is sent again. */
  readonly resendMs?: number;
  /** A queue that hands out nothing of what it takes for this long, and for three lives of a lock, is broken. */
  readonly unheardMs?: number;
  readonly timing?: QueueTiming | undefined;
  /** First operation id of the emulator. */
  readonly firstOpId?: number;
  /** Whether the update's guest still lives on this worker in that incarnation. */
  readonly isLive?: (update: DeferredUpdate) => boolean;
  /** Called once when updates will not be applied any more, with the reason. */
  readonly onFailure?: (error: Error) => void;
}

const UNHEARD_MS = 60_000;

interface Outstanding {
  readonly data: DeferredJob;
  sentAtMs: number;
  /** Updates not yet settled. */
  left: number;
}

export class DeferredPipeline {
  readonly #emulator: DeferredPort;
  readonly #options: DeferredOptions;
  readonly #producer: JobProducer;
  readonly #consumer: JobConsumer;
  readonly #outstanding = new Map<number, Outstanding>();
  readonly #settled: IdSet;
  readonly #jobsMax: number;
  readonly #resendMs: number;
  readonly #resender: NodeJS.Timeout;
  readonly #refusals = new Refusals((error) => this.#fail(error));
  readonly #unheardMax: number;
  /** Jobs being handled now. */
  #handling = 0;
  /** How often Redis took the oldest job again since it last handed out any. */
  #unheard = 0;
  #buffer: DeferredUpdate[] = [];
  #flush: NodeJS.Timeout | undefined;
  #draining: (() => void) | undefined;
  #failure: Error | undefined;
  #closed = false;
  #jobs = 0;
  #queued = 0;
  #lastOpId: number;
  #applied = 0;
  #discarded = 0;
  #duplicates = 0;
  #resent = 0;
  #refused = 0;

  constructor(target: RedisTarget, queue: QueueName, emulator: DeferredPort, options: DeferredOptions) {
    this.#emulator = emulator;
    this.#options = options;
    this.#jobsMax = options.jobsMax ?? 64;
    this.#resendMs = options.resendMs ?? 5000;
    const { lockDurationMs } = options.timing ?? DEFAULT_TIMING;
    this.#unheardMax = Math.ceil(Math.max(options.unheardMs ?? UNHEARD_MS, 3 * lockDurationMs) / this.#resendMs);
    const first = options.firstOpId ?? 1;
    this.#settled = new IdSet(first);
    this.#lastOpId = first - 1;
    this.#producer = openProducer(target, queue);
    const concurrency = options.concurrency ?? 16;
    const onRefused = (error: Error): void => this.#fail(error);
    this.#consumer = openConsumer(target, queue, { concurrency, timing: options.timing, onRefused }, (id, data) =>
      this.#handle(id, data),
    );
    this.#resender = setInterval(() => this.#resend(), Math.max(10, this.#resendMs / 2));
    emulator.onDeferred(() => this.#pump());
    this.#pump();
  }

  counts(): Omit<DeferredReport, 'missing' | 'missingCount'> {
    return {
      queued: this.#queued,
      applied: this.#applied,
      discarded: this.#discarded,
      duplicates: this.#duplicates,
      jobs: this.#jobs,
      resent: this.#resent,
      refused: this.#refused + this.#consumer.unreadable,
    };
  }

  /** Why updates are not applied any more: Redis refuses or keeps the jobs, or the emulator has a bug. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Updates taken from the ring and not settled. */
  get backlog(): number {
    return this.#queued - this.#settled.size;
  }

  /** Age of the oldest update on the books, seconds. */
  get oldestAgeSeconds(): number {
    // Jobs leave the map when they are settled, and it keeps the order of sending.
    const [oldest] = this.#outstanding.values();
    const queuedAtNs = oldest?.data.ns ?? this.#buffer[0]?.queuedAtNs;
    return queuedAtNs === undefined ? 0 : Math.max(0, Number(process.hrtime.bigint()) - queuedAtNs) / 1e9;
  }

  /**
   * Call when no guest runs any more. Resolves when every update has been applied or discarded, or at the deadline,
   * with what is missing.
   */
  async drain(timeoutMs: number): Promise<DeferredReport> {
    const timer = { handle: undefined as NodeJS.Timeout | undefined };
    await new Promise<void>((resolve) => {
      this.#draining = resolve;
      timer.handle = setTimeout(resolve, timeoutMs);
      this.#pump();
    });
    clearTimeout(timer.handle);
    // What still lies in the ring after the deadline is missing as well.
    const rest: DeferredUpdate[] = [];
    while (this.#emulator.drainDeferred(1000, rest) > 0) for (const update of rest.splice(0)) this.#take(update);
    const missingCount = this.backlog;
    return { ...this.counts(), missing: this.#settled.missing(this.#lastOpId, 100), missingCount };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#resender);
    clearTimeout(this.#flush);
    await this.#consumer.close(true);
    // The queue is this worker's alone: nobody else would take it away.
    await this.#producer.remove().catch(() => {});
    await this.#producer.close();
  }

  #take(update: DeferredUpdate): void {
    this.#queued += 1;
    if (update.opId > this.#lastOpId) this.#lastOpId = update.opId;
  }

  /** Moves updates from the ring into jobs as far as the books allow. */
  #pump(flushNow = false): void {
    if (this.#closed) return;
    const { batch, flushMs } = this.#options;
    while (this.#outstanding.size < this.#jobsMax) {
      const before = this.#buffer.length;
      this.#emulator.drainDeferred(batch - before, this.#buffer);
      for (let i = before; i < this.#buffer.length; i += 1) this.#take(this.#buffer[i] as DeferredUpdate);
      if (this.#buffer.length === 0) break;
      if (this.#buffer.length < batch && !flushNow && this.#draining === undefined) {
        this.#flush ??= setTimeout(() => {
          this.#flush = undefined;
          this.#pump(true);
        }, flushMs);
        return;
      }
      clearTimeout(this.#flush);
      this.#flush = undefined;
      const updates = this.#buffer;
      this.#buffer = [];
      this.#jobs += 1;
      const seq = this.#jobs;
      const job: Outstanding = { data: encodeJob(updates), sentAtMs: performance.now(), left: updates.length };
      this.#outstanding.set(seq, job);
      void this.#send(seq, job);
    }
    if (this.#outstanding.size === 0 && this.#buffer.length === 0) this.#draining?.();
  }

  /** A job that Redis did not take stays on the books, and is sent again. Resolves to whether Redis took it. */
  async #send(seq: number, job: Outstanding): Promise<boolean> {
    job.sentAtMs = performance.now();
    try {
      await this.#producer.add(`d-${seq}`, job.data);
      this.#refusals.accepted();
      return true;
    } catch (error) {
      this.#refusals.note(error);
      return false;
    }
  }

  #resend(): void {
    // The next renewal makes up for one that fails.
    void this.#producer.renew().catch(() => {});
    const before = performance.now() - this.#resendMs;
    let oldest = true;
    for (const [seq, job] of this.#outstanding) {
      if (job.sentAtMs <= before) {
        this.#resent += 1;
        const sent = this.#send(seq, job);
        if (oldest) void sent.then((taken) => this.#expectDelivery(taken));
      }
      oldest = false;
    }
  }

  /** Redis that takes the oldest job again and again and hands out none has lost the queue. */
  #expectDelivery(taken: boolean): void {
    if (!taken || this.#handling > 0) return;
    this.#unheard += 1;
    if (this.#unheard < this.#unheardMax) return;
    const seconds = Math.round((this.#unheard * this.#resendMs) / 1000);
    this.#fail(new Error(`Redis takes the deferred updates and has handed out none for ${seconds} s`));
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = error instanceof Error ? error : new Error(String(error));
    this.#options.onFailure?.(this.#failure);
  }

  async #handle(jobId: string, data: unknown): Promise<void> {
    this.#unheard = 0;
    this.#handling += 1;
    try {
      await this.#handleJob(jobId, data);
    } finally {
      this.#handling -= 1;
    }
  }

  async #handleJob(jobId: string, data: unknown): Promise<void> {
    const seq = Number(/^d-(\d{1,15})$/.exec(jobId)?.[1] ?? NaN);
    const updates = decodeJob(data);
    if (updates === null || !(seq <= this.#jobs)) {
      this.#refused += 1;
      return;
    }
    const job = this.#outstanding.get(seq);
    if (job === undefined) {
      // Everything in it was settled: a second delivery.
      this.#duplicates += updates.length;
      return;
    }
    if (!sameJob(job.data, data as DeferredJob)) {
      this.#refused += 1;
      return;
    }
    try {
      await this.#apply(seq, job, updates);
    } catch (error) {
      // A bug in the emulator. The update stays on the books as missing, and the node reports the failure.
      this.#fail(error);
    }
  }

  async #apply(seq: number, job: Outstanding, updates: readonly DeferredUpdate[]): Promise<void> {
    const waiting: Promise<void>[] = [];
    for (const update of updates) {
      if (this.#options.isLive?.(update) === false) {
        if (this.#settle(seq, job, update)) {
          this.#discarded += 1;
          this.#emulator.discardDeferred(update);
        }
        continue;
      }
      const result = this.#emulator.applyDeferred(update);
      if (typeof result === 'boolean') this.#applyEnded(seq, job, update, result);
      else waiting.push(result.then((fresh) => this.#applyEnded(seq, job, update, fresh)));
    }
    // Updates of different address spaces wait side by side, as the kernel's workers do.
    if (waiting.length > 0) await Promise.all(waiting);
  }

  #applyEnded(seq: number, job: Outstanding, update: DeferredUpdate, fresh: boolean): void {
    if (!fresh) {
      this.#duplicates += 1;
      return;
    }
    this.#applied += 1;
    this.#settle(seq, job, update);
  }

  #settle(seq: number, job: Outstanding, update: DeferredUpdate): boolean {
    if (!this.#settled.add(update.opId)) return false;
    job.left -= 1;
    if (job.left === 0) {
      this.#outstanding.delete(seq);
      this.#pump();
    }
    return true;
  }
}

function sameJob(sent: DeferredJob, received: DeferredJob): boolean {
  if (sent.id !== received.id || sent.ns !== received.ns || sent.u.length !== received.u.length) return false;
  return sent.u.every((n, i) => n === received.u[i]);
}
