import { COORDINATOR_MUTATIONS } from './coordinator.ts';
import { MODEL_MUTATIONS } from './model.ts';
import type { Mutation } from './mutation.ts';
import { WORKER_MUTATIONS } from './worker.ts';

export const ALL_MUTATIONS: readonly Mutation[] = [...MODEL_MUTATIONS, ...COORDINATOR_MUTATIONS, ...WORKER_MUTATIONS];
