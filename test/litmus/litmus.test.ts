/**
 * Cases small enough to count by hand. Where all interleavings are listed, an actor is a letter and each letter a step:
 * a `hold` is three steps (enter the kernel, take mmap_sem, release it), four where it has to wait (the attempt, and
 * the step in which it has the lock at last). Where the outcomes are listed, they are all that can be.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ExploreCase } from '../../src/engine/explore/case.ts';
import { VARIANTS } from '../../src/model/kernels/index.ts';
import { actor, ANY, caseOf, dfs, exec, hold, map, mlock, unmap } from '../engine/explore/cases.ts';

/** Every interleaving, as words of letters. */
function words(plan: ExploreCase, variant: string, reduction: boolean): string[] {
  const found: string[] = [];
  const result = dfs(
    plan,
    variant,
    { reduction },
    { expected: ANY, atEnd: (x) => found.push(x.choices.map((id) => 'abc'[id]).join('')) },
  );
  assert.equal(result.verdict, 'exhausted');
  assert.equal(result.interleavings, found.length);
  return found.toSorted();
}

const two = (a: 'read' | 'write', b: 'read' | 'write'): ExploreCase =>
  caseOf(`${a} beside ${b}`, [actor('a', 'main', hold(a)), actor('b', 'thread', hold(b))]);

describe('all interleavings, counted by hand', () => {
  // Nobody waits: every order of three steps each, 6! / (3! 3!).
  const READERS = [
    'aaabbb', 'aababb', 'aabbab', 'aabbba', 'abaabb', 'ababab', 'ababba', 'abbaab', 'abbaba', 'abbbaa',
    'baaabb', 'baabab', 'baabba', 'babaab', 'bababa', 'babbaa', 'bbaaab', 'bbaaba', 'bbabaa', 'bbbaaa',
  ]; // prettier-ignore
  // The lock steps of one beside those of the other, 4! / (2! 2!); entering the kernel commutes with everything.
  it('two readers: 20, reduced 6', () => {
    assert.deepEqual(words(two('read', 'read'), 'E', false), READERS.toSorted());
    assert.equal(words(two('read', 'read'), 'E', true).length, 6);
  });

  // a is first: b tries after a has gone (b enters at any of four places), or while a holds it (at any of three) and
  // then has a fourth step. The same with the letters exchanged.
  const FIRST = ['aaabbb', 'aababb', 'abaabb', 'baaabb', 'aabbabb', 'abababb', 'baababb'];
  const other = (word: string): string => word.replace(/./g, (c) => (c === 'a' ? 'b' : 'a'));
  const EXCLUSIVE = [...FIRST, ...FIRST.map(other)].toSorted();
  for (const [a, b] of [
    ['write', 'write'],
    ['read', 'write'],
    ['write', 'read'],
  ] as const) {
    it(`${a} and ${b}: 14, reduced 4`, () => {
      for (const id of ['A', 'E', 'H']) {
        assert.deepEqual(words(two(a, b), id, false), EXCLUSIVE, id);
        assert.equal(words(two(a, b), id, true).length, 4);
      }
    });
  }

  it('one actor alone: one', () => {
    assert.equal(dfs(caseOf('alone', [actor('a', 'main', map(0, 2), unmap(0, 2))]), 'D').interleavings, 1);
  });

  // A fault that may happen once, asked for twice: never, the first time, the second time.
  it('a fault of one actor: three', () => {
    const plan = caseOf('fault', [actor('a', 'main', map(0, 1), map(4, 1))], { faults: { dma_node: 1 } });
    const result = dfs(plan, 'E');
    assert.equal(result.interleavings, 3);
    assert.deepEqual([...result.outcomes.keys()].toSorted(), [
      'a: ENOMEM, OK; locked_vm 1, pinned 1',
      'a: OK, ENOMEM; locked_vm 1, pinned 1',
      'a: OK, OK; locked_vm 2, pinned 2',
    ]);
  });
});

const deferring = ['A', 'B', 'C', 'D'];
// They record the thread that mapped, not its leader.
const byThread = new Set(['4.10.17', 'E', '4.14.115']);
const since412 = ['4.10.17', 'E', '4.14.115', '4.18', 'E2', '5.3', 'F', '5.10', 'G', '6.1', 'H', 'H2'];

