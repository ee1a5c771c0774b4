/** Locks taken by each path, against what was traced on real kernels, and the life of processes and address spaces. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EFAULT, EINVAL, ENOMEM, EPERM } from '../../src/base/errno.ts';
import { PAGE_BYTES } from '../../src/base/units.ts';
import { Direct } from '../../src/engine/direct.ts';
import { BUFFER_PAGE } from '../../src/engine/machine.ts';
import { Backing, PROT_NONE, PROT_RW } from '../../src/model/address-space/memory.ts';
import { Arena, capacityFor, type Ref } from '../../src/model/arena.ts';
import type { Ctx, Path } from '../../src/model/env.ts';
import { resolveVariant } from '../../src/model/kernels/index.ts';
import { PROCESS, TASK } from '../../src/model/layout.ts';
import { lockedVm } from '../../src/model/locked-vm.ts';
import { mmNew, taskMm } from '../../src/model/mm.ts';
import { doExit } from '../../src/model/paths/exit.ts';
import { touch } from '../../src/model/paths/fault.ts';
import {
  closeContainer,
  closeGroup,
  containerOf,
  filesNew,
  filesOf,
  openContainer,
} from '../../src/model/paths/files.ts';
import { madviseDontneed, madvisePopulate } from '../../src/model/paths/madvise.ts';
import { vfioDmaDoMap } from '../../src/model/paths/map.ts';
import { sysMlock, sysMunlock } from '../../src/model/paths/mlock.ts';
import { sysMmap, sysMprotect, sysMunmap } from '../../src/model/paths/mmap.ts';
import { cloneThread, exec, fork, processNew } from '../../src/model/paths/process.ts';
import { vfioDmaDoUnmap } from '../../src/model/paths/unmap.ts';

const IOVA = 2 ** 20;

class Machine {
  readonly arena = Arena.create(
    { ...capacityFor({ guests: 1, actorsPerGuest: 8, processesPerGuest: 8, mappingsPerGuest: 64 }), chunk: 4096 },
    false,
  );
  readonly direct: Direct;
  readonly k: Ctx;

  constructor(variant: string, memlockBytes = 2n ** 64n - 1n) {
    const a = this.arena;
    this.direct = new Direct(a, resolveVariant(variant));
    const files = filesNew(a);
    openContainer(a, files, { index: 0, v2: true, dmaEntryLimit: 65_535 });
    this.k = this.direct.as(processNew(a, { mm: mmNew(a, 0), files, memlockBytes, capIpcLock: false }));
  }

  run<T>(path: Path<T>): T {
    return this.direct.run(path);
  }

  /** Write and read acquisitions of mmap_sem by one call. */
  locks(path: Path<number>): [write: number, read: number] {
    const c = this.direct.counters;
    const before = [c.mmap_write_acquisitions, c.mmap_read_acquisitions] as const;
    assert.equal(this.run(path), 0);
    return [c.mmap_write_acquisitions - before[0], c.mmap_read_acquisitions - before[1]];
  }

  buffer(pages: number, backing: Backing, runPages: number): void {
    this.run(sysMmap(this.k, BUFFER_PAGE, pages, { backing, prot: PROT_RW, runPages }));
    this.run(madvisePopulate(this.k, BUFFER_PAGE, pages, true));
  }

  map(pages: number, k = this.k, iova = IOVA, flags = 3): Path<number> {
    return vfioDmaDoMap(k, containerOf(k, 0), {
      argsz: 32,
      flags,
      vaddr: BigInt(BUFFER_PAGE * PAGE_BYTES),
      iova: BigInt(iova),
      size: BigInt(pages * PAGE_BYTES),
    });
  }

  unmap(pages: number, k = this.k): Path<number> {
    return vfioDmaDoUnmap(k, containerOf(k, 0), {
      argsz: 24,
      flags: 0,
      iova: BigInt(IOVA),
      size: BigInt(pages * PAGE_BYTES),
      unmapped: 0n,
    });
  }

  vmlck(k = this.k): bigint {
    return lockedVm(this.arena, taskMm(this.arena, k.current));
  }

  exit(k: Ctx): void {
    this.run(doExit(k));
  }

  as(task: Ref): Ctx {
    return this.direct.as(task);
  }
}

const MIB = 256;

