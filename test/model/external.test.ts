import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { E2BIG, EACCES, EBUSY, EINVAL, ENODEV, ENOMEM, ENOTTY, EOVERFLOW, EPERM } from '../../src/base/errno.ts';
import type { StepActor } from '../../src/engine/explore/stepper.ts';
import { BUFFER_PAGE } from '../../src/engine/machine.ts';
import { Backing, PROT_RW } from '../../src/model/address-space/memory.ts';
import { C, type Path } from '../../src/model/env.ts';
import {
  MAP_ARGSZ,
  MAP_FLAG_READ,
  MAP_FLAG_VADDR,
  MAP_FLAG_WRITE,
  UNMAP_ARGSZ,
  UNMAP_FLAG_VADDR,
} from '../../src/model/ioctl-args.ts';
import { resolveVariant, VARIANTS } from '../../src/model/kernels/index.ts';
import { CONTAINER, DMA, GROUP, TASK } from '../../src/model/layout.ts';
import { orders } from '../../src/model/orders.ts';
import { doExit } from '../../src/model/paths/exit.ts';
import { MdevDriver, vfioPinPages } from '../../src/model/paths/external.ts';
import { closeBoth, containerOf, groupOf, MDEV_GROUP } from '../../src/model/paths/files.ts';
import { vfioDmaDoMap } from '../../src/model/paths/map.ts';
import { KernelBug } from '../../src/model/paths/notify.ts';
import { exec } from '../../src/model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../src/model/paths/unmap.ts';
import { map, pin, unmap, unpin, World, type WorldOptions } from './world.ts';

const withMdev = VARIANTS.filter((v) => v.external !== null).map((v) => v.id);

/** Variants whose `external` rules say so; the rules themselves are pinned by name below. */
const ENTRY = {
  early: ['B', 'C', 'D', '4.10.17'],
  zeroSize: ['B', 'C'],
  leaks: ['B', 'C', 'D', '4.10.17', 'E', '4.14.115', '4.18', 'E2', '5.3', 'F', 'J', 'J-cas'],
};

/** Runs one actor of a world to its end; its results. */
function alone(w: World, program: (k: StepActor) => Path<void>): number[] {
  const k = w.actor(0, program);
  w.runInOrder();
  return k.results;
}

const mdevOnly = (id: string, o: WorldOptions = {}) => new World(id, { mdev: 'only', ...o });

function mapping(w: World): number {
  const [container] = w.containers();
  return orders(w.arena).dma.first((container as number) + CONTAINER.dmaRoot);
}

