/**
 * An mdev driver at work: the guest uses its mediated device, so the driver pins the pages that are about to be used
 * and gives the oldest ones back. Pages can be asked for again while they are pinned; then only their reference count
 * grows.
 */
import { EEXIST } from '../../base/errno.ts';
import { MAP_FLAG_READ, MAP_FLAG_WRITE } from '../../model/ioctl-args.ts';
import { mapBuffer, pinPages, unpinPages } from './dma.ts';
import { bufferFor, ramPage, ramPages, ramPieces } from './guest-memory.ts';
import { type ActorSetting, noMdev, workload } from './workload.ts';

/** Whether an actor maps the pages that a driver with these options pins, and keeps them mapped. */
function showsRam(
  { always, task, workload: name, options }: ActorSetting,
  needed: { readonly container: number; readonly window: number },
): boolean {
  if (!always || task === 'kthread' || options['container'] !== needed.container) return false;
  if (name === 'boot') return true;
  if (name === 'vaddr-update') return options['map'] === true;
  return name === 'mdev-pin' && options['map'] === true && Number(options['window']) >= needed.window;
}

export const mdevPin = workload({
  name: 'mdev-pin',
  ops: ['map', 'pin', 'unpin'],
  draws: true,
  summary: 'an mdev driver pins pages of the guest and unpins them, as its device is used',
  options: ({ z, zPages }) =>
    z.strictObject({
      pages: zPages({ min: 1, max: 512 }).prefault('4 pages').describe('pages pinned by one call'),
      window: zPages({ min: 1 })
        .prefault('256 pages')
        .describe("pages of the guest's RAM that the device uses, from the first on"),
      calls: z
        .int()
        .min(1)
        .max(4096)
        .default(8)
        .describe('calls whose pages are held before the oldest are given back'),
      map: z
        .boolean()
        .default(true)
        .describe('map the window first; a kernel thread cannot, and uses what another actor has mapped'),
      container: z.int().min(0).max(15).default(0).describe('index of the container, which needs an mdev'),
    }),
  kthread: true,
  container: 'container',
  refuse(o, { variant, guest, actor }) {
    if (guest.mdev === 'none') {
      const path = ['workload'];
      if (variant.external === null) return { path, ...noMdev(variant) };
      return { path, message: 'the guest has no mdev to pin for', hint: 'write mdev: beside, or mdev: only' };
    }
    if (guest.iommu === 'type1') {
      const message = `drivers of an mdev pin only in containers of type1v2, and those of this guest are type1`;
      return { path: ['workload'], message, hint: 'write iommu: type1v2' };
    }
    const rival = guest.actors.find((a) => a.workload === 'map-unmap' && a.options['container'] === o.container);
    if (rival !== undefined) {
      const message = `'${rival.name}' (${rival.workload}) maps and unmaps the same addresses of container ${o.container}`;
      return { path: ['workload'], message, hint: `give '${rival.name}' another container` };
    }
    if (o.map && actor.task !== 'kthread') return null;
    if (guest.actors.some((other) => showsRam(other, o))) return null;
    const message = `nothing maps the first ${o.window} pages of RAM through container ${o.container}, so every pin would fail`;
    const hint = 'add an actor with the workload boot and that container, without chance';
    return { path: ['workload'], message, hint };
  },
  needs: (o) => ({ mappings: 3, segments: 4, externalPages: Math.min(o.window, o.pages * (o.calls + 1)) }),
  *run(actor, o) {
    const window = Math.min(o.window, ramPages(actor.bufferPages));
    if (o.map && actor.plan.task !== 'kthread') {
      for (const piece of ramPieces(bufferFor(window), Infinity)) {
        const ret = yield* mapBuffer(actor, { ...piece, container: o.container });
        if (ret === 0) continue;
        actor.markFailure('mdev-pin: map failed', ret);
        // Without its mapping no page can be pinned; one that is there already will do.
        if (ret !== -EEXIST) return;
      }
    }
    const held: (readonly number[])[] = [];
    while (yield* actor.iterate()) {
      const pages = Array.from({ length: o.pages }, () => ramPage(actor.random.below(window)));
      if ((yield* pinPages(actor, pages, MAP_FLAG_READ | MAP_FLAG_WRITE, o.container)) > 0) held.push(pages);
      const oldest = held.length > o.calls ? held.shift() : undefined;
      if (oldest !== undefined) yield* unpinPages(actor, oldest, o.container);
    }
    for (const pages of held) yield* unpinPages(actor, pages, o.container);
  },
});
