/** Options of the commands that can have workers simulate. */
import { MIN_EFFECT } from '../report/experiment.ts';
import type { RedisTarget } from '../wire/redis.ts';
import { notAsExpected, text, value } from './command.ts';
import { REDIS_OPTIONS } from './live-options.ts';

export const EXPERIMENT_OPTIONS = {
  ...REDIS_OPTIONS,
  redis: text({
    placeholder: 'url',
    help: 'simulate on the workers at this Redis (pinstorm worker --redis URL) instead of threads here',
  }),
};

/** Share of the figure of the base, from which on a difference is worth a colour. */
export const MIN_EFFECT_OPTION = {
  minEffect: value({
    placeholder: 'share',
    help: 'smallest difference to call better or worse',
    default: MIN_EFFECT,
    parse(given): number {
      const share = /^\d+(\.\d+)? ?%$/.test(given) ? Number.parseFloat(given) / 100 : NaN;
      if (share <= 1) return share;
      throw notAsExpected('a share from 0% to 100%, such as 1%', given);
    },
  }),
};

interface Given {
  readonly redis: string | undefined;
  readonly prefix: string | undefined;
  readonly tlsCa: string | undefined;
}

/** The Redis of the workers; undefined: simulate here. @throws UserError when it cannot be used. */
export async function remoteOf(options: Given): Promise<RedisTarget | undefined> {
  if (options.redis === undefined) return undefined;
  const [{ checkRedis }, { parseRedisUrl }] = await Promise.all([
    import('../coordinator/redis-check.ts'),
    import('../wire/redis.ts'),
  ]);
  const target = parseRedisUrl(options.redis, options);
  await checkRedis(target);
  return target;
}
