/** What only the coordinator of a run can say: phases, the verdict so far, thresholds, workers side by side, Redis. */
import type { Value } from './metric.ts';

export const RUN_PHASES = ['gathering', 'running', 'finishing', 'over'] as const;
export type RunPhase = (typeof RUN_PHASES)[number];
export const WORKER_STATES = ['alive', 'done', 'lost'] as const;
export type WorkerLife = (typeof WORKER_STATES)[number];

export interface WorkerHealth {
  readonly name: string;
  /** `done` once its final account is in. */
  readonly state: WorkerLife;
  /** Since its last message. */
  readonly silenceSeconds: number;
  readonly guestsRunning: number;
  readonly deferredBacklog: number;
  readonly threads: number;
  /** Time its threads have slept because nothing was due, all added up. */
  readonly idleSeconds: number;
  /** p99 since the worker's start. */
  readonly eventLoopDelaySeconds: number;
  readonly residentBytes: number;
  readonly cpuSeconds: number;
  readonly operations: number;
  /** How late it resumed its actors: sum and number. */
  readonly lateness: { readonly sumSeconds: number; readonly count: number };
}

export interface RedisHealth {
  readonly roundTripSeconds: number;
  /** Of the whole server, which others may use too. */
  readonly usedMemoryBytes: number;
  /** Of the whole server since its start. */
  readonly commands: number;
  /** Jobs of the guest queue. */
  readonly guestJobs: { readonly waiting: number; readonly active: number; readonly failed: number };
}

export interface RunHealth {
  /** Epoch seconds at which guests started to run, on the Redis clock; null before. */
  readonly startSeconds: number | null;
  /** Planned length in real seconds; null when the plan leaves it open. */
  readonly plannedSeconds: number | null;
  /** Phases entered so far with the epoch seconds of it. */
  readonly phases: Readonly<Partial<Record<RunPhase, number>>>;
  /** Stages of the scenario begun so far, with epoch seconds. */
  readonly stages: readonly { readonly stage: string; readonly startSeconds: number }[];
  /** The exit status if the run ended well now. */
  readonly exitStatus: number;
  readonly thresholds: readonly {
    readonly metric: string;
    readonly expression: string;
    readonly ok: boolean;
    /** False: nothing has been measured yet. Left out: true. */
    readonly judged?: boolean | undefined;
  }[];
  readonly workers: readonly WorkerHealth[];
  /** Null until asked for the first time. */
  readonly redis: RedisHealth | null;
}

type Add = (type: 'counter' | 'gauge' | 'summary', name: string, help: string, read: () => Value[]) => void;

export function addRunMetrics(runId: string, health: () => RunHealth, add: Add): void {
  addProgress(runId, health, add);
  addWorkers(health, add);
  addRedis(health, add);
}

const maybe = (value: number | null, labels = {}): Value[] => (value === null ? [] : [{ labels, value }]);

/** Phases, stages, and the verdict so far. */
function addProgress(runId: string, health: () => RunHealth, add: Add): void {
  add('gauge', 'run_start_timestamp_seconds', 'When guests started to run, on the Redis clock.', () =>
    maybe(health().startSeconds, { run_id: runId }),
  );
  add('gauge', 'run_planned_seconds', 'Planned length of the run in real time; none if it is open.', () =>
    maybe(health().plannedSeconds),
  );
  add('gauge', 'run_phase_start_timestamp_seconds', 'When the run entered a phase; none before.', () =>
    Object.entries(health().phases).map(([phase, value]) => ({ labels: { phase }, value })),
  );
  add('gauge', 'stage_start_timestamp_seconds', 'When a stage of the scenario began; none before.', () =>
    health().stages.map(({ stage, startSeconds }) => ({ labels: { stage }, value: startSeconds })),
  );
  add('gauge', 'run_exit_status', 'Exit status the run would have if it came to its end like this.', () => [
    { labels: {}, value: health().exitStatus },
  ]);
  add(
    'gauge',
    'threshold_ok',
    '1 while the threshold holds for the run so far, 0 while it is crossed; none before anything was measured.',
    () =>
      health().thresholds.flatMap(({ metric, expression, ok, judged = true }) =>
        judged ? [{ labels: { metric, expr: expression }, value: ok ? 1 : 0 }] : [],
      ),
  );
}

