import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EFAULT, EINVAL, ENOMEM } from '../../src/base/errno.ts';
import {
  AddressSpace,
  LOOKUP_EFAULT,
  LOOKUP_FAULT,
  LOOKUP_OK,
  LOOKUP_PFNMAP,
} from '../../src/model/address-space/address-space.ts';
import { type BatchRun, FaultCost, GupEntry } from '../../src/model/address-space/gup-runs.ts';
import { Backing, Locked, PROT_NONE, PROT_READ, PROT_RW, Residency } from '../../src/model/address-space/memory.ts';
import { Arena, capacityFor } from '../../src/model/arena.ts';
import { GUP_5_19, GUP_6_18, GUP_6_4, type GupRules } from '../../src/model/gup-rules.ts';

const AT = 2 ** 28;

function setup(rules: GupRules = GUP_5_19) {
  const arena = Arena.create(
    capacityFor({ guests: 1, actorsPerGuest: 1, mappingsPerGuest: 1, segmentsPerGuest: 20_000 }),
    false,
  );
  const space = new AddressSpace(arena, rules);
  return { arena, space, mm: arena.alloc('mm'), cost: new FaultCost() };
}
const run = () => ({ pages: 0, reserved: false, blockEnd: 0 });

/** Pages of a read-only or writable pin of [AT + from, +pages) in batches of 512, as "got counted" or the errno. */
function pin(space: AddressSpace, mm: number, from: number, pages: number, write: boolean) {
  const runs: BatchRun[] = [];
  let counted = 0;
  let blocks = 0;
  for (let at = 0; at < pages;) {
    const got = space.gupBatch(mm, AT + from + at, Math.min(512, pages - at), write, runs, new FaultCost());
    if (got < 0) return { error: got, counted, blocks };
    for (const r of runs) {
      if (!r.reserved) counted += r.pages * r.times;
      if (!r.contiguous || (at === 0 && r === runs[0])) blocks += r.times;
    }
    at += got;
  }
  return { error: 0, counted, blocks };
}

test('a populated terabyte is one segment', () => {
  const { arena, space, mm, cost } = setup();
  for (const backing of [Backing.Anon4k, Backing.Thp, Backing.Hugetlb2m, Backing.Hugetlb1g, Backing.Memfd]) {
    space.mmap(mm, AT, 2 ** 28, { backing, prot: PROT_RW });
    assert.equal(space.populate(mm, AT, 2 ** 28, true, cost), 0);
    assert.equal(space.segments(mm).length, 1);
    assert.equal(arena.live('seg'), 1);
    assert.equal(cost.zeroed4k + cost.zeroed2m * 512 + cost.zeroed1g * 262_144, 2 ** 28);
  }
  assert.equal(space.destroy(mm), 1);
  assert.equal(arena.live('seg'), 0);
});

test('untouched private memory read by a pin: the zero page up to 6.1, a page of its own later', () => {
  for (const [rules, counted] of [
    [GUP_5_19, 0],
    [GUP_6_4, 64],
  ] as const) {
    const { space, mm } = setup(rules);
    space.mmap(mm, AT, 64, { backing: Backing.Anon4k, prot: PROT_RW });
    assert.deepEqual(pin(space, mm, 0, 64, false), { error: 0, counted, blocks: 64 });
    assert.equal(pin(space, mm, 0, 64, true).counted, 64);
    assert.equal(pin(space, mm, 0, 64, false).counted, 64);
  }
});

test('the huge zero page is counted; writing to it splits it into zero pages that are not', () => {
  const { space, mm } = setup();
  space.mmap(mm, AT, 1024, { backing: Backing.Thp, prot: PROT_RW });
  assert.deepEqual(pin(space, mm, 0, 1024, false), { error: 0, counted: 1024, blocks: 2 });
  assert.equal(pin(space, mm, 10, 1, true).counted, 1);
  assert.equal(pin(space, mm, 0, 1024, false).counted, 512 + 1);
});

