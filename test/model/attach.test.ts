import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EBADF, EBUSY, EINVAL, EIO, ENOMEM, EPERM } from '../../src/base/errno.ts';
import type { StepActor } from '../../src/engine/explore/stepper.ts';
import { DMA_ENTRY_LIMIT } from '../../src/engine/machine.ts';
import { C, type FaultSite, type Path } from '../../src/model/env.ts';
import { VARIANTS } from '../../src/model/kernels/index.ts';
import { CONTAINER } from '../../src/model/layout.ts';
import { lockedVm } from '../../src/model/locked-vm.ts';
import { doExit } from '../../src/model/paths/exit.ts';
import { MdevDriver, vfioPinPages } from '../../src/model/paths/external.ts';
import {
  closeBoth,
  filesOf,
  type GroupArgs,
  groupOf,
  MDEV_GROUP,
  openGroup,
  setContainer,
  unsetContainer,
} from '../../src/model/paths/files.ts';
import { downRead, upRead } from '../../src/model/rwsem.ts';
import { map, pin, unmap, unpin, World, type WorldOptions } from './world.ts';

const withMdev = VARIANTS.filter((v) => v.external !== null).map((v) => v.id);
const UNWINDS = new Set(VARIANTS.filter((v) => v.replayUnwinds).map((v) => v.id));

/** A free group descriptor of the tests' processes. */
const GROUP_FD = 1;

function alone(w: World, program: (k: StepActor) => Path<void>): number[] {
  const k = w.actor(0, program);
  w.runInOrder();
  return k.results;
}

/** A further group of the caller's process, in no container yet. */
function group(k: StepActor, args: Omit<GroupArgs, 'index'> = {}, index = GROUP_FD): void {
  openGroup(k.arena, filesOf(k.arena, k.current), { index, ...args });
}

function* attach(k: StepActor, groupFd = GROUP_FD, container = 0): Path<number> {
  const ret = yield* setContainer(k, groupFd, container);
  k.results.push(ret);
  return ret;
}

function* detach(k: StepActor, groupFd = GROUP_FD): Path<number> {
  const ret = yield* unsetContainer(k, groupFd);
  k.results.push(ret);
  return ret;
}

const mdevOnly = (id: string, o: WorldOptions = {}) => new World(id, { mdev: 'only', limitPages: 64, ...o });

