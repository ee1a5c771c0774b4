/** The queueing model of docs/scale.md: many workers, one Redis, one coordinator. */
import { stream } from '../src/base/prng.ts';

/** Least squares: y = intercept + slope x. */
export function fit(points: readonly (readonly [x: number, y: number])[]): { slope: number; intercept: number } {
  const n = points.length;
  const mean = (pick: 0 | 1): number => points.reduce((sum, point) => sum + point[pick], 0) / n;
  const [mx, my] = [mean(0), mean(1)];
  let [sxy, sxx] = [0, 0];
  for (const [x, y] of points) {
    sxy += (x - mx) * (y - my);
    sxx += (x - mx) ** 2;
  }
  const slope = sxx === 0 ? my / mx : sxy / sxx;
  return { slope, intercept: my - slope * mx };
}

/** CPU seconds a second that one worker costs, and what the coordinator uses without any. */
export interface Costs {
  readonly redisCpu: number;
  readonly coordinatorCpu: number;
  readonly coordinatorBase: number;
}

export interface Simulated {
  readonly workers: number;
  /** Share of one core: past 1 it cannot keep up. */
  readonly redisLoad: number;
  readonly coordinatorLoad: number;
  /** From a worker's sending its interval to its being merged, milliseconds; null when something is past its limit. */
  readonly intervalP50Ms: number | null;
  readonly intervalP99Ms: number | null;
  /** Redis (with its run's share of the queues) and coordinators needed to stay under 70 % of a core each. */
  readonly shards: number;
  readonly coordinators: number;
}

const SECONDS = 60;
const TARGET = 0.7;

/**
 * Every worker sends an interval each second, at a phase of its own. Redis serves one command at a time: an interval's
 * share of its work stands for all the commands of that worker in that second. The coordinator merges one interval
 * after another.
 */
export function simulate(workers: number, costs: Costs, seed = 1): Simulated {
  const redisLoad = workers * costs.redisCpu;
  const coordinatorLoad = costs.coordinatorBase + workers * costs.coordinatorCpu;
  const need = { shards: Math.ceil(redisLoad / TARGET), coordinators: Math.ceil(coordinatorLoad / TARGET) };
  const random = stream(seed, `scale/${workers}`);
  const phases = Array.from({ length: workers }, () => random.float()).toSorted((a, b) => a - b);
  // The coordinator's own work slows its merging down in proportion.
  const merge = costs.coordinatorCpu / Math.max(0.01, 1 - costs.coordinatorBase);
  let [redisFree, coordinatorFree] = [0, 0];
  const waits: number[] = [];
  for (let second = 0; second < SECONDS; second++) {
    for (const phase of phases) {
      const sent = second + phase;
      redisFree = Math.max(redisFree, sent) + costs.redisCpu;
      coordinatorFree = Math.max(coordinatorFree, redisFree) + merge;
      waits.push(coordinatorFree - sent);
    }
  }
  waits.sort((a, b) => a - b);
  const stable = redisLoad < 1 && coordinatorLoad < 1;
  const at = (q: number): number | null => (stable ? (waits[Math.floor(q * (waits.length - 1))] ?? 0) * 1000 : null);
  return { workers, redisLoad, coordinatorLoad, intervalP50Ms: at(0.5), intervalP99Ms: at(0.99), ...need };
}
