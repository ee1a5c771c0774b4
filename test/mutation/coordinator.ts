import type { Mutation } from './mutation.ts';

/** Planted bugs of src/coordinator. */
export const COORDINATOR_MUTATIONS: readonly Mutation[] = [];