test('MAP takes the lock for write once per contiguous run, for read once per 512 pages; UNMAP for write once', () => {
  // backing, contiguous pages, then write acquisitions for 4 KiB, 64 KiB, 2 MiB and 8 MiB, as traced.
  const rows = [
    [Backing.Anon4k, 1, [1, 16, 512, 2048]],
    [Backing.Thp, 2048, [1, 1, 1, 1]],
    [Backing.Hugetlb2m, 512, [1, 1, 1, 4]],
    [Backing.Hugetlb2m, 2048, [1, 1, 1, 1]],
  ] as const;
  for (const variant of ['6.1', '6.12']) {
    for (const [backing, runPages, writes] of rows) {
      for (const [i, pages] of [1, 16, 2 * MIB, 8 * MIB].entries()) {
        const m = new Machine(variant);
        m.buffer(8 * MIB, backing, runPages);
        assert.deepEqual(m.locks(m.map(pages)), [writes[i], Math.ceil(pages / 512)]);
        assert.equal(m.vmlck(), BigInt(pages));
        assert.deepEqual(m.locks(m.unmap(pages)), [1, 0]);
        assert.equal(m.vmlck(), 0n);
      }
    }
  }
});

test('a MAP that fails at the limit leaves the pages of its batch populated: 6.1 counts them in a later read-only MAP', () => {
  for (const [variant, counted] of [
    ['6.1', 512n],
    ['6.12', 1024n],
  ] as const) {
    const m = new Machine(variant, BigInt(4 * PAGE_BYTES));
    const process = m.arena.get(m.k.current, TASK.process);
    m.run(sysMmap(m.k, BUFFER_PAGE, 1024, { backing: Backing.Anon4k, prot: PROT_RW }));
    assert.equal(m.run(m.map(1024)), -ENOMEM);
    assert.equal(m.vmlck(), 0n);
    m.arena.setU64(process, PROCESS.memlockBytes, 2n ** 64n - 1n);
    assert.equal(m.run(m.map(1024, m.k, IOVA, 1)), 0);
    assert.equal(m.vmlck(), counted);
  }
});

test('which way the memory system calls take mmap_sem', () => {
  const at = BigInt(BUFFER_PAGE * PAGE_BYTES);
  const bytes = BigInt(64 * PAGE_BYTES);
  for (const [variant, faultReads] of [
    ['4.12', 64],
    ['6.1', 64],
    ['6.12', 0],
  ] as const) {
    const m = new Machine(variant);
    const { k } = m;
    assert.deepEqual(m.locks(sysMmap(k, BUFFER_PAGE, 64, { backing: Backing.Anon4k, prot: PROT_RW })), [1, 0]);
    assert.deepEqual(m.locks(touch(k, BUFFER_PAGE, 64, true)), [0, faultReads]);
    assert.deepEqual(m.locks(touch(k, BUFFER_PAGE, 64, true)), [0, 0]);
    assert.deepEqual(m.locks(sysMlock(k, at, bytes, false)), [1, 1]);
    assert.deepEqual(m.locks(sysMunlock(k, at, bytes)), [1, 0]);
    assert.deepEqual(m.locks(sysMprotect(k, BUFFER_PAGE, 1, PROT_NONE)), [1, 0]);
    assert.deepEqual(m.locks(madviseDontneed(k, BUFFER_PAGE, 64)), [0, 1]);
    assert.deepEqual(m.locks(madvisePopulate(k, BUFFER_PAGE + 1, 63, true)), [0, 1]);
    assert.deepEqual(m.locks(sysMunmap(k, BUFFER_PAGE, 64)), [1, 0]);
    assert.equal(m.run(touch(k, BUFFER_PAGE, 1, false)), -EFAULT);
  }
});

test('mlock and DMA share the counter and the limit; munmap gives back the share of mlock only', () => {
  const m = new Machine('H', BigInt(16 * PAGE_BYTES));
  const at = BigInt(BUFFER_PAGE * PAGE_BYTES);
  m.buffer(32, Backing.Anon4k, 1);
  assert.equal(m.run(sysMlock(m.k, at, BigInt(8 * PAGE_BYTES), false)), 0);
  assert.equal(m.run(m.map(8)), 0);
  assert.equal(m.run(m.map(1, m.k, 2 * IOVA)), -ENOMEM);
  // Locked already: no further charge. One page more, mapped for DMA or not: over the limit.
  assert.equal(m.run(sysMlock(m.k, at, BigInt(8 * PAGE_BYTES), false)), 0);
  assert.equal(m.run(sysMlock(m.k, at, BigInt(9 * PAGE_BYTES), false)), -ENOMEM);
  assert.equal(m.vmlck(), 16n);
  assert.equal(m.run(sysMunmap(m.k, BUFFER_PAGE, 32)), 0);
  assert.equal(m.vmlck(), 8n);
  assert.equal(m.run(m.unmap(8)), 0);
  assert.equal(m.vmlck(), 0n);
});

test('mlock: EPERM at a limit of 0, ENOMEM at a limit below a page, EINVAL where the range wraps', () => {
  for (const [limit, error] of [
    [0n, -EPERM],
    [4095n, -ENOMEM],
    [4096n, 0],
  ] as const) {
    const m = new Machine('H', limit);
    m.buffer(1, Backing.Anon4k, 1);
    assert.equal(m.run(sysMlock(m.k, BigInt(BUFFER_PAGE * PAGE_BYTES), 4096n, false)), error);
  }
  const m = new Machine('H');
  assert.equal(m.run(sysMlock(m.k, 2n ** 64n - 8192n, 8192n, false)), -EINVAL);
});