describe('mdev pins', () => {
  it('the eras with each rule', () => {
    const having = (rule: (v: (typeof VARIANTS)[number]) => boolean) => VARIANTS.filter(rule).map((v) => v.id);
    assert.deepEqual(
      having((v) => v.external !== null && v.external.limitTest !== 'accounting'),
      ENTRY.early,
    );
    assert.deepEqual(
      having((v) => v.external?.zeroSizeLookup === true),
      ENTRY.zeroSize,
    );
    assert.deepEqual(
      having((v) => v.external?.nodeFailureLeaks === true),
      ENTRY.leaks,
    );
    assert.deepEqual(
      having((v) => v.external !== null && v.replayUnwinds),
      ['5.10', 'G', '6.1', 'H', 'H2', 'J-cache'],
    );
    assert.equal(resolveVariant('4.10.17').id, '4.10.17');
    assert.equal(resolveVariant('5.9').id, '5.10');
    assert.equal(resolveVariant('5.8').id, 'F');
    assert.equal(resolveVariant('4.11').id, 'D');
  });

  for (const id of withMdev) {
    it(`${id}: a page counts once, however often it is pinned, until the last unpin`, () => {
      const w = mdevOnly(id);
      const seen: bigint[] = [];
      alone(w, function* (k) {
        yield* map(k, 0, 0, 32);
        seen.push(w.lockedVm);
        yield* pin(k, [1, 2, 3]);
        seen.push(w.lockedVm);
        for (let i = 0; i < 4; i += 1) yield* pin(k, [2]);
        seen.push(w.lockedVm);
        for (let i = 0; i < 4; i += 1) yield* unpin(k, [2]);
        seen.push(w.lockedVm);
        yield* unpin(k, [2]);
        seen.push(w.lockedVm);
        // Nobody holds it any more.
        yield* unpin(k, [2]);
        yield* unpin(k, [1, 3]);
        seen.push(w.lockedVm);
        yield* unmap(k, 0, 32);
      });
      assert.deepEqual(seen, [0n, 3n, 3n, 3n, 2n, 0n]);
      assert.deepEqual(w.verdict(), []);
    });

    it(`${id}: one write acquisition for each page, both ways`, () => {
      const w = mdevOnly(id, { limitPages: null });
      const pages = Array.from({ length: 20 }, (_, i) => 1 + i);
      const writes: number[] = [];
      alone(w, function* (k) {
        yield* map(k, 0, 0, 32);
        for (const step of [pin(k, pages), unpin(k, pages)]) {
          const before = w.stepper.counters[C.mmap_write_acquisitions] as number;
          yield* step;
          writes.push((w.stepper.counters[C.mmap_write_acquisitions] as number) - before);
        }
      });
      assert.deepEqual(writes, resolveVariant(id).lockFree ? [0, 0] : [20, 20]);
    });

    it(`${id}: exactly the limit fits; one page more is ENOMEM and gives back the pages of its call`, () => {
      const w = mdevOnly(id, { limitPages: 4 });
      const got = alone(w, function* (k) {
        yield* map(k, 0, 0, 32);
        yield* pin(k, [1, 2]);
        yield* pin(k, [5, 6, 7]);
        yield* pin(k, [5, 6]);
        yield* pin(k, [5]);
      });
      assert.deepEqual(got, [0, 2, -ENOMEM, 2, 1]);
      assert.equal(w.lockedVm, 4n);
      assert.deepEqual(w.verdict(), []);
    });

    it(`${id}: a page outside any mapping is EINVAL and takes the whole call back`, () => {
      const w = mdevOnly(id);
      const got = alone(w, function* (k) {
        yield* map(k, 0, 0, 8);
        yield* pin(k, [3]);
        yield* pin(k, [2, 3, 4, 99]);
        yield* unpin(k, [99]);
        yield* unpin(k, [3, 99]);
      });
      assert.deepEqual(got, [0, 1, -EINVAL, -EINVAL, 1]);
      assert.equal(w.lockedVm, 0n);
      assert.deepEqual(w.verdict(), []);
    });

    it(`${id}: beside an IOMMU group nothing is counted again`, () => {
      const w = new World(id, { mdev: 'beside', limitPages: 64 });
      const seen: bigint[] = [];
      alone(w, function* (k) {
        yield* map(k, 0, 0, 8);
        yield* pin(k, [1, 2]);
        seen.push(w.lockedVm);
        yield* unpin(k, [1, 2]);
        seen.push(w.lockedVm);
      });
      assert.deepEqual(seen, [8n, 8n]);
      assert.deepEqual(w.verdict(), []);
    });

    it(`${id}: exactly at the limit, a pin beside an IOMMU group (K8)`, () => {
      const w = new World(id, { mdev: 'beside', limitPages: 8 });
      const got = alone(w, function* (k) {
        yield* map(k, 0, 0, 8);
        yield* pin(k, [1]);
      });
      const early = ENTRY.early.includes(id);
      assert.deepEqual(got, [0, early ? -ENOMEM : 1]);
      assert.deepEqual(w.verdict(), early ? ['over-penalty'] : []);
    });

    it(`${id}: a kernel thread has every capability, and the mapping's process has not (K7)`, () => {
      const w = mdevOnly(id, { limitPages: 2, tasks: ['main', 'kthread'] });
      w.actor(0, function* (k) {
        yield* map(k, 0, 0, 8);
      });
      w.runInOrder();
      const k = w.actor(1, function* (a) {
        yield* pin(a, [1, 2, 3]);
      });
      w.runInOrder();
      const bypassed = ['B', 'C'].includes(id);
      assert.deepEqual(k.results, [bypassed ? 3 : -ENOMEM]);
      assert.deepEqual(w.verdict(), bypassed ? ['limit-bypass'] : []);
    });

    it(`${id}: the first page of a mapping (K9)`, () => {
      const w = mdevOnly(id);
      const got = alone(w, function* (k) {
        yield* map(k, 16, 0, 8);
        yield* map(k, 24, 8, 8);
        yield* pin(k, [16]);
        yield* pin(k, [24]);
        yield* pin(k, [23]);
        yield* unpin(k, [16]);
      });
      const missed = ENTRY.zeroSize.includes(id);
      assert.deepEqual(got, [0, 0, ...(missed ? [-EINVAL, -EINVAL, 1, -EINVAL] : [1, 1, 1, 1])]);
    });

    it(`${id}: a node that cannot be stored (K10)`, () => {
      for (const mdev of ['only', 'beside'] as const) {
        let fail = true;
        const w = new World(id, { mdev, inject: (site) => site === 'vpfn_node' && fail });
        const got = alone(w, function* (k) {
          yield* map(k, 0, 0, 8);
          yield* pin(k, [1]);
          fail = false;
          yield* pin(k, [2]);
        });
        assert.deepEqual(got, [0, -ENOMEM, 1]);
        const leaks = ENTRY.leaks.includes(id);
        const charged = leaks && mdev === 'only';
        assert.deepEqual(w.verdict(), charged ? ['balance'] : [], mdev);
        // Released by a process of its own, so that the leak is not hidden by the exit.
        const before = w.oracle.counts['leak-at-release'];
        const k = w.stepper.add('closer', w.guest.actors[0]?.task as number, function* (a) {
          yield* closeBoth(a, 0);
        });
        w.runInOrder();
        assert.ok(k.done);
        assert.equal(w.oracle.counts['leak-at-release'] - before, leaks ? 1 : 0, mdev);
        assert.equal(w.lockedVm, charged ? 1n : 0n, mdev);
      }
    });

    it(`${id}: an unmap tells the driver, which unpins; one that does not stops the kernel (K21)`, () => {
      const w = mdevOnly(id);
      const got = alone(w, function* (k) {
        yield* map(k, 0, 0, 8);
        yield* pin(k, [1, 2]);
        yield* pin(k, [2]);
        yield* unmap(k, 0, 8);
      });
      // 4.10-rc1 cannot find a first page, and nobody has pinned one here.
      assert.deepEqual(got, [0, 2, 1, 8]);
      assert.equal(w.lockedVm, 0n);
      assert.deepEqual(w.verdict(), []);

      const stubborn = mdevOnly(id);
      const [container] = stubborn.containers();
      stubborn.arena.set(container as number, CONTAINER.notifier, MdevDriver.Ignores);
      assert.throws(
        () =>
          alone(stubborn, function* (k) {
            yield* map(k, 0, 0, 8);
            yield* pin(k, [1]);
            yield* unmap(k, 0, 8);
          }),
        KernelBug,
      );
    });

    it(`${id}: device pages are free, or refused where a struct page is needed`, () => {
      const w = mdevOnly(id);
      w.stepper.addressSpace.mmap(w.mm, BUFFER_PAGE + 8, 8, { backing: Backing.Bar, prot: PROT_RW });
      const got = alone(w, function* (k) {
        yield* map(k, 0, 8, 8);
        yield* pin(k, [1]);
        yield* unpin(k, [1]);
      });
      assert.deepEqual(got, [0, id === 'H2' ? -EINVAL : 1, 1]);
      assert.equal(w.lockedVm, 0n);
      assert.deepEqual(w.verdict(), []);
    });

    it(`${id}: after the mapping thread has ended (its leader lives), and after the owner has gone`, () => {
      const w = mdevOnly(id, { tasks: ['main', 'thread'] });
      w.actor(1, function* (k) {
        yield* map(k, 0, 0, 8);
        yield* doExit(k);
      });
      w.runInOrder();
      const k = w.actor(0, function* (a) {
        yield* pin(a, [1]);
      });
      w.runInOrder();
      const byThread = ['B', 'C', 'D', '4.10.17', 'E', '4.14.115'].includes(id);
      assert.deepEqual(k.results, [byThread ? -ENODEV : 1]);

      const gone = mdevOnly(id, { tasks: ['main', 'child'] });
      gone.actor(0, function* (a) {
        yield* map(a, 0, 0, 8);
        yield* doExit(a);
      });
      gone.runInOrder();
      const child = gone.actor(1, function* (a) {
        yield* pin(a, [1]);
      });
      gone.runInOrder();
      assert.deepEqual(child.results, [-ENODEV]);
      assert.deepEqual(gone.verdict(), []);
    });

    it(`${id}: random schedules of a driver beside unmaps keep the balance`, () => {
      for (let seed = 0; seed < 60; seed += 1) {
        const w = mdevOnly(id, { limitPages: null, tasks: ['main', 'kthread', 'thread'] });
        w.actor(0, function* (k) {
          for (let i = 0; i < 3; i += 1) {
            yield* map(k, 0, 0, 8);
            yield* unmap(k, 0, 8);
          }
          yield* map(k, 0, 0, 8);
        });
        for (const i of [1, 2]) {
          w.actor(i, function* (k) {
            yield* pin(k, [i, i + 1]);
            yield* pin(k, [4]);
            yield* unpin(k, [i, 4]);
          });
        }
        w.runRandom(seed);
        // Deferred additions beside immediate subtractions take locked_vm below zero for a moment.
        const allowed = resolveVariant(id).deferring ? ['wrap'] : [];
        assert.deepEqual(
          w.verdict().filter((v) => !allowed.includes(v)),
          [],
          `seed ${seed}`,
        );
      }
    });
  }

  it('errors in their order', () => {
    const w = mdevOnly('H', { v2: false });
    const many = Array.from({ length: 513 }, (_, i) => i);
    const got = alone(w, function* (k) {
      const group = groupOf(k, MDEV_GROUP);
      const say = function* (path: Path<number>): Path<void> {
        k.results.push(yield* path);
      };
      yield* say(vfioPinPages(k, 0, [], 3));
      yield* say(vfioPinPages(k, 0, many, 3));
      yield* say(vfioPinPages(k, 0, [1], 3));
      yield* say(vfioPinPages(k, group, [1], 3));
      w.arena.set(group, GROUP.container, 0);
      yield* say(vfioPinPages(k, group, [1], 3));
    });
    assert.deepEqual(got, [-EINVAL, -E2BIG, -ENODEV, -EACCES, -EINVAL]);
  });

  it('without a backend that can (4.9), without an external group, without a registered driver', () => {
    const old = new World('A', { mdev: 'only', v2: true });
    assert.deepEqual(
      alone(old, (k) => discard(pin(k, [1]))),
      [-ENOTTY],
    );
    for (const spoil of [CONTAINER.externalGroups, CONTAINER.notifier]) {
      const w = mdevOnly('E');
      w.arena.i32[(w.containers()[0] as number) + spoil] = 0;
      assert.deepEqual(
        alone(w, (k) => discard(pin(k, [1]))),
        [-EINVAL],
      );
    }
    const silent = mdevOnly('E');
    silent.arena.set(silent.containers()[0] as number, CONTAINER.notifier, MdevDriver.Unregistered);
    assert.deepEqual(
      alone(silent, (k) => discard(pin(k, [1]))),
      [-EINVAL],
    );
  });

  it('a device that wants to write where only reading was mapped is EPERM', () => {
    const w = mdevOnly('G');
    const got = alone(w, function* (k) {
      yield* vfioDmaDoMap(k, containerOf(k, 0), {
        argsz: MAP_ARGSZ,
        flags: MAP_FLAG_READ,
        vaddr: BigInt(BUFFER_PAGE) * 4096n,
        iova: 0n,
        size: 8n * 4096n,
      });
      yield* pin(k, [1], MAP_FLAG_READ);
      yield* pin(k, [2], MAP_FLAG_READ | MAP_FLAG_WRITE);
      // The page is pinned already, but not for writing.
      yield* pin(k, [1], MAP_FLAG_WRITE);
    });
    assert.deepEqual(got, [1, -EPERM, -EPERM]);
  });

  it('a page beyond 2^64 is EOVERFLOW from 6.18 on', () => {
    const at = (id: string) => alone(mdevOnly(id), (k) => discard(pin(k, [2 ** 52 - 1])));
    assert.deepEqual([at('H'), at('H2')], [[-EINVAL], [-EOVERFLOW]]);
  });

  it('an invalid vaddr: G waits for it, H is told to try again', () => {
    const program = (id: string) => {
      const w = mdevOnly(id, { tasks: ['main', 'thread'] });
      const setVaddr = (flags: number) => ({ argsz: MAP_ARGSZ, flags, vaddr: BigInt(BUFFER_PAGE) * 4096n, iova: 0n });
      w.actor(0, function* (k) {
        yield* map(k, 0, 0, 8);
      });
      w.runInOrder();
      // Where the group is there already only G lets a vaddr be invalidated; H is asked with the state given.
      const inv = w.stepper.add('invalidate', w.guest.actors[0]?.task as number, function* (k) {
        const args = { argsz: UNMAP_ARGSZ, flags: UNMAP_FLAG_VADDR, iova: 0n, size: 8n * 4096n, unmapped: 0n };
        k.results.push(yield* vfioDmaDoUnmap(k, containerOf(k, 0), args));
      });
      w.runInOrder();
      if (id === 'H') {
        assert.deepEqual(inv.results, [-EBUSY]);
        w.arena.set(w.containers()[0] as number, CONTAINER.vaddrInvalid, 1);
        w.arena.set(mapping(w), DMA.vaddrInvalid, 1);
      }
      const pinner = w.actor(1, function* (k) {
        yield* pin(k, [1]);
      });
      while (!pinner.done && !pinner.blocked) w.stepper.step(pinner);
      const waited = pinner.blocked;
      w.stepper.add('update', w.guest.actors[0]?.task as number, function* (k) {
        k.results.push(yield* vfioDmaDoMap(k, containerOf(k, 0), { ...setVaddr(MAP_FLAG_VADDR), size: 8n * 4096n }));
      });
      w.runInOrder();
      return { waited, pinned: pinner.results };
    };
    assert.deepEqual(program('G'), { waited: true, pinned: [1] });
    assert.deepEqual(program('H'), { waited: false, pinned: [-EBUSY] });
  });

  it('after exec: up to 6.2 the new address space is pinned and charged, from 6.3 on the old one is known to be gone', () => {
    const outcome = (id: string) => {
      const w = mdevOnly(id);
      const k = w.actor(0, function* (a) {
        yield* map(a, 0, 0, 8);
        yield* exec(a);
        const mm = w.arena.get(a.current, TASK.mm);
        w.stepper.addressSpace.mmap(mm, BUFFER_PAGE, 8, { backing: Backing.Anon4k, prot: PROT_RW });
        yield* pin(a, [1]);
      });
      w.runInOrder();
      return k.results.at(-1);
    };
    assert.deepEqual(['D', 'E2', 'G', '6.1', 'H'].map(outcome), [1, 1, 1, -ENODEV, -ENODEV]);
  });

  it('a fast page in the owner, a locked one for others; from 4.16 on always locked', () => {
    const reads = (id: string, actor: number) => {
      const w = mdevOnly(id, { tasks: ['main', 'kthread'] });
      w.actor(0, (k) => discard(map(k, 0, 0, 8)));
      w.runInOrder();
      const before = w.stepper.counters[C.mmap_read_acquisitions] as number;
      if (actor === 0) w.stepper.add('owner', w.guest.actors[0]?.task as number, (k) => discard(pin(k, [1])));
      else w.actor(1, (k) => discard(pin(k, [1])));
      w.runInOrder();
      return (w.stepper.counters[C.mmap_read_acquisitions] as number) - before;
    };
    for (const id of withMdev) {
      const fast = ['B', 'D', '4.10.17', 'E', '4.14.115'].includes(id);
      assert.equal(reads(id, 0), fast ? 0 : 1, `${id} owner`);
      assert.equal(reads(id, 1), 1, `${id} kernel thread`);
    }
  });
});

function* discard(path: Path<number>): Path<void> {
  yield* path;
}
