import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { StepActor } from '../../src/engine/explore/stepper.ts';
import { buildGuest } from '../../src/engine/guest.ts';
import { BUFFER_PAGE } from '../../src/engine/machine.ts';
import type { Ref } from '../../src/model/arena.ts';
import { C, type Path } from '../../src/model/env.ts';
import { MAP_ARGSZ, UNMAP_ARGSZ, UNMAP_FLAG_ALL } from '../../src/model/ioctl-args.ts';
import { CONTAINER, MM, TASK, USER } from '../../src/model/layout.ts';
import { doExit } from '../../src/model/paths/exit.ts';
import { closeBoth, containerOf, filesOf, openGroup, setContainer } from '../../src/model/paths/files.ts';
import { iommufdChangeProcess, iommufdCopy, iommufdMap, iommufdSetRlimitMode } from '../../src/model/paths/iommufd.ts';
import { exec, fork } from '../../src/model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../src/model/paths/unmap.ts';
import { map, unmap, World, type WorldOptions } from './world.ts';

const ENOENT = -2;
const ENOMEM = -12;
const EFAULT = -14;
const EBUSY = -16;
const EEXIST = -17;
const EINVAL = -22;
const EPERM = -1;

/** locked_vm, pinned_vm and the user's count. */
function accounts(w: World, mm: Ref = w.mm): { locked: number; pinned: number; user: number } {
  const a = w.arena;
  return {
    locked: Number(a.getU64(mm, MM.lockedVm)),
    pinned: Number(a.getU64(mm, MM.pinnedVm)),
    user: Number(a.getU64(a.get(mm, MM.user), USER.lockedVm)),
  };
}

function run(
  variant: string,
  o: WorldOptions,
  program: (k: StepActor, w: World) => Path<void>,
): World & { results: number[] } {
  const w = new World(variant, o);
  const k = w.actor(0, (actor) => program(actor, w));
  w.runInOrder();
  return Object.assign(w, { results: k.results });
}

function* note(k: StepActor, path: Path<number>): Path<number> {
  const ret = yield* path;
  k.results.push(ret);
  return ret;
}

describe('iommufd: who pays', () => {
  const modes: readonly (readonly [id: string, cap: boolean, expected: { locked: number; user: number }])[] = [
    ['I', false, { locked: 0, user: 8 }],
    ['I', true, { locked: 0, user: 0 }],
    ['I-mm', false, { locked: 8, user: 0 }],
    ['I-mm', true, { locked: 0, user: 0 }],
    ['I-compat', false, { locked: 8, user: 0 }],
    ['I-none', false, { locked: 0, user: 0 }],
  ];
  for (const [id, cap, expected] of modes) {
    it(`${id}${cap ? ' with CAP_IPC_LOCK' : ''}`, () => {
      const w = run(id, { limitPages: 64, cap }, function* (k, world): Path<void> {
        yield* map(k, 0, 0, 8);
        assert.deepEqual(accounts(world), { ...expected, pinned: 8 });
        yield* unmap(k, 0, 8);
        assert.deepEqual(accounts(world), { locked: 0, user: 0, pinned: 0 });
        yield* map(k, 0, 0, 8);
        yield* closeBoth(k, 0);
      });
      assert.deepEqual(w.results, [0, 8, 0]);
      assert.deepEqual(accounts(w), { locked: 0, user: 0, pinned: 0 });
      assert.deepEqual(w.verdict(), []);
      assert.equal(w.arena.live('pages') + w.arena.live('dma') + w.arena.live('chunk'), 0);
    });
  }

  for (const id of ['I', 'I-mm', 'I-compat']) {
    it(`${id}: exactly the limit fits; one page more is refused after everything was pinned, and nothing stays`, () => {
      const w = run(id, { limitPages: 16 }, function* (k): Path<void> {
        yield* map(k, 0, 0, 15);
        yield* map(k, 100, 0, 2);
        yield* map(k, 100, 0, 1);
        yield* map(k, 200, 0, 1);
      });
      assert.deepEqual(w.results, [0, ENOMEM, 0, ENOMEM]);
      assert.equal(accounts(w).pinned, 16);
      assert.equal(w.stepper.counters[C.pages_pinned], 15 + 2 + 1 + 1);
      assert.deepEqual(w.verdict(), []);
    });
  }

  it('one charge per area: no write lock in USER mode, one in MM mode, whatever the number of chunks', () => {
    for (const [id, writes] of [
      ['I', 0],
      ['I-mm', 1],
    ] as const) {
      const w = run(id, { limitPages: 64 }, function* (k): Path<void> {
        yield* map(k, 0, 0, 64);
      });
      assert.equal(w.stepper.counters[C.mmap_write_acquisitions], writes, id);
      assert.equal(w.stepper.counters[C.mmap_read_acquisitions], 0, id);
    }
  });

  it('two guests of one uid share the quota; each of its own uid has it whole (K25, K26)', () => {
    for (const [uid, expected] of [
      [1000, [0, ENOMEM]],
      [undefined, [0, 0]],
    ] as const) {
      const w = new World('I', { limitPages: 16, ...(uid === undefined ? {} : { uid }) });
      const second = buildGuest(w.arena, w.stepper.addressSpace, { ...w.plan, index: 1 }, () => 0);
      const k = w.actor(0, (a) => map12(a));
      const built = second.actors[0];
      assert.ok(built !== undefined);
      const l = w.stepper.add('other', built.task, (a) => map12(a), built.actor);
      w.runInOrder();
      assert.deepEqual([...k.results, ...l.results], expected);
      assert.deepEqual(w.verdict(), []);
    }
    function* map12(k: StepActor): Path<void> {
      yield* map(k, 0, 0, 12);
    }
  });

  it('200 random schedules of three pin loops in one IOAS: the account balances and the limit holds', () => {
    for (const id of ['I', 'I-mm', 'I-compat', 'I-none']) {
      for (let seed = 0; seed < 200; seed += 1) {
        const w = new World(id, { limitPages: 10, tasks: ['main', 'thread', 'thread'] });
        for (const i of [0, 1, 2]) {
          w.actor(i, function* (k): Path<void> {
            for (let n = 0; n < 3; n += 1) {
              yield* map(k, 100 * i, 0, 4);
              yield* unmap(k, 100 * i, 4);
            }
          });
        }
        w.runRandom(seed);
        assert.deepEqual(w.verdict(), [], `${id} seed ${seed}`);
        assert.deepEqual(accounts(w), { locked: 0, pinned: 0, user: 0 }, `${id} seed ${seed}`);
      }
    }
  });
});

