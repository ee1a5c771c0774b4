/**
 * Every command: its name, the line of the top-level help, and how to load it. The rows are written out so that the
 * top-level help imports nothing and a misspelt command fails before anything is loaded.
 */
import type { AnyCommand } from '../command.ts';

export interface CommandRow {
  /** At most 60 characters: the top-level help must fit 80 columns. */
  readonly summary: string;
  load(): Promise<{ readonly command: AnyCommand }>;
}

export const COMMANDS: Readonly<Record<string, CommandRow>> = {
  run: { summary: 'run a scenario in real time on this machine', load: () => import('./run.ts') },
  coordinator: { summary: 'run a scenario on workers of many machines', load: () => import('./coordinator.ts') },
  worker: { summary: 'emulate guests for a coordinator', load: () => import('./worker.ts') },
  clean: { summary: 'list and remove what crashed runs left in Redis', load: () => import('./clean.ts') },
  report: { summary: 'report on a run: summary, HTML, JSON, CSV, JUnit', load: () => import('./report.ts') },
  simulate: { summary: 'run a scenario in simulated kernel time', load: () => import('./simulate.ts') },
  compare: { summary: 'simulate several variants and test what differs', load: () => import('./compare.ts') },
  sweep: { summary: 'simulate a scenario over ranges of its settings', load: () => import('./sweep.ts') },
  advise: { summary: 'find the smallest memlock limit a fleet needs, and why', load: () => import('./advise.ts') },
  reproduce: {
    summary: 'compare published figures of real kernels with simulated ones',
    load: () => import('./reproduce.ts'),
  },
  calibrate: { summary: 'fit a cost profile to measured rows', load: () => import('./calibrate.ts') },
  validate: { summary: 'check scenario files and report every fault', load: () => import('./validate.ts') },
  scenarios: {
    summary: 'list the scenarios, cases and recordings that come with pinstorm',
    load: () => import('./scenarios.ts'),
  },
  init: { summary: 'write a scenario of your own to start from', load: () => import('./init.ts') },
  schema: { summary: 'print the schema of scenarios for your editor', load: () => import('./schema.ts') },
  plan: { summary: 'show what a run would do, without running it', load: () => import('./plan.ts') },
  contexts: { summary: 'which uses of `current` are right, and where', load: () => import('./contexts.ts') },
  conform: { summary: 'replay recordings of real kernels through the model', load: () => import('./conform.ts') },
  record: { summary: 'record what the kernel of this machine answers', load: () => import('./record.ts') },
  variants: {
    summary: 'list the accounting policies and the kernels that had them',
    load: () => import('./variants.ts'),
  },
  explore: { summary: 'run every interleaving of a small case', load: () => import('./explore.ts') },
  replay: { summary: 'repeat the schedule of a token, and draw it', load: () => import('./replay.ts') },
  history: { summary: 'run the known defects on every variant', load: () => import('./history.ts') },
  completion: {
    summary: 'print a completion script for your shell',
    load: async () => ({ command: (await import('./completion.ts')).completionOf(COMMANDS) }),
  },
};
