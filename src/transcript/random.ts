/**
 * Random sequences of one thread. A rough account of what is mapped and locked steers the draws towards boundaries:
 * limits, neighbours and overlaps of mappings, ends of the address space, the interrupt window. It is never recorded.
 */
import { type Prng, stream } from '../base/prng.ts';
import { PAGE_BYTES, U64_MAX } from '../base/units.ts';
import { lineOf } from './fields.ts';

/** What the place of recording allows. */
export interface RandomBounds {
  /** Soft RLIMIT_MEMLOCK to stay below, bytes; null: unlimited. */
  readonly memlockBytes: bigint | null;
  readonly capIpcLock: boolean;
  readonly dmaEntryLimit: number;
  readonly thp: boolean;
  readonly freeHugePages: number;
  /** Largest buffer. */
  readonly bufferBytes: number;
}

const PAGE = BigInt(PAGE_BYTES);
const HUGE_PAGES = 512;
const MIB = 1n << 20n;
/** The interrupt window of x86. */
const MSI = 0xfee0_0000n;
/** Where the address space of many IOMMUs ends. */
const APERTURES = [1n << 39n, 1n << 48n];
const ODD = [1n, 8n, 511n, 2048n, 4095n];
const MIN_STEPS = 20;
const MAX_STEPS = 56;

/** @returns sequences that hold `operations` steps together, as text. The same arguments give the same ones. */
export function randomSequences(operations: number, seed: number, bounds: RandomBounds): readonly string[] {
  const texts: string[] = [];
  for (let left = operations; left > 0;) {
    const prng = stream(seed, `record.${texts.length}`);
    const steps = Math.min(left, MIN_STEPS + prng.below(MAX_STEPS - MIN_STEPS + 1));
    texts.push(new Generator(prng, bounds).sequence(seed, steps));
    left -= steps;
  }
  return texts;
}

interface Mapping {
  readonly iova: bigint;
  readonly bytes: bigint;
}
type Fields = Readonly<Record<string, unknown>>;

class Generator {
  readonly #pages: number;
  readonly #backing: string;
  readonly #window: bigint;
  readonly #iommu: 'type1' | 'type1v2';
  #limitPages: number | null;
  #capIpcLock: boolean;
  #mappings: Mapping[] = [];
  #lockedPages = 0;
  #open = true;

  constructor(
    private readonly prng: Prng,
    private readonly bounds: RandomBounds,
  ) {
    // Half of it for the memfd, whose pages stay.
    const most = Math.floor(bounds.bufferBytes / 2 / PAGE_BYTES);
    const backings = ['anon4k', 'memfd'];
    if (bounds.thp && most >= HUGE_PAGES) backings.push('thp');
    if (bounds.freeHugePages > 0 && most >= HUGE_PAGES) backings.push('hugetlb2m');
    this.#backing = this.#one(['anon4k', ...backings]);
    const huge = this.#backing === 'thp' || this.#backing === 'hugetlb2m';
    const room = this.#backing === 'hugetlb2m' ? Math.min(most, bounds.freeHugePages * HUGE_PAGES) : most;
    const sizes = (huge ? [HUGE_PAGES, 2 * HUGE_PAGES, 4 * HUGE_PAGES] : [16, 32, 64, 256, 1024]).filter(
      (pages) => pages <= room,
    );
    this.#pages = this.#one(sizes.length === 0 ? [Math.max(1, room)] : sizes);
    this.#window = this.#pickWindow();
    this.#iommu = this.#one(['type1v2', 'type1']);
    this.#limitPages = this.#pickLimit();
    this.#capIpcLock = bounds.capIpcLock && this.#chance(0.25);
  }

  sequence(seed: number, steps: number): string {
    const header = {
      format: 1,
      iommu: this.#iommu,
      memlock_bytes: this.#limitBytes(),
      cap_ipc_lock: this.#capIpcLock,
      dma_entry_limit: this.bounds.dmaEntryLimit,
      buffer: {
        bytes: this.#pages * PAGE_BYTES,
        backing: this.#backing,
        touch: this.#one(['write', 'write', 'none', 'read']),
        parts: this.#parts(),
      },
      seed,
    };
    const lines = [header, ...Array.from({ length: steps }, () => this.#step())];
    return `${lines.map(lineOf).join('\n')}\n`;
  }

  #one<T>(choices: readonly T[]): T {
    return choices[this.prng.below(choices.length)] as T;
  }

  #chance = (probability: number): boolean => this.prng.float() < probability;

  #pickWindow(): bigint {
    const half = BigInt(Math.floor(this.#pages / 2)) * PAGE;
    const size = BigInt(this.#pages) * PAGE;
    return this.#one([
      0n,
      0n,
      MIB,
      1n << 30n,
      (1n << 32n) - half,
      MSI - half,
      MSI + MIB,
      ...APERTURES.map((a) => a - size),
    ]);
  }

  /** Pages, at or around what the buffer or the present use needs. */
  #pickLimit(): number | null {
    const ceiling = this.bounds.memlockBytes;
    const pages = this.#one([null, null, 0, 1, 8, 16, this.#pages - 1, this.#pages, this.#pages + 1, 2 * this.#pages]);
    if (ceiling === null) return pages;
    const most = Number(ceiling / PAGE);
    return Math.min(pages ?? most, most);
  }

