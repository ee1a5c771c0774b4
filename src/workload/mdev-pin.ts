/**
 * An mdev driver at work: the guest uses its mediated device, so the driver pins the pages that are about to be used and gives the
 * oldest ones back. Pages can be asked for again while they are pinned; then only their reference count grows.
 */
import { z } from 'zod';
import { zPages } from '../base/zod-units.ts';
import { MAP_FLAG_READ, MAP_FLAG_WRITE } from '../model/paths/map.ts';
import { mapBuffer, pinPages, unpinPages } from './dma.ts';
import { workload } from './workload.ts';

export const mdevPin = workload({
  name: 'mdev-pin',
  summary: 'an mdev driver pins pages of the guest and unpins them, as its device is used',
  options: z.strictObject({
    pages: zPages({ min: 1, max: 512 }).prefault('4 pages').describe('pages pinned by one call'),
    window: zPages({ min: 1 })
      .prefault('256 pages')
      .describe('pages the device uses, from the first of the mapping on'),
    calls: z.int().min(1).max(4096).default(8).describe('calls whose pages are held before the oldest are given back'),
    map: z
      .boolean()
      .default(true)
      .describe("map the window first; a kernel thread cannot, and uses what another actor's mapping has at iova 0"),
    container: z.int().min(0).max(15).default(0).describe('index of the container, which needs an mdev'),
  }),
  needs: (o) => ({ mappings: 1, segments: 4, externalPages: Math.min(o.window, o.pages * (o.calls + 1)) }),
  *run(actor, o) {
    const window = Math.min(o.window, actor.bufferPages);
    if (o.map && actor.plan.task !== 'kthread') {
      const ret = yield* mapBuffer(actor, { iovaPage: 0, bufferPage: 0, pages: window, container: o.container });
      if (ret < 0) actor.markFailure('mdev-pin: map failed', ret);
    }
    const held: (readonly number[])[] = [];
    while (yield* actor.iterate()) {
      const pages = Array.from({ length: o.pages }, () => actor.random.below(window));
      if ((yield* pinPages(actor, pages, MAP_FLAG_READ | MAP_FLAG_WRITE, o.container)) > 0) held.push(pages);
      const oldest = held.length > o.calls ? held.shift() : undefined;
      if (oldest !== undefined) yield* unpinPages(actor, oldest, o.container);
    }
    for (const pages of held) yield* unpinPages(actor, pages, o.container);
  },
});