describe('iommufd: the system calls', () => {
  it('unmap: whole areas or ENOENT; nothing there is ENOENT, for /dev/vfio/vfio success', () => {
    const program = function* (k: StepActor): Path<void> {
      yield* map(k, 0, 0, 4);
      yield* map(k, 4, 4, 4);
      yield* map(k, 2, 0, 1);
      yield* unmap(k, 50, 4);
      yield* unmap(k, 1, 2);
      yield* unmap(k, 0, 6);
      yield* unmap(k, 3, 50);
      yield* unmap(k, 0, 50);
    };
    // Of 0 to 6 the first area is whole and goes; the second stops the request with an error.
    assert.deepEqual(run('I', {}, program).results, [0, 0, EEXIST, ENOENT, ENOENT, ENOENT, 4, ENOENT]);
    assert.deepEqual(run('I-compat', {}, program).results, [0, 0, EEXIST, 0, ENOENT, ENOENT, 4, 0]);
  });

  it('type1 (v1) through /dev/vfio/vfio cuts areas', () => {
    const w = run('I-compat', { v2: false, limitPages: 16 }, function* (k, world): Path<void> {
      yield* map(k, 0, 0, 8);
      yield* unmap(k, 2, 3);
      assert.equal(accounts(world).locked, 5);
      yield* unmap(k, 0, 8);
    });
    assert.deepEqual(w.results, [0, 3, 5]);
    assert.deepEqual(accounts(w), { locked: 0, pinned: 0, user: 0 });
    assert.deepEqual(w.verdict(), []);
  });

  it('UNMAP_ALL', () => {
    const w = run('I', {}, function* (k): Path<void> {
      yield* map(k, 0, 0, 4);
      yield* map(k, 100, 0, 4);
      const args = { argsz: UNMAP_ARGSZ, flags: UNMAP_FLAG_ALL, iova: 0n, size: 0n, unmapped: 0n };
      yield* note(k, vfioDmaDoUnmap(k, containerOf(k, 0), args));
      k.results.push(Number(args.unmapped / 4096n));
      yield* note(k, vfioDmaDoUnmap(k, containerOf(k, 0), { ...args, iova: 4096n }));
    });
    assert.deepEqual(w.results, [0, 0, 0, 8, EINVAL]);
  });

  it('a copy in another IOAS costs nothing and keeps the pages when the first area goes', () => {
    const w = run('I', { containers: 2, limitPages: 8 }, function* (k, world): Path<void> {
      yield* map(k, 0, 0, 8);
      const [from, to] = [containerOf(k, 0), containerOf(k, 1)];
      yield* note(k, iommufdCopy(k, { from, fromPage: 2, pages: 4, to, toPage: 0, prot: 3 }));
      yield* note(k, iommufdCopy(k, { from, fromPage: 6, pages: 4, to, toPage: 50, prot: 3 }));
      assert.deepEqual(accounts(world), { locked: 0, pinned: 8, user: 8 });
      yield* unmap(k, 0, 8);
      assert.deepEqual(accounts(world), { locked: 0, pinned: 4, user: 4 });
      yield* unmap(k, 0, 4, 1);
    });
    assert.deepEqual(w.results, [0, 0, ENOENT, 8, 4]);
    assert.deepEqual(accounts(w), { locked: 0, pinned: 0, user: 0 });
    assert.deepEqual(w.verdict(), []);
  });

  it('a first domain pins from the process that mapped: alive it works, dead it is EFAULT', () => {
    for (const [dies, expected, pinned] of [
      [true, EFAULT, 0],
      [false, 0, 4],
    ] as const) {
      const w = new World('I', { tasks: ['main', 'child'], limitPages: 16 });
      const container = w.containers()[0] as Ref;
      w.arena.set(container, CONTAINER.domains, 0);
      w.arena.set(container, CONTAINER.domainGroups0, 0);
      const child = w.actor(1, function* (k): Path<void> {
        yield* map(k, 0, 0, 4);
        if (dies) yield* doExit(k);
      });
      while (!child.done) w.stepper.step(child);
      const k = w.actor(0, function* (a): Path<void> {
        openGroup(w.arena, filesOf(w.arena, a.current), { index: 1 });
        yield* note(a, setContainer(a, 1, 0));
      });
      w.runInOrder();
      assert.deepEqual(k.results, [expected]);
      assert.equal(accounts(w, w.guest.mms[1]).pinned, pinned);
      assert.equal(accounts(w).pinned, 0);
      assert.deepEqual(w.verdict(), []);
    }
  });

  it('RLIMIT_MODE: EPERM without CAP_SYS_RESOURCE, EINVAL for 2, EBUSY once there is a mapping; 1 charges the mm', () => {
    const w = run('I', { limitPages: 16 }, function* (k): Path<void> {
      const container = containerOf(k, 0);
      yield* note(k, iommufdSetRlimitMode(k, container, 1, false));
      yield* note(k, iommufdSetRlimitMode(k, container, 2, true));
      yield* note(k, iommufdSetRlimitMode(k, container, 1, true));
      yield* map(k, 0, 0, 4);
      yield* note(k, iommufdSetRlimitMode(k, container, 0, true));
    });
    assert.deepEqual(w.results, [EPERM, EINVAL, 0, 0, EBUSY]);
    assert.deepEqual(accounts(w), { locked: 4, pinned: 4, user: 0 });
  });

  it('after exec, and after the death of the owner, the user is still relieved', () => {
    const w = run('I', { limitPages: 16 }, function* (k): Path<void> {
      yield* map(k, 0, 0, 4);
      yield* exec(k);
      yield* unmap(k, 0, 4);
      yield* closeBoth(k, 0);
    });
    assert.deepEqual(w.results, [0, 4]);
    assert.equal(accounts(w).user, 0);
    assert.deepEqual(w.verdict(), []);
  });
});

