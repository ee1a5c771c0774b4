import { EXIT, UserError } from '../../base/errors.ts';
import { print } from '../../console/output.ts';
import { defineCommand, flag } from '../command.ts';
import { REDIS_OPTIONS } from '../live-options.ts';

export const command = defineCommand({
  description:
    'Lists the runs that have keys in a Redis. With --yes it removes the keys of crashed runs: those whose ' +
    'coordinator has been gone for so long that their workers have given up. It never touches a run that has a ' +
    'coordinator or can still be resumed.',
  arguments: {},
  options: { ...REDIS_OPTIONS, yes: flag('remove the runs that the list calls left behind') },
  examples: [{ command: 'pinstorm clean --redis redis://localhost', what: 'show what is there' }],
  exits: [],
  async run(_, options) {
    if (options.redis === undefined)
      throw new UserError(EXIT.invalid, '--redis is missing', 'say which Redis to look at');
    const [{ checkRedis }, { openRedis, parseRedisUrl, redisFailure }, { findRemains }, { removeRun }] =
      await Promise.all([
        import('../../coordinator/redis-check.ts'),
        import('../../wire/redis.ts'),
        import('../../coordinator/remains.ts'),
        import('../../wire/runs.ts'),
      ]);
    const target = parseRedisUrl(options.redis, options);
    await checkRedis(target);
    const redis = openRedis(target, 'finite');
    try {
      const lines: string[] = [];
      const remains = await findRemains(redis, target.prefix);
      for (const { runId, keys, bytes, aliveSecondsAgo } of remains) {
        const size = `${keys} keys, ${Math.ceil(bytes / 1024)} KiB`;
        let fate = options.yes ? 'removed' : 'left behind';
        if (aliveSecondsAgo !== null) fate = `kept: its coordinator was there ${Math.round(aliveSecondsAgo)} s ago`;
        else if (options.yes) await removeRun(redis, target.prefix, runId);
        lines.push(`${runId}  ${size}  ${fate}`);
      }
      if (remains.length === 0) lines.push(`no run has keys at ${target.label}`);
      else if (!options.yes) lines.push('with --yes, what is left behind is removed');
      print(`${lines.join('\n')}\n`);
      return EXIT.ok;
    } catch (error) {
      throw redisFailure(target, error) ?? error;
    } finally {
      redis.disconnect();
    }
  },
});
