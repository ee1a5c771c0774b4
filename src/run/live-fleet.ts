/** The processes of a live run on this machine: worker processes, and a Redis of its own. */
import { EXIT, UserError } from '../base/errors.ts';
import type { Interrupts } from '../console/interrupts.ts';
import { WorkerProcesses } from '../coordinator/children.ts';
import type { Coordinator } from '../coordinator/coordinator.ts';
import { type PrivateRedis, startPrivateRedis } from '../coordinator/private-redis.ts';
import { checkRedis } from '../coordinator/redis-check.ts';
import { parseRedisUrl, type RedisTarget } from '../wire/redis.ts';

/** Time for workers to end by themselves, ms. */
const GRACE_MS = 5000;

export interface RedisChoice {
  /** Undefined: a private one. */
  readonly redis: string | undefined;
  readonly prefix: string | undefined;
  readonly tlsCa: string | undefined;
}

export interface UsedRedis {
  readonly target: RedisTarget;
  /** Undefined: it is the user's. */
  readonly own: PrivateRedis | undefined;
}

/** @throws UserError when it cannot be reached or started, or is not fit for runs. */
export async function openTarget(choice: RedisChoice): Promise<UsedRedis> {
  if (choice.redis === undefined) {
    const own = await startPrivateRedis();
    return { target: own.target, own };
  }
  const target = parseRedisUrl(choice.redis, choice);
  await checkRedis(target);
  return { target, own: undefined };
}

export interface FleetOptions {
  /** Worker processes to start on this machine; 0: they are started elsewhere. */
  readonly workers: number;
  /** Threads of each of them. */
  readonly threads: number;
}

export class LiveFleet {
  readonly #coordinator: Coordinator;
  readonly #options: FleetOptions;
  #children: WorkerProcesses | undefined;
  #ending: Promise<void> | undefined;
  #redisGone = false;

  constructor(coordinator: Coordinator, options: FleetOptions) {
    this.#coordinator = coordinator;
    this.#options = options;
  }

  /** Starts the workers, and ends all there is when the command is over. @param debug hears what workers say. */
  start(
    { target, own }: UsedRedis,
    run: { readonly runId: string; readonly capacity: number },
    interrupts: Interrupts,
    debug: (line: string) => void,
  ): void {
    const { workers: count, threads } = this.#options;
    interrupts.defer(() => this.end(interrupts.count > 1 || this.#redisGone ? 0 : GRACE_MS));
    if (count > 0) {
      this.#children = new WorkerProcesses(
        { main: process.argv[1] as string, target, count, threads, ...run },
        {
          gone: (worker, why) => this.#coordinator.workerGone(worker, why),
          said: (worker, line) => debug(`${worker}: ${line}`),
        },
      );
    }
    if (own !== undefined) void this.#watch(own);
  }

  /** Ends the workers and takes the run out of Redis. Told twice, it does it once. */
  end(graceMs = GRACE_MS): Promise<void> {
    return (this.#ending ??= this.#end(graceMs));
  }

  async #watch(redis: PrivateRedis): Promise<void> {
    await redis.ended;
    if (this.#ending !== undefined) return;
    this.#redisGone = true;
    this.#coordinator.redisGone(
      new UserError(EXIT.inconclusive, 'the private redis-server ended', 'pinstorm report DIR shows what was measured'),
    );
  }

  async #end(graceMs: number): Promise<void> {
    const coordinator = this.#coordinator;
    await coordinator.dismiss();
    await this.#children?.finish(graceMs);
    await coordinator.close(coordinator.state.workers.size > this.#options.workers);
  }
}