describe('iommufd: change of process', () => {
  const page = (n: number): bigint => BigInt(n) * 4096n;
  const file = function* (k: StepActor, pages: number): Path<number> {
    const args = { argsz: MAP_ARGSZ, flags: 3, vaddr: page(BUFFER_PAGE), iova: 0n, size: page(pages) };
    return yield* note(k, iommufdMap(k, containerOf(k, 0), args, true));
  };

  for (const [id, limitPages, expected] of [
    ['I', 16, 0],
    ['I', 6, ENOMEM],
    ['I-mm', 16, 0],
    ['I-none', 0, 0],
  ] as const) {
    it(`${id} under a limit of ${limitPages}: what is charged moves with it, or nothing does`, () => {
      const w = new World(id, { backing: 'memfd', limitPages });
      let childTask = 0;
      const parent = w.actor(0, function* (k): Path<void> {
        yield* file(k, 4);
        childTask = yield* fork(k, false);
      });
      while (!parent.done) w.stepper.step(parent);
      const child = w.stepper.add('child', childTask, function* (k): Path<void> {
        yield* note(k, iommufdChangeProcess(k));
      });
      const childMm = w.arena.get(childTask, TASK.mm);
      while (!child.done) w.stepper.step(child);
      assert.deepEqual([...parent.results, ...child.results], [0, expected]);
      const moved = expected === 0 && id !== 'I-none';
      assert.deepEqual([accounts(w).pinned, accounts(w, childMm).pinned], moved ? [0, 4] : [4, 0]);
      if (id === 'I-mm') assert.deepEqual([accounts(w).locked, accounts(w, childMm).locked], [0, 4]);
      if (id === 'I') assert.equal(accounts(w).user, 4, 'the same user pays');
      assert.deepEqual(w.verdict(), []);
    });
  }

  it('memory that is not a file stays where it is: EINVAL', () => {
    const w = run('I', {}, function* (k): Path<void> {
      yield* map(k, 0, 0, 4);
      yield* note(k, iommufdChangeProcess(k));
    });
    assert.deepEqual(w.results, [0, EINVAL]);
  });
});
