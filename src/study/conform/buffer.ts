/** The buffer at 2^40 that each process of a recording has, and the system calls that change it. */
import { EBADF, EINVAL, ENOMEM } from '../../base/errno.ts';
import { PAGE_BYTES, U64_MAX } from '../../base/units.ts';
import type { Direct } from '../../engine/direct.ts';
import { Backing, PROT_NONE, PROT_READ, PROT_RW, PROT_WRITE } from '../../model/address-space/memory.ts';
import type { Ctx, Path } from '../../model/env.ts';
import { groupOf } from '../../model/paths/files.ts';
import { madviseDontneed, madvisePopulate } from '../../model/paths/madvise.ts';
import { sysMmap, sysMprotect, sysMunmap, TASK_PAGES } from '../../model/paths/mmap.ts';
import { type Action, addressInBuffer, type Header, type Piece } from '../../transcript/transcript.ts';

const PAGE = BigInt(PAGE_BYTES);
const TASK_SIZE = BigInt(TASK_PAGES) * PAGE;

const PROT_BITS = { none: PROT_NONE, r: PROT_READ, w: PROT_WRITE, rw: PROT_RW } as const;
const BACKINGS = {
  anon4k: [Backing.Anon4k, PROT_RW],
  thp: [Backing.Thp, PROT_RW],
  hugetlb2m: [Backing.Hugetlb2m, PROT_RW],
  memfd: [Backing.Memfd, PROT_RW],
  bar: [Backing.Bar, PROT_RW],
  none: [Backing.Anon, PROT_NONE],
  ro: [Backing.Anon, PROT_READ],
} as const;

export class Buffer {
  readonly #direct: Direct;
  readonly #header: Header;

  constructor(direct: Direct, header: Header) {
    this.#direct = direct;
    this.#header = header;
  }

  build(k: Ctx): void {
    const { buffer, parts } = this.#header;
    for (const piece of [buffer, ...parts]) this.mmap(k, piece);
  }

  mmap(k: Ctx, piece: Piece): number {
    const range = pageRange(piece.backing === 'hole' ? 'munmap' : 'mmap', piece.offset, piece.bytes);
    // The length of a hugetlb mapping is rounded up to a huge page before it is looked at.
    if (range === -ENOMEM && piece.backing === 'hugetlb2m' && piece.bytes > U64_MAX - PAGE + 1n) return -EINVAL;
    if (typeof range === 'number') return range;
    const { page, pages } = range;
    const d = this.#direct;
    if (piece.backing === 'hole') return d.run(sysMunmap(k, page, pages));
    const [backing, prot] = BACKINGS[piece.backing];
    // The device of container 0.
    const file = piece.backing === 'bar' ? groupOf(k, 0) : 0;
    if (piece.backing === 'bar' && file <= 0) return -EBADF;
    const source = piece.source ?? (piece.backing === 'memfd' ? piece.offset : 0n);
    const ret = d.run(
      sysMmap(k, page, pages, {
        backing,
        prot: piece.prot === undefined ? prot : PROT_BITS[piece.prot],
        sourcePage: Number(source / PAGE),
        file,
        filePages: Number((this.#header.buffer.bytes + PAGE - 1n) / PAGE),
      }),
    );
    if (ret === 0 && piece.touch !== 'none') d.run(madvisePopulate(k, page, pages, piece.touch === 'write'));
    return ret;
  }

  /** munmap, mprotect or madvise. */
  change(k: Ctx, action: Extract<Action, { op: 'munmap' | 'mprotect' | 'madvise' }>): number {
    const range = pageRange(action.op, action.offset, action.bytes);
    return typeof range === 'number' ? range : this.#direct.run(changePath(k, range, action));
  }
}

function changePath(
  k: Ctx,
  { page, pages }: PageRange,
  action: Extract<Action, { op: 'munmap' | 'mprotect' | 'madvise' }>,
): Path<number> {
  switch (action.op) {
    case 'munmap':
      return sysMunmap(k, page, pages);
    case 'mprotect':
      return sysMprotect(k, page, pages, PROT_BITS[action.prot]);
    default:
      if (action.advice === 'dontneed') return madviseDontneed(k, page, pages);
      return madvisePopulate(k, page, pages, action.advice === 'populate_write');
  }
}

interface PageRange {
  readonly page: number;
  readonly pages: number;
}

/**
 * The range of a call that wants an aligned start and rounds the length up, in 64 bits, or what it says of a range that
 * is none. Sources: mm/mmap.c, mm/mprotect.c, mm/madvise.c, 6.1.
 */
export function pageRange(
  call: 'mmap' | 'munmap' | 'mprotect' | 'madvise',
  offset: bigint,
  bytes: bigint,
): PageRange | number {
  const start = addressInBuffer(offset);
  const length = (bytes + PAGE - 1n) & U64_MAX & ~(PAGE - 1n);
  const end = (start + length) & U64_MAX;
  const range = { page: Number(start / PAGE), pages: Number(length / PAGE) };
  if (call === 'mmap') {
    if (bytes === 0n) return -EINVAL;
    if (length === 0n || length > TASK_SIZE || start > TASK_SIZE - length) return -ENOMEM;
    return start % PAGE === 0n ? range : -EINVAL;
  }
  if (start % PAGE !== 0n) return -EINVAL;
  // munmap looks at the rest itself.
  if (call === 'munmap') return range;
  if (call === 'mprotect') return bytes !== 0n && end <= start ? -ENOMEM : range;
  return (bytes !== 0n && length === 0n) || end < start ? -EINVAL : range;
}
