/**
 * The physical addresses of a guest, which are the iovas its memory is mapped at: one layout for all workloads, as QEMU
 * lays a PC out (hw/i386/pc_piix.c and pc.c, QEMU 8).
 *
 *     0 .. 640 KiB            RAM
 *     640 KiB .. 1 MiB        VGA and firmware
 *     1 MiB .. 3 GiB          RAM
 *     3 GiB .. 4 GiB          the hole for 32-bit devices, with the MSI window at 0xfee00000
 *     4 GiB .. 128 TiB        the rest of the RAM
 *     128 TiB .. 192 TiB      pools of virtio-mem devices
 *     192 TiB .. 256 TiB      memory modules
 *
 * All numbers are pages of 4 KiB.
 *
 * differs: QEMU puts pools and modules right behind the RAM; here they have an area of their own, so that they lie
 * where they lie whatever the guest's size.
 */
import { PAGE_BYTES } from '../../base/units.ts';
import type { Actor } from '../../engine/actor.ts';

const MIB = 2 ** 20 / PAGE_BYTES;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

/** Where the hole for 32-bit devices begins and ends. */
const HOLE = 3 * GIB;
const HIGH_RAM = 4 * GIB;

/** RAM ends here at the latest. */
export const RAM_END_PAGE = 128 * TIB;
const RAM: readonly (readonly [first: number, end: number])[] = [
  [0, 160],
  [MIB, HOLE],
  [HIGH_RAM, RAM_END_PAGE],
];

const POOLS = RAM_END_PAGE;
const MODULES = 192 * TIB;
const AREA = 64 * TIB;

/** Room of one actor for its modules: 16 of 4 GiB. */
export const MODULES_STRIDE = 64 * GIB;

/** A part of the guest's buffer and where it lies in the guest. */
export interface Placed {
  readonly iovaPage: number;
  readonly bufferPage: number;
  readonly pages: number;
}

/** Up to 3 GiB a page of the buffer lies at its own number; behind it the hole is left out. */
const iovaOf = (bufferPage: number): number => (bufferPage < HOLE ? bufferPage : bufferPage - HOLE + HIGH_RAM);

/**
 * The RAM of a guest with a buffer of `bufferPages`, in pieces of at most `piecePages`; no piece reaches across a hole.
 */
export function ramPieces(bufferPages: number, piecePages: number): Placed[] {
  const pieces: Placed[] = [];
  for (const [first, end] of RAM) {
    const from = first < HOLE ? first : HOLE;
    const to = Math.min(bufferPages, from + end - first);
    for (let at = from; at < to; at += piecePages)
      pieces.push({ iovaPage: iovaOf(at), bufferPage: at, pages: Math.min(piecePages, to - at) });
  }
  return pieces;
}

/** How many pages of the buffer are RAM: what lies under VGA and firmware is not. */
export const ramPages = (bufferPages: number): number => Math.min(bufferPages, 160) + Math.max(0, bufferPages - MIB);

/** The part of the buffer that holds the first `pages` pages of RAM. */
export const bufferFor = (pages: number): number => (pages <= 160 ? pages : pages + MIB - 160);

/** The iova of page `n` of the RAM, holes left out. */
export const ramPage = (n: number): number => iovaOf(n < 160 ? n : n + MIB - 160);

/**
 * RAM up to the address `endPage` that shows the same buffer over and over, as vfio-huge-guest-test maps it: below 4
 * GiB each page at its own number, above it the whole buffer again and again.
 */
export function* repeatedRam(endPage: number, bufferPages: number): Generator<Placed> {
  for (const [first, end] of RAM) {
    const base = first < HOLE ? 0 : first;
    for (let at = first; at < Math.min(end, endPage);) {
      const bufferPage = (at - base) % bufferPages;
      const pages = Math.min(bufferPages - bufferPage, Math.min(end, endPage) - at);
      yield { iovaPage: at, bufferPage, pages };
      at += pages;
    }
  }
}

/** How many pages of RAM there are below the address `endPage`. */
export const ramBelow = (endPage: number): number =>
  RAM.reduce((pages, [first, end]) => pages + Math.max(0, Math.min(end, endPage) - first), 0);

/** The iova of slot `slot`, where equal slots of `pages` pages fill the RAM, each at a multiple of its size. */
export function slotPage(slot: number, pages: number): number {
  let left = slot;
  for (const [first, end] of RAM) {
    const at = Math.ceil(first / pages);
    const slots = Math.max(0, Math.floor(end / pages) - at);
    if (left < slots) return (at + left) * pages;
    left -= slots;
  }
  return Infinity;
}

/** RAM that all lies above 4 GiB, as that of a further NUMA node: its equal pieces stay equal. */
export const highPage = (bufferPage: number): number => HIGH_RAM + bufferPage;

/** How many pools of a buffer of `bufferPages` there is room for. */
export const poolsMax = (bufferPages: number): number => Math.floor(AREA / poolStride(bufferPages));
const poolStride = (bufferPages: number): number => Math.ceil(bufferPages / GIB) * GIB;

/** How many actors there are modules for. */
export const MODULE_ACTORS_MAX = AREA / MODULES_STRIDE;

/** Which of the actors with its workload an actor is. */
const rankOf = ({ guest, plan }: Actor): number =>
  guest.actors.filter(({ workload }) => workload === plan.workload).indexOf(plan);

/** Where the virtio-mem pool of an actor begins. */
export const poolPage = (actor: Actor): number => POOLS + rankOf(actor) * poolStride(actor.bufferPages);

/** Where the memory modules of an actor begin. */
export const modulesPage = (actor: Actor): number => MODULES + rankOf(actor) * MODULES_STRIDE;
