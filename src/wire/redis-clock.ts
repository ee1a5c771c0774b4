import type { Redis } from 'ioredis';
import { monotonicMs } from '../engine/wall/clock.ts';
import { clockOffset, type ClockOffset } from './redis.ts';

/** The clock of Redis, by which a run goes. Either clock may drift or be set: read it again now and then. */
export class RedisClock {
  /** What to add to the monotonic clock to get that of Redis, ms. */
  toRedisMs = 0;
  /** When it was last read, on the monotonic clock, ms. */
  readAtMs = 0;

  constructor(private readonly redis: Redis) {}

  async read(): Promise<ClockOffset> {
    const clock = await clockOffset(this.redis);
    this.toRedisMs = clock.toRedisMs;
    this.readAtMs = monotonicMs();
    return clock;
  }

  nowMs(): number {
    return monotonicMs() + this.toRedisMs;
  }
}
