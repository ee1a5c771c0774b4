import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { StepActor } from '../../src/engine/explore/stepper.ts';
import { C, type Path } from '../../src/model/env.ts';
import { TASK } from '../../src/model/layout.ts';
import {
  downgradeWrite,
  downRead,
  downWrite,
  downWriteKillable,
  downWriteTrylock,
  holders,
  isFree,
  upRead,
  upWrite,
} from '../../src/model/rwsem.ts';
import { World } from './world.ts';

function world(variant: string, tasks: number): World {
  return new World(variant, { tasks: ['main', ...Array.from({ length: tasks - 1 }, () => 'thread' as const)] });
}

/** Takes the lock, stays for `stay` choices, releases it. */
function reader(w: World, i: number, stay: number, log: string[]): StepActor {
  return w.actor(i, function* (k): Path<void> {
    yield* downRead(k, w.mm);
    log.push(`r${i}+`);
    for (let n = 0; n < stay; n += 1) yield;
    yield* upRead(k, w.mm);
    log.push(`r${i}-`);
  });
}

function writer(w: World, i: number, stay: number, log: string[]): StepActor {
  return w.actor(i, function* (k): Path<void> {
    yield* downWrite(k, w.mm);
    log.push(`w${i}+`);
    for (let n = 0; n < stay; n += 1) yield;
    yield* upWrite(k, w.mm);
    log.push(`w${i}-`);
  });
}

/** Advances one actor until it can go no further. */
function drive(w: World, actor: StepActor, steps = 100): void {
  for (let n = 0; n < steps && !actor.done && !actor.blocked; n += 1) w.stepper.step(actor);
}

