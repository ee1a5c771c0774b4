import type { Mutation } from './mutation.ts';

/** Planted bugs of src/worker. */
export const WORKER_MUTATIONS: readonly Mutation[] = [];
