import type { Mutation } from './mutation.ts';

const STATE = ['coordinator/run-state.test.js'];

/** Planted bugs of src/coordinator. */
export const COORDINATOR_MUTATIONS: readonly Mutation[] = [
  {
    rule: 'an older interval does not replace a newer one',
    file: 'coordinator/run-state.js',
    from: 'if (interval.seq <= state.seq)',
    to: 'if (interval.seq === state.seq)',
    tests: STATE,
  },
  {
    rule: 'an outcome that comes twice is news once',
    file: 'coordinator/run-state.js',
    from: 'known.incarnation >= outcome.incarnation',
    to: 'known.incarnation > outcome.incarnation',
    tests: STATE,
  },
  {
    rule: 'violations that a lost worker found count',
    file: 'coordinator/run-state.js',
    from: 'for (const { interval } of this.workers.values()) {\n            for (const [name, n]',
    to: 'for (const { interval, lost } of this.workers.values()) {\n            if (lost !== null) continue;\n            for (const [name, n]',
    tests: STATE,
  },
  {
    rule: 'updates that waited on a lost worker are settled',
    file: 'coordinator/run-state.js',
    from: 'allEnded(worker) ? applied : discarded, pending)',
    to: 'allEnded(worker) ? applied : discarded, 0)',
    tests: STATE,
  },
  {
    rule: 'what superseded workers measured does not count',
    file: 'coordinator/run-state.js',
    from: "if (superseded && which === 'counted')",
    to: 'if (false)',
    tests: STATE,
  },
  {
    rule: 'a lost worker counts only with figures newer than its outcomes',
    file: 'coordinator/run-state.js',
    from: ': interval.ended === ended && ',
    to: ': ',
    tests: STATE,
  },
  {
    rule: 'a worker is lost when it was silent for its lease',
    file: 'coordinator/run-state.js',
    from: 'lastSeenMs < nowMs - leaseMs',
    to: 'lastSeenMs < nowMs - leaseMs / 2',
    tests: STATE,
  },
  {
    rule: 'a lost worker with an open guest is not accounted for',
    file: 'coordinator/handout.js',
    from: 'if (holders.has(worker))\n                continue;',
    to: '',
    tests: ['coordinator/handout.test.js'],
  },
  {
    rule: 'a wait that is over leaves nothing behind',
    file: 'base/interruption.js',
    from: 'this.#waits.delete(end);',
    to: '',
    tests: ['base/interruption.test.js'],
  },
];
