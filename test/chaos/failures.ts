/**
 * The failures that the chaos runner does to a fleet, each at a random moment. After each the run must end whole; where
 * it may also end inconclusive, it must say why.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT } from '../../src/base/errors.ts';
import type { Prng } from '../../src/base/prng.ts';
import { guestQueue, openProducer } from '../../src/wire/queue.ts';
import { until } from '../coordinator/until.ts';
import type { Fleet } from './fleet.ts';

export interface Failure {
  readonly name: string;
  /** What a coordinator must say that ends inconclusive for it; undefined: it must not. */
  readonly inconclusive?: RegExp;
  /** Does it to a fleet whose guests run. @returns how workers may end, beside 0. */
  strike(fleet: Fleet, random: Prng): Promise<readonly number[]>;
}

const one = (fleet: Fleet, random: Prng) => {
  const worker = fleet.workers[random.below(fleet.workers.length)];
  if (worker === undefined) throw new Error('a fleet without workers');
  return worker;
};
const signal =
  (name: NodeJS.Signals, ...allowed: number[]) =>
  async (fleet: Fleet, random: Prng): Promise<number[]> => {
    one(fleet, random).process.kill(name);
    await Promise.resolve();
    return allowed;
  };

export const FAILURES: readonly Failure[] = [
  { name: 'worker killed', strike: signal('SIGKILL') },
  {
    name: 'two of three workers killed',
    async strike(fleet, random) {
      const spared = random.below(fleet.workers.length);
      for (const [i, worker] of fleet.workers.entries()) if (i !== spared) worker.process.kill('SIGKILL');
      await Promise.resolve();
      return [];
    },
  },
  { name: 'worker asked to leave', strike: signal('SIGTERM', EXIT.stopped) },
  { name: 'pool thread ended', strike: signal('SIGUSR2', EXIT.inconclusive) },
  {
    name: 'worker stopped past its lock, woken up',
    async strike(fleet, random) {
      const zombie = one(fleet, random);
      zombie.process.kill('SIGSTOP');
      const over = (): boolean => fleet.read('events.jsonl').includes('"kind":"worker_lost"') || fleet.isOver;
      await until('the zombie is missed', over);
      zombie.process.kill('SIGCONT');
      return [EXIT.inconclusive];
    },
  },
  {
    name: 'coordinator killed and resumed',
    async strike(fleet) {
      const { runId } = fleet;
      fleet.coordinator.process.kill('SIGKILL');
      await fleet.coordinator.ended;
      fleet.coordinator = fleet.coordinate(['--resume', runId]);
      return [];
    },
  },
  {
    name: 'Redis killed, back with its data',
    async strike(fleet) {
      await fleet.redis.kill();
      await fleet.redis.start();
      return [];
    },
  },
  {
    name: 'Redis back without its last moments',
    inconclusive: /came back without the latest it had taken|has lost the data of the run|were not run again/,
    async strike(fleet, random) {
      const restore = fleet.redis.remember();
      // As much as a log that is written out once a second can miss.
      await pause(random.below(1000));
      await fleet.redis.kill();
      restore();
      await fleet.redis.start();
      return [EXIT.inconclusive];
    },
  },
  {
    name: 'Redis silent for a while',
    async strike(fleet, random) {
      await fleet.redis.admin.call('CLIENT', 'PAUSE', `${500 + random.below(4000)}`, 'ALL');
      return [];
    },
  },
  {
    name: 'Redis full for a while',
    async strike(fleet) {
      await fleet.redis.admin.config('SET', 'maxmemory', '1');
      const seen = (): boolean => fleet.read('events.jsonl').includes('"kind":"redis_full"') || fleet.isOver;
      await until('it is noticed', seen);
      await fleet.redis.admin.config('SET', 'maxmemory', '0');
      return [];
    },
  },
  {
    name: 'every guest job handed out again',
    async strike(fleet) {
      const guests = openProducer(fleet.redis.target, guestQueue('pinstorm', fleet.runId));
      try {
        const again = [0, 1, 2, 3, 4, 5].map((slice) => ({ v: 1, slice, incarnation: 1 }));
        await guests.addAll(again.map((data, i) => ({ id: `again-${i}`, data })));
      } finally {
        await guests.close();
      }
      return [];
    },
  },
];