function addWorkers(health: () => RunHealth, add: Add): void {
  add('gauge', 'workers', 'Worker processes by state.', () => {
    const { workers } = health();
    return WORKER_STATES.map((state) => ({
      labels: { state },
      value: workers.filter((worker) => worker.state === state).length,
    }));
  });
  const perWorker = (type: 'counter' | 'gauge', name: string, help: string, of: (worker: WorkerHealth) => number) =>
    add(type, `worker_${name}`, help, () =>
      health().workers.map((worker) => ({ labels: { worker: worker.name }, value: of(worker) })),
    );
  perWorker('gauge', 'up', '1 unless the worker was lost.', (w) => (w.state === 'lost' ? 0 : 1));
  add('gauge', 'worker_silence_seconds', 'Time since the last message of a worker that may still speak.', () =>
    health()
      .workers.filter(({ state }) => state === 'alive')
      .map(({ name, silenceSeconds }) => ({ labels: { worker: name }, value: silenceSeconds })),
  );
  perWorker('gauge', 'guests_running', 'Guests that run on the worker.', (w) => w.guestsRunning);
  perWorker('gauge', 'deferred_backlog', 'Deferred updates of the worker not yet applied.', (w) => w.deferredBacklog);
  perWorker('gauge', 'threads', 'Driver threads of the worker.', (w) => w.threads);
  perWorker(
    'counter',
    'thread_idle_seconds_total',
    'Time its threads slept because nothing was due.',
    (w) => w.idleSeconds,
  );
  perWorker(
    'gauge',
    'event_loop_delay_p99_seconds',
    'Delay of the event loop, p99 since its start.',
    (w) => w.eventLoopDelaySeconds,
  );
  perWorker('gauge', 'resident_memory_bytes', 'Memory the worker process occupies.', (w) => w.residentBytes);
  perWorker('counter', 'cpu_seconds_total', 'CPU time of the worker process.', (w) => w.cpuSeconds);
  perWorker('counter', 'ops_total', 'Operations of every outcome that ended on the worker.', (w) => w.operations);
  add('summary', 'worker_lateness_seconds', 'How late the worker resumed its actors.', () =>
    health().workers.flatMap(({ name, lateness }) => [
      { labels: { worker: name }, value: lateness.sumSeconds, metricName: 'pinstorm_worker_lateness_seconds_sum' },
      { labels: { worker: name }, value: lateness.count, metricName: 'pinstorm_worker_lateness_seconds_count' },
    ]),
  );
}

function addRedis(health: () => RunHealth, add: Add): void {
  const ofRedis = (type: 'counter' | 'gauge', name: string, help: string, of: (redis: RedisHealth) => number) =>
    add(type, `redis_${name}`, help, () => {
      const { redis } = health();
      return redis === null ? [] : [{ labels: {}, value: of(redis) }];
    });
  ofRedis('gauge', 'round_trip_seconds', 'The latest round trip to Redis, once a second.', (r) => r.roundTripSeconds);
  ofRedis('gauge', 'used_memory_bytes', 'Memory of the whole Redis server.', (r) => r.usedMemoryBytes);
  ofRedis('counter', 'commands_total', 'Commands of all clients of the Redis server.', (r) => r.commands);
  add('gauge', 'guest_jobs', 'Jobs of the guest queue by state; a job is a slice of guests.', () => {
    const { redis } = health();
    return Object.entries(redis?.guestJobs ?? {}).map(([state, value]) => ({ labels: { state }, value }));
  });
}