test('a read pin of untouched huge memory ends in 4 KiB pages from 6.2 on', () => {
  const { space, mm } = setup(GUP_6_4);
  space.mmap(mm, AT, 512, { backing: Backing.Thp, prot: PROT_RW });
  assert.deepEqual(pin(space, mm, 0, 512, false), { error: 0, counted: 512, blocks: 512 });
});

test('memory is mapped huge only where the granule lies in one area and has no page table', () => {
  const { space, mm, cost } = setup();
  space.mmap(mm, AT, 1536, { backing: Backing.Thp, prot: PROT_RW });
  space.munmap(mm, AT + 520, 1);
  assert.equal(space.populate(mm, AT, 520, true, cost), 0);
  assert.deepEqual([cost.zeroed2m, cost.zeroed4k], [1, 8]);
  assert.equal(space.populate(mm, AT + 521, 1015, true, cost), 0);
  assert.deepEqual([cost.zeroed2m, cost.zeroed4k], [1, 503]);
  // The hole is filled again: the page table of the granule is still there, so nothing huge comes of it.
  space.mmap(mm, AT + 520, 1, { backing: Backing.Thp, prot: PROT_RW });
  assert.equal(space.dontneed(mm, AT + 512, 512), 0);
  assert.equal(pin(space, mm, 512, 512, false).counted, 0);
  // Unmapped as a whole, the page table goes too.
  space.mmap(mm, AT + 512, 512, { backing: Backing.Thp, prot: PROT_RW });
  assert.equal(pin(space, mm, 512, 512, false).counted, 512);
});

test('MADV_DONTNEED of a whole huge page lets it be huge again, of a part does not', () => {
  const { space, mm, cost } = setup();
  space.mmap(mm, AT, 1024, { backing: Backing.Thp, prot: PROT_RW });
  space.populate(mm, AT, 1024, true, cost);
  space.dontneed(mm, AT, 512);
  space.dontneed(mm, AT + 512, 16);
  space.dontneed(mm, AT + 528, 496);
  assert.equal(space.populate(mm, AT, 1024, true, cost), 0);
  assert.deepEqual([cost.zeroed2m, cost.zeroed4k], [1, 512]);
});

test('a batch populates up to the first inaccessible page and stops there', () => {
  const { space, mm } = setup();
  const runs: BatchRun[] = [];
  space.mmap(mm, AT, 600, { backing: Backing.Anon4k, prot: PROT_RW });
  space.munmap(mm, AT + 300, 1);
  space.mprotect(mm, AT + 310, 1, PROT_NONE, new FaultCost());
  assert.equal(space.gupBatch(mm, AT, 512, true, runs, new FaultCost()), 300);
  assert.equal(space.gupBatch(mm, AT + 300, 212, true, runs, new FaultCost()), -EFAULT);
  assert.equal(space.gupBatch(mm, AT + 301, 211, true, runs, new FaultCost()), 9);
  assert.equal(space.gupBatch(mm, AT + 310, 1, false, runs, new FaultCost()), -EFAULT);
  assert.deepEqual(
    space.segments(mm).map((s) => [s.startPage - AT, s.endPage - AT, s.residency]),
    [
      [0, 300, Residency.Present],
      [301, 310, Residency.Present],
      [310, 311, Residency.None],
      [311, 600, Residency.None],
    ],
  );
});

test('write access to read-only memory is refused, read access needs the read permission', () => {
  const { space, mm, cost } = setup();
  space.mmap(mm, AT, 8, { backing: Backing.Anon, prot: PROT_READ });
  assert.equal(space.lookup(mm, AT, 1, true, run()), LOOKUP_EFAULT);
  assert.equal(space.lookup(mm, AT, 1, false, run()), LOOKUP_FAULT);
  assert.equal(space.gupFault(mm, AT, true, cost), -EFAULT);
  space.mprotect(mm, AT, 8, 2, cost);
  assert.equal(space.lookup(mm, AT, 1, false, run()), LOOKUP_EFAULT);
  assert.equal(space.gupFault(mm, AT, true, cost), 0);
  assert.equal(space.lookup(mm, AT, 1, true, run()), LOOKUP_OK);
});

