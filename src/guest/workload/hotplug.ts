/**
 * Memory hotplug of a virtual machine with an assigned device: QEMU maps the backend of a DIMM (mmap_sem for write),
 * the guest's memory listener maps it for DMA, pinning and so populating it; unplugging takes both back in reverse.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { mapMemory, unmapRange } from './dma.ts';
import { modulesPage } from './guest-memory.ts';
import { mmapScratch, munmapScratch, scratchPage } from './memory.ts';
import { workload } from './workload.ts';

export const hotplug = workload({
  name: 'hotplug',
  ops: ['mmap', 'map', 'unmap', 'munmap'],
  summary: 'plugs a memory module (mmap, then MAP) and unplugs it (UNMAP, then munmap), over and over',
  options: ({ z, zBytes, zDuration }) =>
    z.strictObject({
      size: zBytes({ min: PAGE_BYTES, max: 2 ** 32 })
        .prefault('128MiB')
        .describe('size of a module'),
      modules: z.int().min(1).max(16).default(1).describe('how many are plugged before the first is unplugged'),
      hold: zDuration().prefault('1ms').describe('how long a module stays'),
      backing: z.enum(['anon4k', 'thp']).default('anon4k').describe('what backs a module'),
      container: z.int().min(0).max(15).default(0).describe('index of the container'),
    }),
  container: 'container',
  needs: (o) => ({
    mappings: o.modules,
    segments: 4 * o.modules,
    externalPages: 0,
    mappedPages: (o.modules * o.size) / PAGE_BYTES,
  }),
  *run(actor, o) {
    const pages = Math.floor(o.size / PAGE_BYTES);
    const memory = scratchPage(actor);
    const iova = modulesPage(actor);
    const plugged: number[] = [];
    const unplug = function* (slot: number) {
      yield* unmapRange(actor, { iovaPage: iova + slot * pages, pages, container: o.container });
      yield* munmapScratch(actor, memory + slot * pages, pages);
    };
    for (let round = 0; yield* actor.iterate(); round += 1) {
      const slot = round % o.modules;
      if (plugged.length === o.modules) yield* unplug(plugged.shift() as number);
      yield* mmapScratch(actor, memory + slot * pages, pages, o.backing);
      const piece = { page: memory + slot * pages, iovaPage: iova + slot * pages, pages, container: o.container };
      const ret = yield* mapMemory(actor, piece);
      if (ret === 0) {
        plugged.push(slot);
      } else {
        actor.markFailure('hotplug: map failed', ret);
        yield* munmapScratch(actor, memory + slot * pages, pages);
      }
      yield* actor.pause(o.hold);
    }
    for (const slot of plugged) yield* unplug(slot);
  },
});