describe('all outcomes', () => {
  const cases: readonly {
    readonly plan: ExploreCase;
    readonly variants: readonly string[];
    readonly outcomes: readonly string[];
  }[] = [
    {
      plan: caseOf('two maps, room for one', [actor('a', 'main', map(0, 1)), actor('b', 'thread', map(0, 1, 1))], {
        containers: 2,
        memlockPages: 1,
      }),
      variants: since412,
      outcomes: ['a: ENOMEM; b: OK; locked_vm 1, pinned 1', 'a: OK; b: ENOMEM; locked_vm 1, pinned 1'],
    },
    {
      plan: caseOf('two maps, room for one', [actor('a', 'main', map(0, 1)), actor('b', 'thread', map(0, 1, 1))], {
        containers: 2,
        memlockPages: 1,
      }),
      variants: deferring,
      outcomes: [
        'a: ENOMEM; b: OK; locked_vm 1, pinned 1',
        'a: OK; b: ENOMEM; locked_vm 1, pinned 1',
        'a: OK; b: OK; locked_vm 2, pinned 2',
      ],
    },
    {
      plan: caseOf('two mlocks, room for one', [actor('a', 'main', mlock(0, 1)), actor('b', 'thread', mlock(1, 1))], {
        memlockPages: 1,
      }),
      variants: [...deferring, ...since412],
      outcomes: ['a: ENOMEM; b: OK; locked_vm 1, pinned 0', 'a: OK; b: ENOMEM; locked_vm 1, pinned 0'],
    },
    {
      plan: caseOf('two unmaps of one mapping', [actor('a', 'main', unmap(0, 1)), actor('b', 'thread', unmap(0, 1))], {
        setup: [{ actor: 'a', op: map(0, 1) }],
      }),
      variants: since412.filter((id) => !byThread.has(id)),
      outcomes: ['a: 0; b: 1; locked_vm 0, pinned 0', 'a: 1; b: 0; locked_vm 0, pinned 0'],
    },
    {
      plan: caseOf('two maps of one iova', [actor('a', 'main', map(0, 1)), actor('b', 'thread', map(0, 1))]),
      variants: [...deferring, ...since412],
      outcomes: ['a: EEXIST; b: OK; locked_vm 1, pinned 1', 'a: OK; b: EEXIST; locked_vm 1, pinned 1'],
    },
    {
      // The victim never begins, is killed while it waits, or gets the lock before the signal. Its process is gone
      // then.
      plan: caseOf('killed while waiting', [
        actor('a', 'main', mlock(0, 1)),
        actor('b', 'vm_child', hold('read')),
        actor('c', 'child', { op: 'kill', actor: 'a' }),
      ]),
      variants: ['E', 'H'],
      outcomes: [
        'a: -; b: OK; c: OK; locked_vm -, pinned 0',
        'a: EINTR; b: OK; c: OK; locked_vm -, pinned 0',
        'a: OK; b: OK; c: OK; locked_vm -, pinned 0',
      ],
    },
    {
      plan: caseOf('limit lowered', [
        actor('a', 'main', map(0, 1)),
        actor('b', 'thread', { op: 'setrlimit', pages: 0 }),
      ]),
      variants: ['E', 'H'],
      outcomes: ['a: ENOMEM; b: OK; locked_vm 0, pinned 0', 'a: OK; b: OK; locked_vm 1, pinned 1'],
    },
    {
      plan: caseOf('exec between map and unmap', [actor('a', 'main', map(0, 1), exec, unmap(0, 1))]),
      variants: ['H'],
      outcomes: ['a: OK, OK, 1; locked_vm 0, pinned 0'],
    },
  ];
  for (const { plan, variants, outcomes } of cases) {
    it(`${plan.name}: ${outcomes.length} (${variants.join(' ')})`, () => {
      for (const id of variants) {
        const result = dfs(plan, id, {}, { expected: ANY });
        assert.equal(result.verdict, 'exhausted', id);
        assert.deepEqual([...result.outcomes.keys()].toSorted(), outcomes, id);
      }
    });
  }

  it('every variant has a place in these lists or is tested elsewhere', () => {
    const elsewhere = ['I', 'I-mm', 'I-compat', 'I-none', 'J', 'J-cas', 'J-cache'];
    assert.deepEqual([...deferring, ...since412, ...elsewhere].toSorted(), VARIANTS.map((v) => v.id).toSorted());
  });
});
