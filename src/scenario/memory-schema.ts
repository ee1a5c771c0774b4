/** The memory of a class of guests: size, backing, contiguity, and whether these can be had together. */
import { z } from 'zod';
import { formatBytes } from '../base/units-text.ts';
import type { Bytes } from '../base/units.ts';
import { zBytes } from '../base/zod-units.ts';
import { type BackingName, BACKINGS } from '../engine/plan.ts';
import { type Distribution, drawnSize, extremes, fixedOrChosen, report } from './distribution.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

/** Smallest physically contiguous piece a backing gives, in bytes; also the alignment of hugetlb sizes. */
export const BACKING_PAGE_BYTES: Readonly<Record<BackingName, number>> = {
  anon4k: 4 * KIB,
  thp: 2 * MIB,
  hugetlb2m: 2 * MIB,
  hugetlb1g: GIB,
  memfd: 4 * KIB,
};

const wholePages = zBytes({ min: 4 * KIB, max: 64 * TIB }).check((context) => {
  const bytes = context.value;
  if (bytes % (4 * KIB) === 0) return;
  const hint = `write for example ${formatBytes(roundUp(bytes, 4 * KIB))}`;
  report(context, [], bytes, `${formatBytes(bytes)} is not a multiple of the 4KiB page`, hint);
});

const powerOfTwo = zBytes({ min: 4 * KIB, max: 64 * TIB }).check((context) => {
  const bytes = context.value;
  const below = 2 ** Math.floor(Math.log2(bytes));
  if (bytes === below) return;
  const hint = `write ${formatBytes(below as Bytes)} or ${formatBytes((below * 2) as Bytes)}`;
  report(context, [], bytes, `${formatBytes(bytes)} is not a power of two`, hint);
});

export const memorySchema = z
  .strictObject({
    size: drawnSize(wholePages).describe(
      "Size of the buffer that backs the guest's memory. A size or a distribution of sizes.",
    ),
    backing: z
      .union(fixedOrChosen(z.enum(BACKINGS)))
      .prefault('anon4k')
      .describe('What backs the memory: decides page size, cost of a fault and of a pin. Or a distribution.'),
    contiguity: z
      .union(fixedOrChosen(powerOfTwo))
      .optional()
      .describe(
        'Physically contiguous memory at a time, a power of two: the pages one accounting update covers. ' +
          'When left out, the page size of the backing (anon4k: 4KiB, every page scattered). Or a distribution.',
      ),
    populated: z
      .union(fixedOrChosen(z.boolean()))
      .prefault(true)
      .describe(
        'Whether the memory is populated before the actors start; if not, pinning faults it in. Or a distribution.',
      ),
  })
  .check((context) => {
    const { size, backing, contiguity } = context.value;
    const backings = extremes(backing);
    // One fault per field is enough, also where several drawn values are at fault.
    const wrong = extremes(size)
      .map((bytes) => sizeFault(bytes, size, backings))
      .find((fault) => fault !== null);
    if (wrong !== undefined && wrong !== null) report(context, ['size'], size, wrong[0], wrong[1]);
    if (contiguity === undefined) return;
    const odd = extremes(contiguity)
      .map((bytes) => contiguityFault(bytes, size, backings))
      .find((fault) => fault !== null);
    if (odd !== undefined && odd !== null) report(context, ['contiguity'], contiguity, odd[0], odd[1]);
  });

type FaultText = readonly [message: string, hint: string];

/** What is wrong with a size, given what may back it. */
function sizeFault(bytes: Bytes, size: Distribution<Bytes>, backings: readonly BackingName[]): FaultText | null {
  const text = formatBytes(bytes);
  for (const backing of backings) {
    const page = BACKING_PAGE_BYTES[backing] as Bytes;
    const pageText = formatBytes(page);
    if (bytes < page) {
      return [
        `${text} is smaller than one ${pageText} page of backing ${backing}`,
        `write at least ${pageText}, or use backing: anon4k`,
      ];
    }
    if (!backing.startsWith('hugetlb')) continue;
    const notWhole = `is not a multiple of the ${pageText} page of backing ${backing}`;
    if (bytes % page !== 0) return [`${text} ${notWhole}`, `write for example ${formatBytes(roundUp(bytes, page))}`];
    if (size.kind === 'uniform' && size.step % page !== 0) {
      return [
        `the step ${formatBytes(size.step)} ${notWhole}`,
        `write for example step: ${formatBytes(roundUp(size.step, page))}`,
      ];
    }
  }
  return null;
}

function contiguityFault(bytes: Bytes, size: Distribution<Bytes>, backings: readonly BackingName[]): FaultText | null {
  const text = formatBytes(bytes);
  const smallest = Math.min(...extremes(size)) as Bytes;
  if (bytes > smallest) {
    const most = formatBytes((2 ** Math.floor(Math.log2(smallest))) as Bytes);
    return [`${text} is larger than the memory of ${formatBytes(smallest)}`, `write at most ${most}`];
  }
  const backing = backings.find((name) => bytes < BACKING_PAGE_BYTES[name]);
  if (backing === undefined) return null;
  const page = formatBytes(BACKING_PAGE_BYTES[backing] as Bytes);
  return [
    `${text} is smaller than one ${page} page of backing ${backing}`,
    `write at least ${page}, or leave contiguity out`,
  ];
}

const roundUp = (bytes: number, multiple: number): Bytes => (Math.ceil(bytes / multiple) * multiple) as Bytes;