describe('attach and detach of groups', () => {
  for (const id of withMdev) {
    it(`${id}: the charge goes from the pinned pages to all pages and back`, () => {
      const w = mdevOnly(id);
      const seen: bigint[] = [];
      const got = alone(w, function* (k) {
        yield* map(k, 0, 0, 16);
        yield* map(k, 100, 16, 4);
        yield* pin(k, [1, 2, 101]);
        seen.push(w.lockedVm);
        group(k);
        yield* attach(k);
        seen.push(w.lockedVm);
        // Counted with its mapping, both ways.
        yield* pin(k, [5]);
        yield* unpin(k, [1]);
        seen.push(w.lockedVm);
        yield* detach(k);
        seen.push(w.lockedVm);
        assert.deepEqual(w.verdict(), []);
        yield* attach(k);
        seen.push(w.lockedVm);
        yield* detach(k);
        yield* unmap(k, 0, 16);
        seen.push(w.lockedVm);
        yield* closeBoth(k, 0);
        seen.push(w.lockedVm);
      });
      assert.deepEqual(got, [0, 0, 3, 0, 1, 1, 0, 0, 0, 16]);
      assert.deepEqual(seen, [3n, 20n, 20n, 3n, 20n, 1n, 0n]);
      assert.deepEqual(w.verdict(), []);
    });

    it(`${id}: a replay that fails at the limit (K11)`, () => {
      const w = mdevOnly(id, { limitPages: 10 });
      const seen: bigint[] = [];
      const got = alone(w, function* (k) {
        yield* map(k, 0, 0, 6);
        yield* map(k, 10, 6, 6);
        yield* pin(k, [1]);
        group(k);
        yield* attach(k);
        seen.push(w.lockedVm);
      });
      assert.deepEqual(got, [0, 0, 1, -ENOMEM]);
      const clean = UNWINDS.has(id);
      // Six pages of the first mapping and four of the second were pinned before the limit; the pinned page counts
      // once.
      assert.deepEqual(seen, [clean ? 1n : 10n]);
      assert.deepEqual(w.verdict(), clean ? [] : ['balance']);
      w.stepper.add('closer', w.guest.actors[0]?.task as number, function* (k) {
        yield* closeBoth(k, 0);
      });
      w.runInOrder();
      assert.equal(w.oracle.counts['leak-at-release'], clean ? 0 : 1);
      assert.equal(w.lockedVm, clean ? 0n : 9n);
    });

    it(`${id}: a translation that fails takes back what 5.9 takes back`, () => {
      let mapped = 0;
      const inject = (site: FaultSite) => site === 'iommu_map' && (mapped += 1) === 5;
      const w = mdevOnly(id, { inject });
      const got = alone(w, function* (k) {
        yield* map(k, 0, 0, 8);
        yield* pin(k, [2, 3]);
        group(k);
        yield* attach(k);
        // The second attempt is undisturbed.
        if (UNWINDS.has(id)) yield* attach(k);
      });
      if (UNWINDS.has(id)) {
        assert.deepEqual(got, [0, 2, -ENOMEM, 0]);
        assert.equal(w.lockedVm, 8n);
        assert.deepEqual(w.verdict(), []);
      } else {
        assert.deepEqual(got, [0, 2, -ENOMEM]);
        assert.deepEqual(w.verdict(), ['balance']);
      }
    });

    it(`${id}: attached by another process (K16)`, () => {
      const w = mdevOnly(id, { tasks: ['main', 'child'] });
      const [owner, other] = w.guest.mms as [number, number];
      w.actor(0, function* (k) {
        yield* map(k, 0, 0, 8);
      });
      w.runInOrder();
      const k = w.actor(1, function* (a) {
        group(a);
        yield* attach(a);
      });
      w.runInOrder();
      assert.deepEqual(k.results, [0]);
      const charged = [lockedVm(w.arena, owner), lockedVm(w.arena, other)];
      // B pins from the mapping's task. C to E pin from and charge the attacher; later eras pin from it and charge the
      // owner.
      const attacher = ['C', 'D', '4.10.17', 'E', '4.14.115'].includes(id);
      assert.deepEqual(charged, attacher ? [0n, 8n] : [8n, 0n]);
      assert.deepEqual(w.verdict(), id === 'B' || attacher ? [] : ['balance']);
      if (!attacher) return;
      // The mapping's task is credited for what the attacher paid.
      w.stepper.add('detach', w.guest.actors[1]?.task as number, function* (a) {
        yield* detach(a);
      });
      w.runInOrder();
      assert.deepEqual([lockedVm(w.arena, owner), lockedVm(w.arena, other)], [2n ** 64n - 8n, 8n]);
      assert.deepEqual(w.verdict(), ['balance', 'wrap']);
    });

    it(`${id}: random schedules of a driver beside attach and detach keep the balance`, () => {
      for (let seed = 0; seed < 60; seed += 1) {
        const w = mdevOnly(id, { limitPages: null, tasks: ['main', 'kthread', 'thread'] });
        w.actor(0, function* (k) {
          yield* map(k, 0, 0, 6);
          group(k);
          for (let i = 0; i < 2; i += 1) {
            yield* attach(k);
            yield* detach(k);
          }
          yield* unmap(k, 0, 6);
          yield* map(k, 0, 0, 6);
        });
        for (const i of [1, 2]) {
          w.actor(i, function* (k) {
            yield* pin(k, [i, i + 1]);
            yield* pin(k, [4]);
            yield* unpin(k, [i]);
          });
        }
        w.runRandom(seed);
        const deferring = ['B', 'C', 'D'].includes(id);
        assert.deepEqual(
          w.verdict().filter((v) => !(deferring && v === 'wrap')),
          [],
          `seed ${seed}`,
        );
      }
    });
  }

  it('a group of the same kind joins the domain; of another kind it gets its own, with translations but no pins', () => {
    const w = new World('E', { limitPages: 8 });
    const counts: number[][] = [];
    const note = () =>
      counts.push([
        Number(w.lockedVm),
        w.arena.get(w.containers()[0] as number, CONTAINER.domains),
        w.stepper.counters[C.mmap_write_acquisitions] as number,
      ]);
    const got = alone(w, function* (k) {
      yield* map(k, 0, 0, 8);
      note();
      group(k, { iommuKind: 0 }, 1);
      yield* attach(k, 1);
      note();
      group(k, { iommuKind: 1 }, 2);
      yield* attach(k, 2);
      note();
      yield* detach(k, 0);
      note();
      yield* detach(k, 1);
      note();
      yield* detach(k, 2);
      counts.push([Number(w.lockedVm)]);
    });
    assert.deepEqual(got, [0, 0, 0, 0, 0, 0]);
    assert.deepEqual(counts, [[8, 1, 8], [8, 1, 8], [8, 2, 8], [8, 2, 8], [8, 1, 8], [0]]);
    assert.deepEqual(w.verdict(), []);
  });

  it('the last mdev group goes while no domain is there: its pins and every mapping go', () => {
    const w = mdevOnly('H');
    alone(w, function* (k) {
      yield* map(k, 0, 0, 8);
      yield* pin(k, [1, 2]);
      yield* detach(k, MDEV_GROUP);
    });
    assert.equal(w.lockedVm, 0n);
    assert.equal(w.arena.live('dma') + w.arena.live('vpfn'), 0);
    assert.deepEqual(w.verdict(), []);
  });

  it('a driver that keeps its pins when it goes leaks them', () => {
    const w = mdevOnly('H');
    alone(w, function* (k) {
      group(k, { driver: MdevDriver.Ignores }, 2);
      yield* attach(k, 2);
      yield* detach(k, MDEV_GROUP);
      yield* map(k, 0, 0, 8);
      k.results.push(yield* vfioPinPages(k, groupOf(k, 2), [1, 2], 3));
      yield* detach(k, 2);
    });
    assert.deepEqual(w.verdict(), ['balance', 'leak-at-release']);
  });

  it('a container whose last group has gone takes another', () => {
    const w = new World('H', { limitPages: 8 });
    const got = alone(w, function* (k) {
      yield* map(k, 0, 0, 8);
      yield* detach(k, 0);
      yield* attach(k, 0);
      yield* map(k, 0, 0, 8);
    });
    assert.deepEqual(got, [0, 0, 0, 0]);
    assert.equal(w.lockedVm, 8n);
    assert.equal(w.arena.get(w.containers()[0] as number, CONTAINER.dmaAvail), DMA_ENTRY_LIMIT - 1);
    assert.deepEqual(w.verdict(), []);
  });

  it('errors', () => {
    const sites = new Set<FaultSite>();
    const w = mdevOnly('H', { inject: (site) => sites.has(site) });
    const got = alone(w, function* (k) {
      group(k);
      yield* attach(k, 3);
      yield* attach(k, GROUP_FD, 1);
      yield* attach(k, MDEV_GROUP);
      sites.add('group_node');
      yield* attach(k);
      sites.clear();
      sites.add('domain');
      yield* attach(k);
      sites.clear();
      group(k, { unsafe: true }, 2);
      yield* attach(k, 2);
      w.arena.set(w.containers()[0] as number, CONTAINER.vaddrInvalid, 1);
      yield* attach(k);
      w.arena.set(w.containers()[0] as number, CONTAINER.vaddrInvalid, 0);
      yield* detach(k);
      yield* detach(k, 3);
    });
    assert.deepEqual(got, [-EBADF, -EBADF, -EINVAL, -ENOMEM, -EIO, -EPERM, -EBUSY, -EINVAL, -EBADF]);
    assert.equal(w.arena.get(w.containers()[0] as number, CONTAINER.groups), 1);

    const old = new World('A');
    assert.deepEqual(
      alone(old, function* (k) {
        group(k, { driver: MdevDriver.Unpins });
        yield* attach(k);
      }),
      [-EIO],
    );
  });

  it('deferred work keeps an address space whose process has ended (K5)', () => {
    for (const id of ['B', 'C', 'D', 'E', 'H']) {
      const w = new World(id, { limitPages: null, tasks: ['main', 'kthread'] });
      let mapped = false;
      const k = w.actor(0, function* (a) {
        yield* map(a, 0, 0, 4);
        mapped = true;
        yield* doExit(a);
      });
      // Somebody else reads the address space all the while, as /proc does, and has a reference of its own.
      const reader = w.actor(1, function* (a) {
        yield* downRead(a, w.mm);
        while (!k.done && id < 'E') yield;
        yield* upRead(a, w.mm);
      });
      for (let i = 0; i < 2; i += 1) w.stepper.step(reader);
      for (let n = 0; n < 10_000 && !(k.done && reader.done); n += 1) {
        for (const a of [k, reader]) if (!a.done && !a.blocked) w.stepper.step(a);
      }
      assert.ok(mapped && k.done, id);
      assert.deepEqual(w.verdict().includes('mm-outlives-process'), id < 'E', id);
    }
  });
});
