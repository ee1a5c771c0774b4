/** The order of steps in one accounting call is the one that docs/model.md states, era by era. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import type { Path } from '../../src/model/env.ts';
import { CONTAINER } from '../../src/model/layout.ts';
import { pinCallFor } from '../../src/model/paths/pin.ts';
import { downRead } from '../../src/model/rwsem.ts';
import { STEP_ROWS } from '../../src/model/steps.ts';
import { map, World } from './world.ts';

const CALLS = ['owner maps', 'owner unmaps', 'another process unmaps'] as const;
type Call = (typeof CALLS)[number];
const LOCKS = ['free', 'held', 'held, no memory'] as const;
type Lock = (typeof LOCKS)[number];

interface Row {
  readonly variant: string;
  readonly call: Call;
  readonly lock: Lock;
  readonly steps: readonly string[];
}

/** The rows of the page's table, one per variant and call. */
function statedRows(): Row[] {
  const text = readFileSync('docs/model.md', 'utf8');
  const table = /^\| variants +\| call +\| mmap_sem +\| steps +\|\n\|[-| ]+\|\n((?:\|.*\n)+)/m.exec(text)?.[1];
  assert.ok(table !== undefined, 'docs/model.md has the table of accounting steps');
  return table
    .trimEnd()
    .split('\n')
    .flatMap((line) => {
      const [variants = '', calls = '', lock = '', steps = ''] = line
        .split('|')
        .slice(1)
        .map((cell) => cell.trim());
      return variants.split(', ').flatMap((variant) =>
        calls.split(', ').map((call) => {
          assert.ok(CALLS.includes(call as Call), `${call} is one of ${CALLS.join('; ')}`);
          assert.ok(LOCKS.includes(lock as Lock), `${lock} is one of ${LOCKS.join('; ')}`);
          return { variant, call: call as Call, lock: lock as Lock, steps: steps.split(', ') };
        }),
      );
    });
}

/** The steps that the model takes in one accounting call of one page. */
function takenSteps(variant: string, call: Call, lock: Lock): string[] {
  const w = new World(variant, {
    tasks: ['main', 'child', 'thread'],
    inject: (site) => site === 'work_item' && lock === 'held, no memory',
  });
  const steps: string[] = [];
  let dma = 0;
  const owner = w.actor(0, function* (k): Path<void> {
    yield* map(k, 0, 0, 4);
    dma = w.arena.get(w.containers()[0] as number, CONTAINER.dmaRoot);
  });
  while (!owner.done) w.stepper.step(owner);
  if (lock !== 'free') {
    const holder = w.actor(2, function* (k): Path<void> {
      yield* downRead(k, w.mm);
      yield;
    });
    w.stepper.step(holder);
    w.stepper.step(holder);
  }
  const task = call === 'another process unmaps' ? (w.guest.actors[1]?.task as number) : owner.current;
  const caller = w.stepper.add('caller', task, function* (k): Path<void> {
    const at = k.at.bind(k);
    k.at = (step, object): boolean => {
      steps.push(STEP_ROWS[step]?.fn ?? '?');
      return at(step, object);
    };
    if (call === 'owner maps') yield* k.variant.acctPin(k, pinCallFor(k, dma), 1);
    else yield* k.variant.acctDma(k, dma, -1);
  });
  while (!caller.done) {
    assert.ok(!caller.blocked, `${variant}, ${call}: waits for mmap_sem`);
    w.stepper.step(caller);
  }
  return steps;
}

for (const { variant, call, lock, steps } of statedRows()) {
  test(`${variant}, ${call}, mmap_sem ${lock}: ${steps.join(', ')}`, () => {
    assert.deepEqual(takenSteps(variant, call, lock), steps);
  });
}
