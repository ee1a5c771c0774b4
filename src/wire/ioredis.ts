/**
 * ioredis by `require`: it is CommonJS of dozens of files, which `import` reads twice each, once to find the names it
 * exports. Every process that talks to Redis starts sooner by what that costs.
 */
import { createRequire } from 'node:module';
import type * as Package from 'ioredis';

export type { RedisOptions } from 'ioredis';
export type Redis = Package.Redis;
export const { Redis } = createRequire(import.meta.url)('ioredis') as typeof Package;