test('an unmap up to 2^64 finds nothing, but still may not cut a mapping; from 6.19 on it works', () => {
  const unmap = (m: Machine, iova: number): number =>
    m.run(
      vfioDmaDoUnmap(m.k, containerOf(m.k, 0), {
        argsz: 24,
        flags: 0,
        iova: BigInt(iova),
        size: 2n ** 64n - BigInt(iova),
        unmapped: 0n,
      }),
    );
  for (const [variant, left] of [
    ['H', 4n],
    ['H2', 0n],
  ] as const) {
    const m = new Machine(variant);
    m.buffer(4, Backing.Anon4k, 1);
    assert.equal(m.run(m.map(4)), 0);
    assert.equal(unmap(m, IOVA + PAGE_BYTES), -EINVAL);
    assert.equal(unmap(m, IOVA), 0);
    assert.equal(m.vmlck(), left);
  }
});

test('fork: own counter and limit, the same container; the last close credits the owner', () => {
  const m = new Machine('H', BigInt(8 * PAGE_BYTES));
  const a = m.arena;
  m.buffer(8, Backing.Anon4k, 1);
  assert.equal(m.run(m.map(8)), 0);
  const child = m.as(m.run(fork(m.k, false)));
  assert.equal(m.vmlck(child), 0n);
  assert.equal(m.run(m.map(8, child, 2 * IOVA)), 0);
  a.setU64(a.get(child.current, TASK.process), PROCESS.memlockBytes, 0n);
  assert.equal(m.run(m.map(1, m.k, 3 * IOVA)), -ENOMEM);
  for (const k of [m.k, child]) {
    m.run(closeContainer(k, filesOf(a, k.current), 0));
    assert.deepEqual([m.vmlck(), m.vmlck(child)], [8n, 8n]);
  }
  m.run(closeGroup(m.k, filesOf(a, m.k.current), 0));
  assert.deepEqual([m.vmlck(), m.vmlck(child)], [8n, 8n]);
  m.run(closeGroup(child, filesOf(a, child.current), 0));
  assert.deepEqual([m.vmlck(), m.vmlck(child)], [0n, 0n]);
  assert.equal(a.live('container'), 0);
});

test('exec: a new address space with nothing locked, the same descriptors; the old one lives on in a CLONE_VM child', () => {
  const m = new Machine('H');
  m.buffer(8, Backing.Anon4k, 1);
  assert.equal(m.run(m.map(8)), 0);
  const sibling = m.as(m.run(fork(m.k, true)));
  assert.equal(m.run(exec(m.k)), 0);
  assert.deepEqual([m.vmlck(), m.vmlck(sibling)], [0n, 8n]);
  assert.equal(m.run(m.unmap(8)), 0);
  assert.deepEqual([m.vmlck(), m.vmlck(sibling)], [0n, 0n]);
});

test('threads share everything but the capability; when all have ended nothing is left', () => {
  const m = new Machine('H', BigInt(8 * PAGE_BYTES));
  const a = m.arena;
  m.buffer(16, Backing.Anon4k, 1);
  const thread = m.as(cloneThread(a, m.k.current));
  a.set(thread.current, TASK.capIpcLock, 1);
  assert.equal(m.run(m.map(9)), -ENOMEM);
  assert.equal(m.run(m.map(9, thread)), 0);
  assert.equal(m.vmlck(), 9n);
  // The leader goes first; the process, its descriptors and its memory stay.
  m.exit(m.k);
  assert.equal(m.vmlck(thread), 9n);
  assert.equal(m.run(m.unmap(9, thread)), 0);
  assert.equal(m.run(m.map(4, thread)), 0);
  m.exit(thread);
  for (const kind of ['mm', 'task', 'process', 'files', 'container', 'group', 'dma', 'chunk', 'seg'] as const) {
    assert.equal(a.live(kind), 0, kind);
  }
});

test('a thread other than the leader execs: it becomes the process', () => {
  const m = new Machine('H');
  const a = m.arena;
  const thread = m.as(cloneThread(a, m.k.current));
  m.exit(m.k);
  assert.equal(m.run(exec(thread)), 0);
  m.run(sysMmap(thread, BUFFER_PAGE, 4, { backing: Backing.Anon4k, prot: PROT_RW }));
  assert.equal(m.run(m.map(4, thread)), 0);
  m.exit(thread);
  assert.deepEqual([a.live('task'), a.live('process'), a.live('mm'), a.live('dma')], [0, 0, 0, 0]);
});
