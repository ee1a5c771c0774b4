/**
 * Parallel pinning as helper threads of one process do it (the ktask series of 2018, the padata series of 2022): each
 * of `of` actors maps its share of the buffer, through a container of its own so that only the address space is shared,
 * and maps nothing twice. Shares are dealt out in pieces, as the series cut them.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import { mapBuffer, unmapRange } from './dma.ts';
import { highPage, type Placed } from './guest-memory.ts';
import { refused, workload } from './workload.ts';

export const parallelPin = workload({
  name: 'parallel-pin',
  ops: ['map', 'unmap'],
  summary: 'helper threads map one buffer together, each in a container of its own',
  options: ({ z, zBytes }) =>
    z.strictObject({
      of: z.int().min(1).max(16).default(1).describe('how many actors share the buffer'),
      part: z.int().min(0).max(15).default(0).describe('which of them this actor is, from 0; also its container'),
      unmap: z.boolean().default(false).describe('unmap everything again at the end'),
      piece: zBytes({ min: PAGE_BYTES }).prefault('128MiB').describe('largest mapping of a share'),
    }),
  container: 'part',
  refuse(o, { actor, guest }) {
    if (o.part >= o.of) {
      const message = `there is no part ${o.part} of ${o.of}`;
      return refused('part', message, `parts go from 0 to ${o.of - 1}; or write of: ${o.part + 1}`);
    }
    const same = guest.actors.filter(
      ({ workload: name, options }) => name === 'parallel-pin' && options['part'] === o.part,
    );
    if (same.length === 1 && actor.count === 1) return null;
    const message = `part ${o.part} is given to more than one actor`;
    return refused('part', message, 'write an actor for each part, without count');
  },
  needs: (o, guest) => ({
    mappings: 2 + Math.ceil(guest.memory.bytes / o.of / o.piece),
    segments: 8 + Math.ceil(guest.memory.bytes / o.of / o.piece),
    externalPages: 0,
    mappedPages: guest.memory.bytes / o.of / PAGE_BYTES,
  }),
  *run(actor, o) {
    const piecePages = Math.floor(o.piece / PAGE_BYTES);
    while (yield* actor.iterate()) {
      const mapped: Placed[] = [];
      for (let at = o.part * piecePages; at < actor.bufferPages; at += o.of * piecePages) {
        const pages = Math.min(piecePages, actor.bufferPages - at);
        const piece = { iovaPage: highPage(at), bufferPage: at, pages };
        const ret = yield* mapBuffer(actor, { ...piece, container: o.part });
        if (ret < 0) {
          actor.markFailure('parallel-pin: map failed', ret);
          break;
        }
        mapped.push(piece);
        if (actor.k.stopping()) break;
      }
      if (o.unmap) for (const piece of mapped) yield* unmapRange(actor, { ...piece, container: o.part });
      actor.finish();
    }
  },
});
