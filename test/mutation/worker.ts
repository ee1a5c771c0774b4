import type { Mutation } from './mutation.ts';

/** Planted bugs of src/worker, src/metrics and the wall driver. */
export const WORKER_MUTATIONS: readonly Mutation[] = [
  {
    rule: 'a latency is rounded down',
    file: 'metrics/stats.js',
    from: 'Math.floor(latencyNs)',
    to: 'Math.ceil(latencyNs)',
    tests: ['metrics/stats.test.js'],
  },
  {
    rule: 'an actor touches no lock after the next one of its guest goes on',
    file: 'engine/wall/wall-loop.js',
    from: 'Math.min(actor.limitNs, this.#nextOf(actor.guest, actor))',
    to: 'actor.limitNs',
    tests: ['engine/wall.test.js'],
  },
  {
    rule: 'a waiter is woken in the model time of the release',
    file: 'engine/wall/wall-loop.js',
    from: 'Math.max(actor.localNs, ns)',
    to: 'Math.max(ns, this.#clock())',
    tests: ['engine/wall.test.js'],
  },
  {
    rule: 'a guest is judged only when none of its updates is in the ring',
    file: 'emulator/wall-emulator.js',
    from: 'return this.#control.drained < guest.handedOver;',
    to: 'return false;',
    tests: ['worker/at-rest.test.js'],
  },
  {
    rule: 'a guest whose last job was applied is not judged while updates of it are in the ring',
    file: 'emulator/wall-emulator.js',
    from: '!this.#inRing(guest) && ',
    to: '',
    tests: ['worker/at-rest.test.js'],
  },
  {
    rule: 'a guest is judged only when none of its updates is in a job',
    file: 'emulator/wall-emulator.js',
    from: 'guest.built.mms.every((mm) => (this.#pendingByMm.get(mm) ?? 0) === 0)',
    to: 'true',
    tests: ['worker/at-rest.test.js'],
  },
  {
    rule: 'deferred_settle is measured from the queueing of the update',
    file: 'emulator/kworker.js',
    from: 'now - update.queuedAtNs',
    to: 'now - startNs',
    tests: ['worker/at-rest.test.js'],
  },
  {
    rule: 'an update is applied once however often it is delivered',
    file: 'emulator/wall-emulator.js',
    from: `if (!this.#appliedIds.add(update.opId))
            return false;`,
    to: 'this.#appliedIds.add(update.opId);',
    tests: ['worker/exactly-once.test.js'],
  },
  {
    rule: 'an id above the mark is in the set once',
    file: 'emulator/id-set.js',
    from: 'if (id < this.#mark || this.#above.has(id))',
    to: 'if (id < this.#mark)',
    tests: ['worker/deferred.test.js'],
  },
  {
    rule: 'a turn ends after a few milliseconds',
    file: 'emulator/turns.js',
    from: 'if (performance.now() >= until)',
    to: 'if (false)',
    tests: ['worker/turns.test.js'],
  },
  {
    rule: 'a queue that Redis keeps refusing fails',
    file: 'wire/queue.js',
    from: 'this.#refusals.note(error);\n            if',
    to: 'if',
    tests: ['worker/deferred.test.js'],
  },
  {
    rule: 'a queue that hands out nothing fails',
    file: 'worker/deferred.js',
    from: 'if (this.#unheard < this.#unheardMax)',
    to: 'if (true)',
    tests: ['worker/deferred.test.js'],
  },
  {
    rule: 'a job that is being applied is no silence of its queue',
    file: 'worker/deferred.js',
    from: 'if (!taken || this.#handling > 0)',
    to: 'if (!taken)',
    tests: ['worker/deferred.test.js'],
  },
];
