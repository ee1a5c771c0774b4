// slow: compares long runs with their closed forms
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { StepActor } from '../../src/engine/explore/stepper.ts';
import { DEFAULT_PROFILE, stepCosts } from '../../src/engine/profile.ts';
import { MODEL_COUNTERS, type Path } from '../../src/model/env.ts';
import { VARIANTS } from '../../src/model/kernels/index.ts';
import { CHUNK, CONTAINER, DMA } from '../../src/model/layout.ts';
import { orders } from '../../src/model/orders.ts';
import { map, unmap, World, type WorldOptions } from './world.ts';

const costNs = stepCosts(DEFAULT_PROFILE.costNs);

/** An actor that never yields and keeps time; `ahead` is what it says is left before its horizon. */
class Timed extends StepActor {
  ns = 0;
  override disturbances = 0;
  override exclusive = false;
  aheadLimitNs = 0;

  override at(step: number): boolean {
    this.ns += costNs[step] as number;
    return false;
  }

  override atMany(step: number, _object: number, count = 1): boolean {
    this.ns += (costNs[step] as number) * count;
    return false;
  }

  override aheadNs(): number {
    return this.aheadLimitNs;
  }

  override usedNs(): number {
    return this.ns;
  }

  override spend(ns = 0): void {
    this.ns += ns;
  }
}

/** Everything observable of a run of `program`. */
function outcome(
  variant: string,
  o: WorldOptions,
  aheadNs: number,
  program: (k: StepActor) => Path<void>,
  exclusive = false,
) {
  const w = new World(variant, o);
  const built = w.guest.actors[0];
  assert.ok(built !== undefined);
  const k = new Timed(w.stepper, 'timed', built.actor, built.task, program);
  k.aheadLimitNs = aheadNs;
  k.exclusive = exclusive;
  for (let r = k.path.next(); r.done !== true; r = k.path.next());
  const index = orders(w.arena);
  const [container] = w.containers();
  assert.ok(container !== undefined);
  const mappings: unknown[] = [];
  for (
    let d = index.dma.first(container + CONTAINER.dmaRoot);
    d !== 0;
    d = index.dma.next(container + CONTAINER.dmaRoot, d)
  ) {
    const runs: unknown[] = [];
    for (let c = index.chunk.first(d + DMA.chunks); c !== 0; c = index.chunk.next(d + DMA.chunks, c)) {
      runs.push([w.arena.get(c, CHUNK.startPage), w.arena.get(c, CHUNK.pages), w.arena.get(c, CHUNK.runPages)]);
    }
    mappings.push([w.arena.get(d, DMA.iovaPage), w.arena.get(d, DMA.sizePages), w.arena.get(d, DMA.lockedVm), runs]);
  }
  return {
    results: k.results,
    lockedVm: w.lockedVm,
    ns: Math.round(k.ns),
    counters: Object.fromEntries(MODEL_COUNTERS.map((n, i) => [n, w.stepper.counters[i]])),
    mappings,
    verdict: w.verdict(),
  };
}

const CASES: [string, WorldOptions][] = [
  ['4 KiB scattered', { pages: 4096, backing: 'anon4k', limitPages: null }],
  ['16 pages contiguous', { pages: 4096, backing: 'anon4k', contiguityPages: 16, limitPages: null }],
  ['THP', { pages: 8192, backing: 'thp', contiguityPages: 512, limitPages: null }],
  ['4 MiB contiguous', { pages: 8192, backing: 'hugetlb2m', contiguityPages: 1024, limitPages: null }],
  ['limit in the middle', { pages: 4096, backing: 'anon4k', limitPages: 2500 }],
  ['limit inside a huge page', { pages: 4096, backing: 'thp', contiguityPages: 512, limitPages: 1300 }],
  ['with CAP_IPC_LOCK over the limit', { pages: 4096, backing: 'anon4k', limitPages: 16, cap: true }],
  ['not populated', { pages: 2048, backing: 'anon4k', populated: false, limitPages: null }],
];

describe('the fast form of the pin loop equals the step-by-step one', () => {
  for (const { id } of VARIANTS) {
    for (const [name, o] of CASES) {
      it(`${id}: ${name}`, () => {
        function* program(k: StepActor): Path<void> {
          yield* map(k, 0, 0, o.pages ?? 0);
          yield* map(k, 100_000, 3, 1500);
          yield* unmap(k, 0, o.pages ?? 0);
          yield* map(k, 200_000, 512, 1024);
        }
        const slow = outcome(id, o, 0, program);
        assert.deepEqual(outcome(id, o, Number.POSITIVE_INFINITY, program), slow, 'without a horizon');
        assert.deepEqual(outcome(id, o, 3_000, program), slow, 'with a horizon of 3 us');
        assert.deepEqual(outcome(id, o, Number.POSITIVE_INFINITY, program, true), slow, 'in closed form');
        assert.deepEqual(outcome(id, o, 3_000, program, true), slow, 'in closed form with a horizon of 3 us');
      });
    }
  }
});
