/**
 * Memory that a virtual machine gives back to its host and takes again, while a device is assigned to it.
 *
 * A virtio-balloon and VFIO do not go together: what the balloon frees with MADV_DONTNEED stays pinned for the device,
 * so nothing is freed and nothing uncharged, and the pages the guest gets at its next touch are others than those the
 * device still writes to. QEMU therefore ignores the balloon as soon as a device is assigned (since 3.1), unless that
 * device pins only what it uses. `balloon` shows what happens without that precaution: mmap_sem for read, and an
 * account that does not move.
 *
 * What does work is virtio-mem (QEMU 6.1 and later): each block is a DMA mapping of its own, since a mapping cannot be
 * cut, and unplugging one takes it out of the container before the memory is freed: UNMAP, then MADV_DONTNEED. Plugging
 * maps it again.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { mapBuffer, unmapRange } from './dma.ts';
import { poolPage } from './guest-memory.ts';
import { dontneed, touchPages } from './memory.ts';
import { partOfPage, workload } from './workload.ts';

export const balloon = workload({
  name: 'balloon',
  ops: ['madvise', 'fault'],
  draws: true,
  summary: 'frees and touches parts of the buffer with MADV_DONTNEED: what is mapped stays pinned and charged',
  options: ({ z, zBytes, zDuration }) =>
    z.strictObject({
      piece: zBytes({ min: PAGE_BYTES }).prefault('1MiB').describe('freed at a time'),
      hold: zDuration().prefault('1ms').describe('how long until the guest touches it again'),
    }),
  refuse: (o, { guest }) => partOfPage('piece', o.piece, guest),
  needs: () => ({ mappings: 0, segments: 6, externalPages: 0 }),
  *run(actor, o) {
    const pages = Math.min(actor.bufferPages, Math.floor(o.piece / PAGE_BYTES));
    const pieces = Math.floor(actor.bufferPages / pages);
    while (yield* actor.iterate()) {
      const page = actor.bufferPage + actor.random.below(pieces) * pages;
      yield* dontneed(actor, page, pages);
      yield* actor.pause(o.hold);
      yield* touchPages(actor, page, pages);
    }
  },
});

export const virtioMem = workload({
  name: 'virtio-mem',
  ops: ['map', 'unmap', 'madvise'],
  draws: true,
  summary: 'unplugs blocks of the buffer (UNMAP, then MADV_DONTNEED) and plugs them again (MAP), at random',
  options: ({ z, zBytes }) =>
    z.strictObject({
      block: zBytes({ min: PAGE_BYTES }).prefault('2MiB').describe('size of a block, each a DMA mapping of its own'),
      blocks: z.int().min(1).max(65_535).default(16).describe('how many there are, from the start of the buffer'),
      plugged: z.number().min(0).max(1).default(0.5).describe('share of the blocks that is plugged at the start'),
      container: z.int().min(0).max(15).default(0).describe('index of the container'),
    }),
  container: 'container',
  refuse: (o, { guest }) => partOfPage('block', o.block, guest),
  needs: (o) => ({
    mappings: o.blocks,
    segments: 4 * o.blocks,
    externalPages: 0,
    mappedPages: (o.blocks * o.block) / PAGE_BYTES,
  }),
  *run(actor, o) {
    const pages = Math.min(actor.bufferPages, Math.floor(o.block / PAGE_BYTES));
    const blocks = Math.min(o.blocks, Math.floor(actor.bufferPages / pages));
    const isPlugged = new Uint8Array(blocks);
    const pool = poolPage(actor);
    const at = (block: number) => ({ iovaPage: pool + block * pages, pages, container: o.container });
    const plug = function* (block: number) {
      const ret = yield* mapBuffer(actor, { ...at(block), bufferPage: block * pages });
      if (ret === 0) isPlugged[block] = 1;
      else actor.markFailure('virtio-mem: map failed', ret);
    };
    for (let block = 0; block < Math.floor(blocks * o.plugged); block += 1) yield* plug(block);
    while (yield* actor.iterate()) {
      const block = actor.random.below(blocks);
      if (isPlugged[block] === 0) {
        yield* plug(block);
        continue;
      }
      yield* unmapRange(actor, at(block));
      yield* dontneed(actor, actor.bufferPage + block * pages, pages);
      isPlugged[block] = 0;
    }
  },
});
