/** Options of the commands that can have workers simulate. */
import type { RedisTarget } from '../coordinator/redis.ts';
import { text } from './command.ts';
import { REDIS_OPTIONS } from './live-options.ts';

export const EXPERIMENT_OPTIONS = {
  ...REDIS_OPTIONS,
  redis: text({
    placeholder: 'url',
    help: 'have the workers at this Redis simulate (pinstorm worker --redis URL), instead of threads here',
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
    import('../coordinator/redis.ts'),
  ]);
  const target = parseRedisUrl(options.redis, options);
  await checkRedis(target);
  return target;
}