describe('mmap_sem', () => {
  for (const variant of ['A', 'F', 'H']) {
    it(`${variant}: never a writer beside anybody, over 300 random schedules`, () => {
      for (let seed = 0; seed < 300; seed += 1) {
        const w = world(variant, 6);
        const inside = { readers: 0, writers: 0 };
        for (let i = 0; i < 6; i += 1) {
          const write = i % 3 === 0;
          w.actor(i, function* (k): Path<void> {
            for (let round = 0; round < 3; round += 1) {
              if (write) yield* downWrite(k, w.mm);
              else yield* downRead(k, w.mm);
              inside[write ? 'writers' : 'readers'] += 1;
              assert.ok(inside.writers === 0 || (inside.writers === 1 && inside.readers === 0), `seed ${seed}`);
              yield;
              inside[write ? 'writers' : 'readers'] -= 1;
              if (write) yield* upWrite(k, w.mm);
              else yield* upRead(k, w.mm);
              yield;
            }
          });
        }
        w.runRandom(seed);
        assert.equal(holders(w.arena, w.mm), 0, `seed ${seed}: the lock is free at the end`);
      }
    });
  }

  it('a new reader queues behind a waiting writer, and all readers at the head are woken together', () => {
    const w = world('A', 4);
    const log: string[] = [];
    const first = reader(w, 0, 50, log);
    w.stepper.step(first);
    w.stepper.step(first);
    const waiting = writer(w, 1, 0, log);
    drive(w, waiting);
    const second = reader(w, 2, 1, log);
    const third = reader(w, 3, 1, log);
    drive(w, second);
    drive(w, third);
    assert.ok(waiting.blocked && second.blocked && third.blocked);
    drive(w, first);
    assert.ok(!waiting.blocked, 'the writer at the head is told to try');
    assert.ok(second.blocked, 'readers behind it wait on');
    drive(w, waiting);
    assert.equal(holders(w.arena, w.mm), 2, 'both readers were handed the lock');
    drive(w, second);
    drive(w, third);
    assert.deepEqual(log, ['r0+', 'r0-', 'w1+', 'w1-', 'r2+', 'r2-', 'r3+', 'r3-']);
  });

  it('write-trylock passes sleeping waiters up to 5.1 and fails beside them from 5.2 on', () => {
    for (const [variant, expected] of [
      ['A', true],
      ['D', true],
      ['F', false],
      ['H', false],
    ] as const) {
      const w = world(variant, 3);
      const log: string[] = [];
      const holder = writer(w, 0, 1, log);
      w.stepper.step(holder);
      w.stepper.step(holder);
      const waiter = writer(w, 1, 0, log);
      drive(w, waiter);
      assert.ok(waiter.blocked);
      drive(w, holder);
      // The lock is free, the waiter is told but has not run.
      let got = false;
      // oxlint-disable-next-line require-yield
      const trier = w.actor(2, function* (k): Path<void> {
        got = yield* downWriteTrylock(k, w.mm);
        if (got) yield* upWrite(k, w.mm);
      });
      drive(w, trier);
      assert.equal(got, expected, variant);
      drive(w, waiter);
      assert.deepEqual(log.slice(-2), ['w1+', 'w1-'], `${variant}: the waiter gets it in the end`);
    }
  });

  it('a fatal signal ends down_write_killable with EINTR and lets the next waiter in', () => {
    const w = world('E', 3);
    const log: string[] = [];
    const holder = reader(w, 0, 5, log);
    w.stepper.step(holder);
    w.stepper.step(holder);
    let ret = 0;
    const killed = w.actor(1, function* (k): Path<void> {
      ret = yield* downWriteKillable(k, w.mm);
    });
    drive(w, killed);
    const next = reader(w, 2, 0, log);
    drive(w, next);
    assert.ok(killed.blocked && next.blocked);
    w.arena.set(killed.current, TASK.fatalSignal, 1);
    killed.blocked = false;
    drive(w, killed);
    assert.equal(ret, -4);
    assert.ok(!next.blocked, 'the reader behind the killed writer comes in beside the other reader');
    drive(w, next);
    drive(w, holder);
    assert.equal(holders(w.arena, w.mm), 0);
  });

  for (const variant of ['A', 'F', 'H']) {
    it(`${variant}: downgrade_write lets the readers at the head in, and no writer`, () => {
      const w = world(variant, 4);
      const log: string[] = [];
      const holder = w.actor(0, function* (k): Path<void> {
        yield* downWrite(k, w.mm);
        yield* downgradeWrite(k, w.mm);
        log.push('w0 reads');
        yield* upRead(k, w.mm);
      });
      w.stepper.step(holder);
      w.stepper.step(holder);
      const readers = [reader(w, 1, 1, log), reader(w, 2, 1, log)];
      const last = writer(w, 3, 0, log);
      for (const waiting of [...readers, last]) drive(w, waiting);
      assert.ok(readers.every((r) => r.blocked) && last.blocked);
      w.stepper.step(holder);
      assert.deepEqual(log, ['w0 reads']);
      assert.ok(
        readers.every((r) => !r.blocked),
        'the readers at the head run',
      );
      assert.ok(last.blocked, 'the writer behind them waits');
      assert.equal(holders(w.arena, w.mm), 3);
      for (const actor of [...readers, holder, last]) drive(w, actor);
      assert.ok(last.done && isFree(w.arena, w.mm));
    });
  }

  it('the writer to whom the lock is handed over ends the hand-off: afterwards the lock is idle', () => {
    const w = world('F', 3);
    const log: string[] = [];
    const holder = reader(w, 0, 1, log);
    w.stepper.step(holder);
    w.stepper.step(holder);
    const waiter = writer(w, 1, 1, log);
    waiter.handoffDue = () => true;
    drive(w, waiter);
    assert.ok(waiter.blocked);
    drive(w, holder);
    drive(w, waiter);
    assert.deepEqual(log, ['r0+', 'r0-', 'w1+', 'w1-']);
    assert.ok(isFree(w.arena, w.mm), 'no flag is left');
    const next = reader(w, 2, 0, log);
    drive(w, next);
    assert.ok(next.done, 'the next reader takes the lock at once');
  });

  for (const variant of ['A', 'F', 'H']) {
    for (const kind of ['reader', 'writer'] as const) {
      it(`${variant}: a ${kind} that queues while another CPU lets the lock go is not left waiting`, () => {
        const w = world(variant, 2);
        const log: string[] = [];
        const holder = w.actor(0, function* (k): Path<void> {
          yield* downWrite(k, w.mm);
          yield;
        });
        w.stepper.step(holder);
        w.stepper.step(holder);
        const waiter = kind === 'reader' ? reader(w, 1, 0, log) : writer(w, 1, 0, log);
        const count = waiter.count.bind(waiter);
        // It has seen the lock held and is about to queue: the other CPU releases it just then and finds nobody to
        // wake.
        waiter.count = (counter, by) => {
          count(counter, by);
          if (counter === C.lock_waits) for (const _ of upWrite(holder, w.mm));
        };
        drive(w, waiter);
        assert.ok(waiter.done, 'it has had the lock');
        assert.ok(isFree(w.arena, w.mm));
      });
    }
  }
});
