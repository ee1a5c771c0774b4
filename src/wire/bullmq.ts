/** BullMQ by `require`, for the reason that ioredis.ts gives: it is CommonJS of hundreds of files. */
import { createRequire } from 'node:module';
import type * as Package from 'bullmq';

export type { Job, JobJson } from 'bullmq';
export type Queue = Package.Queue;
export type Worker<Data, Result> = Package.Worker<Data, Result>;
export const { Queue, Worker } = createRequire(import.meta.url)('bullmq') as typeof Package;
