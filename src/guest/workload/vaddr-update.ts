/**
 * Live update of a virtual machine monitor (5.12 and later): the mappings of the container lose their virtual addresses
 * and keep their pages, so that devices go on; then the new monitor gives each mapping its address again. Where that is
 * another address space, since 6.3 the charge moves with it: the new one is charged first, so that both are for a
 * moment.
 *
 * A container with a mediated device that pins on demand refuses (6.3) or makes its driver wait (5.12 to 6.2).
 */
import { formatBytes } from '../../base/units-text.ts';
import { asBytes, PAGE_BYTES } from '../../base/units.ts';
import { invalidateAll, mapBuffer, updateAddress } from './dma.ts';
import { type Placed, ramPieces } from './guest-memory.ts';
import { type ActorSetting, type Refusal, refused, type Setting, workload } from './workload.ts';

interface Options {
  readonly map: boolean;
  readonly piece: number;
  readonly blackout: number;
  readonly container: number;
}

/** Whether an actor has mappings of its own. */
const maps = ({ workload: name, task, options }: ActorSetting): boolean =>
  task !== 'kthread' && (name === 'vaddr-update' || name === 'mdev-pin' ? options['map'] === true : MAPPERS.has(name));

/** Workloads that always have. */
const MAPPERS = new Set(['boot', 'huge-guest', 'map-unmap', 'hotplug', 'virtio-mem', 'parallel-pin']);

/**
 * Whether what an actor maps is the RAM of its guest in the pieces that an update with these options gives addresses
 * back to.
 */
const mapsPieces = ({ workload: name, options }: ActorSetting, o: Options): boolean =>
  (name === 'boot' || name === 'vaddr-update') && options['piece'] === o.piece;

function refusalOf(o: Options, { variant, guest, actor }: Setting): Refusal | null {
  const path = ['workload'];
  if (!variant.vaddrUpdate || variant.iommufd !== null) {
    const why = variant.iommufd === null ? 'came with 5.12' : 'is a call of type1: iommufd changes the process instead';
    const message = `variant ${variant.id} (${variant.kernels}) has no update of addresses, which ${why}`;
    return { path, message, hint: 'use variant G, H or H2, or a kernel from 5.12 on' };
  }
  if (guest.mdev !== 'none' && variant.invalidVaddr === 'busy') {
    const message = 'a container with an mdev keeps its addresses since 6.3 (EBUSY)';
    return { path, message, hint: 'write mdev: none, or use variant G' };
  }
  if (actor.count > 1) {
    const message = `${actor.count} actors would take the same addresses away at once`;
    return { path: ['count'], message, hint: 'leave count out' };
  }
  const mappers = guest.actors.filter(
    (other) => other !== actor && maps(other) && (other.options['container'] ?? other.options['part']) === o.container,
  );
  const odd = mappers.find((other) => o.map || !mapsPieces(other, o));
  if (odd !== undefined) {
    const message = `'${odd.name}' (${odd.workload}) has mappings in container ${o.container}, to which no address would be given back`;
    return refused('container', message, `give '${odd.name}' another container`);
  }
  if (o.map) return null;
  if (!mappers.some(({ always }) => always)) {
    const size = formatBytes(asBytes(o.piece));
    const message = `nothing maps the guest's memory in pieces of ${size} through container ${o.container}`;
    return refused('map', message, `add an actor with the workload boot and piece: ${size}, or write map: true`);
  }
  if (actor.task !== 'child' || variant.recordsMm) return null;
  const message = 'before 6.3 a process cannot take the addresses of what another one has mapped';
  return { path: ['task'], message, hint: 'use task: thread, or a kernel from 6.3 on' };
}

export const vaddrUpdate = workload({
  name: 'vaddr-update',
  ops: ['map', 'vaddr_update'],
  summary: 'takes the virtual addresses of all mappings away and gives them back, as a live update does',
  options: ({ z, zBytes, zDuration }) =>
    z.strictObject({
      map: z
        .boolean()
        .default(true)
        .describe('map the buffer first; a process that takes over from another (task: child) does not'),
      piece: zBytes({ min: PAGE_BYTES }).prefault('64MiB').describe('largest mapping'),
      blackout: zDuration().prefault('100us').describe('from losing the addresses to getting them back'),
      container: z.int().min(0).max(15).default(0).describe('index of the container'),
    }),
  container: 'container',
  refuse: refusalOf,
  needs: (o, guest) => {
    const mappings = o.map ? 3 + Math.ceil(guest.memory.bytes / o.piece) : 0;
    return { mappings, segments: 4, externalPages: 0, mappedPages: o.map ? guest.memory.bytes / PAGE_BYTES : 0 };
  },
  *run(actor, o) {
    let pieces = ramPieces(actor.bufferPages, Math.floor(o.piece / PAGE_BYTES));
    if (o.map) {
      const mapped: Placed[] = [];
      for (const piece of pieces) {
        const ret = yield* mapBuffer(actor, { ...piece, container: o.container });
        if (ret === 0) mapped.push(piece);
        else actor.markFailure('vaddr-update: map failed', ret);
      }
      pieces = mapped;
    }
    while (yield* actor.iterate()) {
      const ret = yield* invalidateAll(actor, o.container);
      if (ret < 0) {
        actor.markFailure('vaddr-update: refused', ret);
        continue;
      }
      yield* actor.pause(o.blackout);
      for (const piece of pieces) {
        const updated = yield* updateAddress(actor, { ...piece, container: o.container });
        if (updated < 0) actor.markFailure('vaddr-update: an address was not taken', updated);
      }
    }
  },
});