test('contiguity: blocks by virtual page, by file page when shared, and across the batches', () => {
  const { space, mm, cost } = setup();
  const r = run();
  const runs: BatchRun[] = [];
  space.mmap(mm, AT, 64, { backing: Backing.Anon4k, prot: PROT_RW, runPages: 16 });
  space.mmap(mm, AT + 64, 64, { backing: Backing.Memfd, prot: PROT_RW, runPages: 16, sourcePage: 5 });
  space.populate(mm, AT, 128, true, cost);
  assert.equal(space.lookup(mm, AT + 3, 64, true, r), LOOKUP_OK);
  assert.deepEqual(r, { pages: 13, reserved: false, blockEnd: AT + 16 });
  space.lookup(mm, AT + 64, 64, true, r);
  assert.deepEqual(r, { pages: 11, reserved: false, blockEnd: AT + 75 });
  space.gupBatch(mm, AT + 3, 20, true, runs, cost);
  assert.deepEqual(runs, [
    { pages: 13, times: 1, entry: GupEntry.Page, reserved: false, contiguous: true },
    { pages: 7, times: 1, entry: GupEntry.Page, reserved: false, contiguous: false },
  ]);
  // VM_LOCKED makes another area of it, not another page.
  space.setLocked(mm, AT + 4, 1, Locked.Yes);
  assert.equal(pin(space, mm, 0, 16, true).blocks, 1);
});

test('device memory: never by GUP, always reserved; page by page before 6.18', () => {
  for (const [rules, got] of [
    [GUP_6_4, 1],
    [GUP_6_18, 8],
  ] as const) {
    const { space, mm, cost } = setup(rules);
    const runs: BatchRun[] = [];
    space.mmap(mm, AT, 4, { backing: Backing.Anon4k, prot: PROT_RW });
    space.mmap(mm, AT + 4, 8, { backing: Backing.Bar, prot: PROT_RW });
    assert.equal(space.gupBatch(mm, AT, 12, true, runs, cost), 4);
    assert.equal(space.gupBatch(mm, AT + 4, 8, true, runs, cost), got);
    assert.deepEqual(runs, [{ pages: got, times: 1, entry: GupEntry.Page, reserved: true, contiguous: false }]);
    assert.equal(space.lookup(mm, AT + 4, 8, true, run()), LOOKUP_PFNMAP);
    assert.deepEqual(space.setLocked(mm, AT + 4, 8, Locked.Yes), { error: 0, lockedDeltaPages: 0 });
  }
});

test('mlock: counted up to the first hole, once, and not at all for hugetlb', () => {
  const { space, mm } = setup();
  space.mmap(mm, AT, 512, { backing: Backing.Anon4k, prot: PROT_RW });
  space.mmap(mm, AT + 512, 512, { backing: Backing.Hugetlb2m, prot: PROT_RW });
  space.munmap(mm, AT + 4, 1);
  assert.deepEqual(space.setLocked(mm, AT, 8, Locked.Yes), { error: -ENOMEM, lockedDeltaPages: 4 });
  assert.deepEqual(space.setLocked(mm, AT + 2, 2, Locked.OnFault), { error: 0, lockedDeltaPages: 0 });
  assert.deepEqual(space.setLocked(mm, AT + 510, 514, Locked.Yes), { error: 0, lockedDeltaPages: 2 });
  assert.equal(space.lockedPages(mm, AT + 1, 1023), 5);
  assert.equal(space.munmap(mm, AT, 3), 3);
  assert.deepEqual(space.setLocked(mm, AT + 3, 1, Locked.No), { error: 0, lockedDeltaPages: -1 });
  assert.equal(space.lockedPages(mm, AT, 1024), 2);
});

test('populating for mlock stops at memory without access and passes over holes', () => {
  const { space, mm, cost } = setup();
  space.mmap(mm, AT, 2, { backing: Backing.Anon4k, prot: PROT_RW });
  space.mmap(mm, AT + 4, 2, { backing: Backing.Anon, prot: PROT_READ });
  space.mmap(mm, AT + 6, 2, { backing: Backing.Anon, prot: PROT_NONE });
  space.mmap(mm, AT + 8, 2, { backing: Backing.Anon4k, prot: PROT_RW });
  assert.equal(space.populateLocked(mm, AT, 10, cost), -ENOMEM);
  assert.deepEqual(
    space.segments(mm).map((s) => s.residency & 3),
    [Residency.Present, Residency.Zero, Residency.None, Residency.None],
  );
});

