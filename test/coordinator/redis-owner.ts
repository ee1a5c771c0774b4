/** Process for tests: owns a private Redis, says where it is, and stays until it is killed. */
import { startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { openRedis } from '../../src/wire/redis.ts';

const redis = await startPrivateRedis();
const client = openRedis(redis.target, 'finite');
const serverPid = Number(/^process_id:(\d+)/m.exec(await client.info('server'))?.[1]);
process.stdout.write(
  `${JSON.stringify({ directory: redis.directory, guardPid: redis.guardPid, serverPid, socket: redis.target.url })}\n`,
);
