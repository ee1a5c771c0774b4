/**
 * A worker's part in an experiment: takes hosts from its queue, simulates them on its threads, and gives back what came
 * out.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { machineFailure } from '../base/machine-failure.ts';
import { StopSignal } from '../base/stop-signal.ts';
import { openHostPool } from '../emulator/host-pool.ts';
import { hostTasks } from '../emulator/host-result.ts';
import type { RunPlan } from '../engine/plan.ts';
import {
  experimentKeys,
  fetchExperimentPlan,
  findExperiment,
  HostJob,
  type HostOutcome,
  hostQueue,
} from '../wire/experiments.ts';
import { openConsumer } from '../wire/queue.ts';
import { awaitFound, openRedis, redisFailure, type RedisTarget } from '../wire/redis.ts';

/** Plans kept: the hosts of one plan come one after the other. */
const PLANS_KEPT = 8;

/** Waits until there is an experiment. Rejects with an AbortError on `signal`. */
export const awaitExperiment = (target: RedisTarget, signal: AbortSignal): Promise<string> =>
  awaitFound(target, (redis) => findExperiment(redis, target.prefix), signal);

/** Takes part until the experiment is over or `signal` asks to leave: hosts under way are finished first. */
export async function runExperiment(
  target: RedisTarget,
  id: string,
  threads: number,
  signal: AbortSignal,
): Promise<void> {
  const { prefix } = target;
  const keys = experimentKeys(prefix, id);
  const redis = openRedis(target, 'finite');
  const pool = openHostPool(threads);
  const plans = new Map<number, Promise<RunPlan>>();
  const planOf = (plan: number): Promise<RunPlan> => {
    let found = plans.get(plan);
    if (found === undefined) {
      plans.set(plan, (found = fetchExperimentPlan(redis, prefix, id, plan)));
      const [oldest] = plans.keys();
      if (plans.size > PLANS_KEPT && oldest !== undefined) plans.delete(oldest);
    }
    return found;
  };
  const simulate = async (plan: number, host: number): Promise<HostOutcome> => {
    try {
      const task = hostTasks(await planOf(plan))[host];
      if (task === undefined) return { error: `plan ${plan} has no host ${host}` };
      // As in a local run, where a host looks now and then whether it is to stop.
      const control = { stop: new StopSignal().word, simulatedNs: new Float64Array(1) };
      return { result: await pool.run({ ...task, control }) };
    } catch (error) {
      const known = machineFailure(error) ?? error;
      return { error: (known instanceof Error ? known.message : String(known)).slice(0, 2000) };
    }
  };
  let refused: Error | undefined;
  const options = { concurrency: threads, onRefused: (error: Error) => (refused = error) };
  const consumer = openConsumer(target, hostQueue(prefix, id), options, async (_id, data) => {
    const job = HostJob.safeParse(data);
    if (!job.success) return;
    const { plan, host } = job.data;
    const outcome = await simulate(plan, host);
    // The experiment may be over: then nothing is to be left behind.
    if ((await redis.exists(keys.alive)) === 1)
      await redis.hset(keys.results, `${plan}/${host}`, JSON.stringify(outcome));
  });
  try {
    while (!signal.aborted && (await redis.exists(keys.alive)) === 1) {
      if (refused !== undefined) throw refused;
      await pause(200);
    }
  } catch (error) {
    throw redisFailure(target, error) ?? error;
  } finally {
    await consumer.close(!signal.aborted);
    await pool.close();
    redis.disconnect();
  }
}