test('errors of madvise, munmap and mprotect', () => {
  const { space, mm, cost } = setup();
  space.mmap(mm, AT, 512, { backing: Backing.Hugetlb2m, prot: PROT_RW });
  space.mmap(mm, AT + 512, 8, { backing: Backing.Anon4k, prot: PROT_RW });
  space.mmap(mm, AT + 524, 4, { backing: Backing.Anon, prot: PROT_NONE });
  assert.equal(space.munmap(mm, AT + 1, 2), -EINVAL);
  assert.equal(space.mmap(mm, AT + 1, 2, { backing: Backing.Anon4k, prot: PROT_RW }), -ENOMEM);
  assert.equal(space.mmap(mm, AT + 514, 512, { backing: Backing.Hugetlb2m, prot: PROT_RW }), -EINVAL);
  const late = new AddressSpace(space.arena, GUP_6_4);
  assert.equal(late.mmap(mm, AT + 1, 2, { backing: Backing.Anon4k, prot: PROT_RW }), -EINVAL);
  assert.equal(space.mprotect(mm, AT, 1, PROT_READ, cost), -EINVAL);
  assert.equal(space.dontneed(mm, AT + 1, 4), -EINVAL);
  assert.equal(space.dontneed(mm, AT + 512, 12), -ENOMEM);
  assert.equal(space.populate(mm, AT + 512, 12, true, cost), -ENOMEM);
  assert.equal(space.populate(mm, AT + 524, 4, false, cost), -EINVAL);
  assert.equal(space.mprotect(mm, AT + 512, 12, PROT_READ, cost), -ENOMEM);
  assert.equal(space.lookup(mm, AT + 519, 1, true, run()), LOOKUP_EFAULT);
  space.setLocked(mm, AT + 513, 1, Locked.Yes);
  assert.equal(space.dontneed(mm, AT + 512, 8), -EINVAL);
  assert.equal(space.lookup(mm, AT + 512, 1, false, run()), LOOKUP_FAULT);
});

test('fork: private pages become shared until written, nothing is locked in the child', () => {
  const { arena, space, mm, cost } = setup();
  const child = arena.alloc('mm');
  space.mmap(mm, AT, 4, { backing: Backing.Anon4k, prot: PROT_RW });
  space.mmap(mm, AT + 4, 4, { backing: Backing.Memfd, prot: PROT_RW });
  space.mmap(mm, AT + 8, 4, { backing: Backing.Anon, prot: PROT_READ });
  space.populate(mm, AT, 12, false, cost);
  space.populate(mm, AT, 4, true, cost);
  space.setLocked(mm, AT, 4, Locked.Yes);
  assert.deepEqual(space.fork(mm, child), { tablePages: 4, copiedPages: 0 });
  assert.equal(space.lockedPages(child, AT, 12), 0);
  assert.deepEqual(
    space.segments(child).map((s) => s.residency & 3),
    [Residency.Cow, Residency.None, Residency.None],
  );
  for (const side of [mm, child]) {
    assert.equal(space.lookup(side, AT, 4, true, run()), LOOKUP_FAULT);
    assert.equal(space.gupFault(side, AT, true, cost), 0);
    assert.equal(cost.zeroed4k, 1);
    assert.equal(space.lookup(side, AT, 4, true, run()), LOOKUP_OK);
  }
});