  /** Now and then not a whole number of pages. */
  #limitBytes(): bigint | 'unlimited' {
    if (this.#limitPages === null) return 'unlimited';
    const bytes = BigInt(this.#limitPages) * PAGE;
    const odd = bytes + (this.#chance(0.15) ? this.#one(ODD) : 0n);
    return this.bounds.memlockBytes !== null && odd > this.bounds.memlockBytes ? bytes : odd;
  }

  #parts(): Fields[] {
    if (this.#backing === 'hugetlb2m') return [];
    return Array.from({ length: this.prng.below(3) }, () => this.#piece(this.#one([1, 1, 2, 4])));
  }

  #piece(pages: number): Fields {
    const count = Math.min(pages, this.#pages);
    const backing = this.#one(['hole', 'none', 'ro', 'memfd', 'anon4k']);
    const touch = backing === 'hole' || backing === 'none' ? 'none' : this.#one(['none', 'read', 'write']);
    return { ...this.#range(count), backing, touch };
  }

  #range(pages: number): { readonly offset: bigint; readonly bytes: bigint } {
    const offset = this.#one([0, this.#pages - pages, this.prng.below(this.#pages - pages + 1)]);
    return { offset: BigInt(offset) * PAGE, bytes: BigInt(pages) * PAGE };
  }

  /** Pages left under the limit; null: any number. */
  #room(): number | null {
    return this.#capIpcLock || this.#limitPages === null ? null : this.#limitPages - this.#lockedPages;
  }

  #count(): number {
    const room = this.#room();
    if (room !== null && room >= 0 && this.#chance(0.4)) return this.#within(room + this.#one([-1, 0, 0, 1]));
    return this.#within(this.#one([1, 1, 2, 3, 8, this.#pages / 4, 1 + this.prng.below(this.#pages), this.#pages]));
  }

  #within = (pages: number): number => Math.max(1, Math.min(this.#pages, Math.floor(pages)));

  #step(): Fields {
    if (!this.#open) return this.#reopen();
    const weights = this.#mappings.length < 3 ? [60, 12, 16, 8, 1, 3] : [42, 30, 16, 8, 1, 3];
    const makers = [this.#map, this.#unmap, this.#memory, this.#setLimit, this.#dropCap, this.#close];
    const make = makers[this.prng.weighted(weights)] ?? this.#map;
    return make.call(this);
  }

  #map(): Fields {
    const { offset, bytes } = this.#range(this.#count());
    let iova = this.#window + BigInt(this.prng.below(2 * this.#pages)) * PAGE;
    const beside = this.#mappings.length > 0 && this.#chance(0.45) ? this.#one(this.#mappings) : null;
    if (beside !== null) {
      // Behind it, before it, its own place, over its end.
      const { iova: at, bytes: length } = beside;
      iova = this.#one([at + length, at + length, at < bytes ? 0n : at - bytes, at, at + length - PAGE]);
    }
    const args = { iova, offset, bytes, prot: this.#one(['rw', 'rw', 'rw', 'rw', 'r', 'w']), flags: [] as string[] };
    if (this.#chance(0.08)) return { op: 'map', actor: 'main', ...args, ...this.#badMap(args) };
    this.#mapped(args);
    return { op: 'map', actor: 'main', ...args };
  }

  /** A change that the kernel should refuse. */
  #badMap({ iova, offset, bytes }: Mapping & { readonly offset: bigint }): Fields {
    const odd = this.#one(ODD);
    return this.#one<Fields>([
      { bytes: 0n },
      { bytes: bytes + odd },
      { iova: iova + odd },
      { offset: offset + odd },
      { iova: U64_MAX - PAGE + 1n, bytes: 2n * PAGE },
      { iova: MSI, bytes },
      { iova: MSI - PAGE, bytes: 2n * PAGE },
      { iova: this.#one(APERTURES) - PAGE, bytes: 2n * PAGE },
      { prot: 'none' },
      { flags: [this.#one(['bit3', 'bit7', 'bit31'])] },
      // Over the end of the buffer.
      { offset: BigInt(this.#pages - 1) * PAGE, bytes: 2n * PAGE },
      { argsz: this.#one([0, 8, 31, 4096]) },
    ]);
  }

  #mapped({ iova, bytes }: Mapping): void {
    const pages = Number(bytes / PAGE);
    const room = this.#room();
    const overlaps = this.#mappings.some((m) => m.iova < iova + bytes && iova < m.iova + m.bytes);
    if (overlaps || (room !== null && pages > room) || this.#mappings.length >= this.bounds.dmaEntryLimit) return;
    this.#mappings.push({ iova, bytes });
    this.#lockedPages += pages;
  }

  #unmap(): Fields {
    if (this.#chance(0.03)) return this.#unmapped({ iova: 0n, bytes: 0n, flags: ['ALL'] });
    const { iova, bytes } = this.#mappings.length > 0 ? this.#one(this.#mappings) : { iova: this.#window, bytes: PAGE };
    const other = this.#mappings.length > 0 ? this.#one(this.#mappings) : { iova, bytes };
    const first = iova < other.iova ? iova : other.iova;
    const last = iova + bytes > other.iova + other.bytes ? iova + bytes : other.iova + other.bytes;
    const range = this.#one<Mapping>([
      { iova, bytes },
      { iova, bytes },
      { iova, bytes },
      { iova, bytes: PAGE },
      { iova: iova + bytes - PAGE, bytes: PAGE },
      { iova: iova + bytes - PAGE, bytes: 2n * PAGE },
      { iova: iova < PAGE ? 0n : iova - PAGE, bytes: bytes + 2n * PAGE },
      { iova: first, bytes: last - first },
      { iova: iova + bytes, bytes: PAGE },
    ]);
    if (!this.#chance(0.08)) return this.#unmapped({ ...range, flags: [] });
    const odd = this.#one(ODD);
    return this.#unmapped({
      ...range,
      flags: [],
      ...this.#one<Fields>([
        { bytes: 0n },
        { bytes: bytes + odd },
        { iova: iova + odd },
        { iova: U64_MAX - PAGE + 1n, bytes: this.#one([PAGE, 2n * PAGE]) },
        { iova: 0n, bytes: U64_MAX - PAGE + 1n },
        { iova: PAGE, bytes: U64_MAX - PAGE + 1n },
        { flags: [this.#one(['bit3', 'bit7', 'ALL'])] },
        { argsz: this.#one([0, 23, 4096]) },
      ]),
    });
  }

  #unmapped(args: Mapping & Fields): Fields {
    const all = (args['flags'] as readonly string[]).includes('ALL');
    const end = all ? U64_MAX : args.iova + args.bytes;
    const gone = this.#mappings.filter((m) => m.iova >= args.iova && m.iova + m.bytes <= end);
    this.#mappings = this.#mappings.filter((m) => !gone.includes(m));
    for (const { bytes } of gone) this.#lockedPages -= Number(bytes / PAGE);
    return { op: 'unmap', actor: 'main', ...args };
  }

  #memory(): Fields {
    const range = this.#range(this.#count());
    const flags = this.#chance(0.2) ? ['ONFAULT'] : [];
    const calls: Fields[] = [
      { op: 'mlock', ...range, flags },
      { op: 'mlock', ...range, flags },
      { op: 'munlock', ...range },
      { op: 'munlock', ...range },
    ];
    if (this.#backing !== 'hugetlb2m')
      calls.push(
        { op: 'munmap', ...range },
        { op: 'mmap', ...this.#piece(this.#one([1, 2, 4])) },
        { op: 'mprotect', ...range, prot: this.#one(['none', 'r', 'rw']) },
        { op: 'madvise', ...range, advice: this.#one(['dontneed', 'populate_read', 'populate_write']) },
      );
    const { op, ...fields } = this.#one(calls);
    return { op, actor: 'main', ...fields };
  }

  #setLimit(): Fields {
    const near = this.#chance(0.5) ? this.#lockedPages + this.#one([-1, 0, 1, 4, 16]) : this.#pickLimit();
    const ceiling = this.bounds.memlockBytes;
    const pages = near === null ? null : Math.max(0, near);
    this.#limitPages = ceiling === null || pages === null ? pages : Math.min(pages, Number(ceiling / PAGE));
    return { op: 'setrlimit', actor: 'main', memlock_bytes: this.#limitBytes() };
  }

  #dropCap(): Fields {
    this.#capIpcLock = false;
    return { op: 'drop_cap', actor: 'main' };
  }

  #close(): Fields {
    this.#open = false;
    return { op: 'close', actor: 'main', which: this.#one(['all', 'all', 'container', 'group']) };
  }

  /** What half a close left open is closed first. */
  #reopen(): Fields {
    const next = this.#one<Fields>([
      { op: 'open' },
      { op: 'close', which: 'all' },
      { op: 'munlock', ...this.#range(1) },
    ]);
    if (next['op'] === 'open') {
      this.#open = true;
      this.#mappings = [];
    }
    const { op, ...fields } = next;
    return { op, actor: 'main', ...fields };
  }
}
