// slow: tries every order of independent steps
/**
 * The table of what steps touch (src/model/step-access.ts) against the model: wherever two actors can step and the
 * table calls their steps independent, both orders must lead to the same place. And the reduced search must find every
 * outcome and every violation that the search of all interleavings finds.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stream } from '../../../src/base/prng.ts';
import type { ExploreCase } from '../../../src/engine/explore/case.ts';
import { Execution } from '../../../src/engine/explore/execution.ts';
import { outcomeText } from '../../../src/engine/explore/outcome.ts';
import { dependent } from '../../../src/engine/explore/footprint.ts';
import { VARIANTS } from '../../../src/model/kernels/index.ts';
import { STEP_NAMES } from '../../../src/model/steps.ts';
import { actor, ANY, caseOf, close, dfs, exec, exit, hold, map, mlock, munlock, unmap } from './cases.ts';

const CASES: readonly ExploreCase[] = [
  caseOf('two-containers', [actor('a', 'main', map(0, 2), unmap(0, 2)), actor('b', 'thread', map(0, 2, 1))], {
    containers: 2,
    memlockPages: 3,
  }),
  caseOf('mlock', [actor('a', 'main', map(0, 2), unmap(0, 2)), actor('b', 'vm_child', mlock(0, 1), munlock(0, 1))], {
    memlockPages: 2,
    populated: false,
  }),
  caseOf(
    'faults',
    [actor('a', 'main', map(0, 2)), actor('b', 'thread', map(0, 1, 1)), actor('c', 'thread', hold('read'))],
    {
      containers: 2,
      faults: { work_item: 1, iommu_map: 1, dma_node: 1 },
    },
  ),
  caseOf('endings', [
    actor('a', 'main', map(0, 2), unmap(0, 2), exit),
    actor('b', 'thread', map(4, 1), exit),
    actor('c', 'child', close, exit),
  ]),
  caseOf('kill', [actor('a', 'main', map(0, 2)), actor('b', 'child', { op: 'kill', actor: 'a' })]),
  caseOf('limits', [actor('a', 'main', map(0, 2)), actor('b', 'thread', { op: 'setrlimit', pages: 1 }, mlock(0, 1))]),
  caseOf('program', [
    actor('a', 'main', map(0, 1), exec, unmap(0, 1)),
    actor('b', 'vm_child', unmap(0, 1), mlock(0, 1)),
  ]),
  caseOf(
    'mdev',
    [
      actor('a', 'main', map(0, 2), unmap(0, 2)),
      actor(
        'b',
        'kthread',
        { op: 'pin', iova: 0, pages: 2, container: 0 },
        { op: 'unpin', iova: 0, pages: 1, container: 0 },
      ),
      actor('c', 'thread', { op: 'attach', container: 0 }, { op: 'detach', container: 0 }),
    ],
    { mdev: 'only', memlockPages: 3, faults: { vpfn_node: 1 } },
  ),
  caseOf('memory', [
    actor('a', 'main', map(0, 2)),
    actor('b', 'thread', { op: 'munmap', page: 1, pages: 1 }, { op: 'touch', page: 0, pages: 2 }),
  ]),
];

/** Takes the choices, answering every fault with yes when `faulty`. */
function walk(x: Execution, choices: readonly number[], faulty: boolean): void {
  x.reset();
  for (const id of choices) x.take(id, () => faulty);
}

/** Everything that may be compared across two orders of the same steps, when all have run to their end. */
function ending(x: Execution): string {
  const standing = x.actors
    .slice(0, x.plan.actors.length)
    .map((a) => `${a.name} ${a.done ? 'done' : `${a.blocked ? 'waits' : 'at'} ${STEP_NAMES[a.nextStep]}`}`);
  for (let ids = x.enabled(); ids.length > 0; ids = x.enabled()) x.take(ids[0] as number, () => false);
  x.finish();
  return [...standing, outcomeText(x.outcome()), ...x.failures.map((f) => f.kind).toSorted()].join('\n');
}

describe('steps that the table calls independent', () => {
  for (const plan of CASES) {
    it(`commute: ${plan.name}`, () => {
      let pairs = 0;
      for (const variant of VARIANTS) {
        const x = new Execution(plan, variant);
        for (let seed = 0; seed < 6; seed += 1) {
          const random = stream(seed, `independence ${plan.name}`);
          const faulty = seed % 2 === 1;
          const choices: number[] = [];
          for (;;) {
            walk(x, choices, faulty);
            const enabled = x.enabled();
            if (enabled.length === 0) break;
            for (const p of enabled) {
              for (const q of enabled.filter((id) => id > p)) {
                walk(x, choices, faulty);
                const one = { ...x.take(p, () => faulty) };
                walk(x, choices, faulty);
                const other = { ...x.take(q, () => faulty) };
                if (dependent(one, other)) continue;
                pairs += 1;
                walk(x, [...choices, p, q], faulty);
                const forth = ending(x);
                walk(x, [...choices, q, p], faulty);
                assert.equal(ending(x), forth, `${variant.id}, after ${choices.join(' ')}: ${p} and ${q}`);
              }
            }
            choices.push(enabled[random.below(enabled.length)] as number);
          }
        }
      }
      assert.ok(pairs > 100, `${pairs} pairs`);
    });
  }
});

describe('the reduced search', () => {
  const small: readonly ExploreCase[] = [
    caseOf('map beside a reader', [actor('a', 'main', map(0, 1)), actor('b', 'thread', hold('read'))], {
      memlockPages: 1,
    }),
    caseOf('unmap beside a writer', [actor('a', 'main', unmap(0, 1)), actor('b', 'thread', hold('write'))], {
      setup: [{ actor: 'a', op: map(0, 1) }],
    }),
    caseOf('lost work item', [actor('a', 'main', map(0, 1)), actor('b', 'thread', hold('read'))], {
      faults: { work_item: 1 },
    }),
    caseOf('mlock beside mlock', [actor('a', 'main', mlock(0, 1)), actor('b', 'thread', mlock(1, 1))], {
      memlockPages: 1,
    }),
    caseOf('exit beside unmap', [actor('a', 'main', exit), actor('b', 'thread', unmap(0, 1))], {
      setup: [{ actor: 'a', op: map(0, 1) }],
    }),
  ];
  for (const plan of small) {
    it(`finds what all interleavings find: ${plan.name}`, () => {
      for (const id of ['A', 'B', 'D', 'E', 'F', 'H']) {
        const reduced = dfs(plan, id, {}, { expected: ANY });
        const full = dfs(plan, id, { reduction: false }, { expected: ANY });
        assert.equal(full.verdict, 'exhausted', id);
        assert.equal(reduced.verdict, 'exhausted');
        assert.deepEqual([...reduced.outcomes.keys()].toSorted(), [...full.outcomes.keys()].toSorted(), id);
        assert.deepEqual([...reduced.failures.keys()].toSorted(), [...full.failures.keys()].toSorted(), id);
        assert.ok(reduced.interleavings <= full.interleavings);
      }
    });
  }
});