test('random operations agree with a model that keeps every page apart', () => {
  const PAGES = 2048;
  const page = fc.integer({ min: 0, max: PAGES - 1 });
  const op = fc.record({
    kind: fc.constantFrom(
      'map4k',
      'mapthp',
      'memfd',
      'unmap',
      'lock',
      'unlock',
      'dontneed',
      'write',
      'read',
      'protect',
    ),
    from: page,
    pages: fc.integer({ min: 1, max: 700 }),
    prot: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(op, { maxLength: 30 }), (ops) => {
      const { arena, space, mm, cost } = setup();
      const flat = Array.from({ length: PAGES }, () => ({ mapped: false, prot: 0, locked: false, has: false }));
      for (const o of ops) {
        const to = Math.min(PAGES, o.from + o.pages);
        const n = to - o.from;
        const range = flat.slice(o.from, to);
        const hole = range.findIndex((p) => !p.mapped);
        const before = hole < 0 ? range : range.slice(0, hole);
        switch (o.kind) {
          case 'map4k':
          case 'mapthp':
          case 'memfd': {
            const backing = { map4k: Backing.Anon4k, mapthp: Backing.Thp, memfd: Backing.Memfd }[o.kind];
            const released = space.mmap(mm, AT + o.from, n, { backing, prot: o.prot, sourcePage: o.from });
            assert.equal(released, range.filter((p) => p.locked).length);
            for (const p of range) Object.assign(p, { mapped: true, prot: o.prot, locked: false, has: false });
            break;
          }
          case 'unmap':
            assert.equal(space.munmap(mm, AT + o.from, n), range.filter((p) => p.locked).length);
            for (const p of range) Object.assign(p, { mapped: false, locked: false, has: false });
            break;
          case 'lock':
          case 'unlock': {
            const locked = o.kind === 'lock';
            const delta = before.filter((p) => p.locked !== locked).length * (locked ? 1 : -1);
            const got = space.setLocked(mm, AT + o.from, n, locked ? Locked.Yes : Locked.No);
            assert.deepEqual([got.error, got.lockedDeltaPages + 0], [hole < 0 ? 0 : -ENOMEM, delta + 0]);
            for (const p of before) p.locked = locked;
            break;
          }
          case 'dontneed': {
            // Refused per area at the first locked one, so only where nothing is locked is the outcome simple.
            if (range.some((p) => p.locked)) break;
            assert.equal(space.dontneed(mm, AT + o.from, n), hole < 0 ? 0 : -ENOMEM);
            for (const p of range) p.has = false;
            break;
          }
          case 'protect':
            assert.equal(space.mprotect(mm, AT + o.from, n, o.prot, cost), hole < 0 ? 0 : -ENOMEM);
            for (const p of before) p.prot = o.prot;
            break;
          default: {
            const write = o.kind === 'write';
            const bad = range.findIndex((p) => !p.mapped || (p.prot & (write ? 2 : 1)) === 0);
            const got = pin(space, mm, o.from, n, write);
            assert.equal(got.error, bad < 0 ? 0 : -EFAULT);
            for (const p of bad < 0 ? range : range.slice(0, bad)) p.has ||= write;
          }
        }
      }
      // Every page says the same, and neighbours that agree are one segment.
      const segs = space.segments(mm);
      assert.equal(arena.live('seg'), segs.length);
      flat.forEach((p, i) => {
        const s = segs.find((x) => x.startPage <= AT + i && AT + i < x.endPage);
        assert.equal(s !== undefined, p.mapped);
        if (s === undefined) return;
        assert.deepEqual([s.prot, s.locked !== Locked.No], [p.prot, p.locked]);
        if (p.has) assert.equal(s.residency & 3, Residency.Present);
        if ((s.residency & Residency.PMD) !== 0 && (s.residency & 3) !== 0) {
          assert.equal(s.startPage % 512, 0);
          assert.equal(s.endPage % 512, 0);
        }
      });
      segs.forEach((s, i) => {
        const next = segs[i + 1];
        assert.ok(s.startPage < s.endPage);
        if (next === undefined) return;
        assert.ok(s.endPage <= next.startPage);
        const key = ({ startPage: _s, endPage: _e, ...rest }: typeof s) => JSON.stringify(rest);
        if (s.endPage === next.startPage && s.backing !== Backing.Memfd) assert.notEqual(key(s), key(next));
      });
    }),
    { numRuns: 300, seed: 20260801 },
  );
});
