/**
 * Does the steps of a sequence on the running kernel, one after the other, and writes down what it answered, with one
 * thread of one process. It keeps the rules of all recordings: the buffer starts at 2^40, populating it ignores errors,
 * `open` answers EALREADY while container or group are still open.
 */
import { EALREADY, EBADF, EBUSY, errnoName } from '../base/errno.ts';
import { EXIT, UserError } from '../base/errors.ts';
import { lineOf } from '../transcript/fields.ts';
import { type Action, addressInBuffer, flagBits, type Piece, type Sequence } from '../transcript/transcript.ts';
import {
  ADVICE,
  type Libc,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_HUGETLB,
  MAP_PRIVATE,
  MAP_SHARED,
  MLOCK_ONFAULT,
  PROT,
} from './libc.ts';
import { windowOf } from './possible.ts';
import { ProcessStatus } from './status.ts';
import { Container, type IommuInfo, MAP_FLAGS, UNMAP_FLAGS } from './vfio.ts';

/** Where a recording is made. */
export interface Place {
  /** As uname tells it. */
  readonly kernel: string;
  readonly groups: readonly { readonly number: number; readonly device: string }[];
  /** Whether this process may have CAP_IPC_LOCK. */
  readonly capIpcLock: boolean;
  /** Sets dma_entry_limit; null where it must not be set. */
  readonly setEntryLimit: ((limit: number) => void) | null;
}

interface Answer {
  readonly ret: number;
  readonly sizeBytes?: bigint;
}

const CLOSED: { readonly number: number; readonly device: string } = { number: -1, device: '' };
const ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

/**
 * Records a sequence. What it mapped, opened and set is taken back at the end, also when it fails.
 * @returns the recording, as `conform` reads it. @throws UserError 104 when the kernel does not let it begin
 */
export function record(sequence: Sequence, place: Place, libc: Libc): string {
  const recorder = new Recorder(sequence, place, libc);
  try {
    recorder.begin();
    const lines = sequence.steps.map(({ action, text }) => `${text.slice(0, -1)},"result":${recorder.step(action)}}`);
    return `${[recorder.header(), ...lines].join('\n')}\n`;
  } finally {
    recorder.end();
  }
}

class Recorder {
  readonly #containers: readonly Container[];
  readonly #status: ProcessStatus;
  readonly #limit: { readonly soft: bigint; readonly hard: bigint };
  #memfd = -1;
  #deviceFd = -1;
  #info: IommuInfo | null = null;

  constructor(
    private readonly sequence: Sequence,
    private readonly place: Place,
    private readonly libc: Libc,
  ) {
    this.#containers = [0, 1].map((i) => new Container(libc, (place.groups[i] ?? CLOSED).number));
    this.#status = new ProcessStatus(libc);
    const limit = libc.memlock(null);
    if (typeof limit === 'number') throw new Error(`RLIMIT_MEMLOCK cannot be read: ${errnoName(limit)}`);
    this.#limit = limit;
  }

  begin(): void {
    const { start } = this.sequence;
    const already = this.#status.vmLckKb();
    if (already !== 0n) throw new Error(`${already} kB are locked before ${this.sequence.file} begins`);
    this.place.setEntryLimit?.(start.dmaEntryLimit);
    this.#must('setrlimit', this.#setLimit(start.memlockBytes));
    for (let i = 0; i < start.containers; i += 1) this.#openFirst(i);
    this.#info = this.#container(0).info();
    this.#memfd = this.#must('memfd_create', this.libc.memfdCreate('pinstorm'));
    this.#must('ftruncate', this.libc.ftruncate(this.#memfd, start.buffer.bytes));
    this.#reserve();
    this.#must(`mmap (${start.buffer.backing})`, this.#mmap(start.buffer));
    // A part that cannot be placed leaves what was there: pieces of huge pages cannot be replaced, for one.
    for (const piece of start.parts) this.#mmap(piece);
    if (this.place.capIpcLock) this.#must('capset', this.libc.setCapIpcLock(start.capIpcLock));
  }

  /** @returns the result, as JSON */
  step(action: Action): string {
    const { ret, sizeBytes } = this.#do(action);
    return lineOf({
      errno: errnoName(ret),
      size: action.op === 'unmap' && ret >= 0 ? sizeBytes : undefined,
      vmlck_kb: { main: this.#status.vmLckKb() },
      avail: this.#avail(0),
      avail2: this.sequence.start.containers === 2 ? this.#avail(1) : undefined,
    });
  }

  header(): string {
    const before = lineOf({ format: 1, kernel: this.place.kernel });
    const behind = lineOf({ page_sizes: this.#info?.pageSizes ?? 0n, iova_ranges: this.#info?.iovaRanges ?? [] });
    return `${before.slice(0, -1)},${this.sequence.text.slice(1, -1)},${behind.slice(1)}`;
  }

  end(): void {
    const { buffer } = this.sequence.start;
    for (const container of this.#containers) container.closeContainer();
    this.#closeDevice();
    for (const container of this.#containers) container.closeGroup();
    const window = windowOf(buffer);
    this.libc.munmap(window.start, window.bytes);
    if (this.#memfd >= 0) this.libc.close(this.#memfd);
    if (this.place.capIpcLock) this.libc.setCapIpcLock(true);
    this.libc.memlock(this.#limit);
    this.#status.close();
  }

  #must(call: string, ret: number): number {
    if (ret >= 0) return ret;
    throw new UserError(
      EXIT.invalid,
      `${this.sequence.file}:1: ${call}: ${errnoName(ret)}`,
      'the kernel does not let this sequence begin; leave the file out',
    );
  }

  #openFirst(index: number): void {
    const { iommu } = this.sequence.start;
    const ret = this.#container(index).open(iommu);
    const group = (this.place.groups[index] ?? CLOSED).number;
    if (ret === -EBUSY)
      throw new UserError(
        EXIT.invalid,
        `group ${group} is in use: another process has it open`,
        `a guest may run with its device; as root, fuser -v /dev/vfio/${group} shows who; name another group`,
      );
    if (ret < 0)
      throw new UserError(
        EXIT.invalid,
        `group ${group} cannot be opened with ${iommu}: ${errnoName(ret)}`,
        'dmesg may say why; the device must be alone in its group, and behind an IOMMU',
      );
  }

  /** Nobody else may have anything in the window; from here on it is ours. */
  #reserve(): void {
    const { start, bytes } = windowOf(this.sequence.start.buffer);
    const ret = this.libc.mmap(start, bytes, PROT.none, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0n);
    if (ret < 0) throw new Error(`the addresses of the buffer are taken: ${errnoName(ret)}`);
    this.libc.munmap(start, bytes);
  }

  #container = (index: number): Container => this.#containers[index] as Container;

  /** The hard limit stays: it could not be raised again. */
  #setLimit(soft: bigint): number {
    const ret = this.libc.memlock({ soft, hard: this.#limit.hard });
    return typeof ret === 'number' ? ret : 0;
  }

  #do(action: Action): Answer {
    const { libc } = this;
    const at = 'offset' in action && action.offset !== undefined ? addressInBuffer(action.offset) : 0n;
    switch (action.op) {
      case 'map': {
        const { container, argsz, iova, bytes } = action;
        const flags = prots(action.prot) | flagBits(action.flags, MAP_FLAGS);
        return { ret: this.#container(container).map({ argsz, flags, vaddr: action.vaddr ?? at, iova, bytes }) };
      }
      case 'unmap': {
        const { container, argsz, iova, bytes } = action;
        return this.#container(container).unmap({ argsz, flags: flagBits(action.flags, UNMAP_FLAGS), iova, bytes });
      }
      case 'setrlimit':
        return { ret: this.#setLimit(action.memlockBytes) };
      case 'mlock':
        return { ret: action.onFault ? libc.mlock2(at, action.bytes, MLOCK_ONFAULT) : libc.mlock(at, action.bytes) };
      case 'munlock':
        return { ret: libc.munlock(at, action.bytes) };
      case 'mmap':
        return { ret: this.#mmap(action.piece) };
      case 'munmap':
        return { ret: libc.munmap(at, action.bytes) };
      case 'mprotect':
        return { ret: libc.mprotect(at, action.bytes, PROT[action.prot]) };
      case 'madvise':
        return { ret: libc.madvise(at, action.bytes, ADVICE[action.advice]) };
      case 'drop_cap':
        return { ret: this.place.capIpcLock ? libc.setCapIpcLock(false) : 0 };
      case 'open':
        return { ret: this.#open(action.container, action.iommu) };
      case 'close':
        this.#close(action.which, action.container);
        return { ret: 0 };
      case 'set_dma_entry_limit':
        this.place.setEntryLimit?.(action.value);
        return { ret: 0 };
      default:
        // checkPossible lets none of the others through.
        throw new Error(`${this.sequence.file}: ${action.op} cannot be recorded`);
    }
  }

  #open(index: number, iommu = this.sequence.start.iommu): number {
    const container = this.#container(index);
    return container.fd >= 0 || container.groupFd >= 0 ? -EALREADY : container.open(iommu);
  }

  #close(which: 'container' | 'group' | 'all', index: number): void {
    const container = this.#container(index);
    if (which !== 'group') container.closeContainer();
    if (which === 'container') return;
    if (index === 0) this.#closeDevice();
    container.closeGroup();
  }

  #closeDevice(): void {
    if (this.#deviceFd >= 0) this.libc.close(this.#deviceFd);
    this.#deviceFd = -1;
  }

  #mmap(piece: Piece): number {
    const { libc } = this;
    const at = addressInBuffer(piece.offset);
    const { bytes } = piece;
    const prot = piece.prot === undefined ? PROT.rw : PROT[piece.prot];
    const anonymous = (as: number): number => libc.mmap(at, bytes, as, ANONYMOUS, -1, 0n);
    const map = (): number => {
      switch (piece.backing) {
        case 'anon4k':
        case 'thp': {
          const ret = anonymous(prot);
          return ret < 0 ? ret : libc.madvise(at, bytes, piece.backing === 'thp' ? ADVICE.hugepage : ADVICE.nohugepage);
        }
        case 'hugetlb2m':
          return libc.mmap(at, bytes, prot, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1, 0n);
        case 'memfd':
          return libc.mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED, this.#memfd, piece.source ?? piece.offset);
        case 'bar':
          return libc.mmap(at, bytes, prot, MAP_SHARED | MAP_FIXED, this.#device(), piece.source ?? 0n);
        case 'hole':
          return libc.munmap(at, bytes);
        default:
          return anonymous(piece.backing === 'ro' ? PROT.r : PROT.none);
      }
    };
    const ret = map();
    if (ret >= 0 && piece.touch !== 'none')
      libc.madvise(at, bytes, piece.touch === 'write' ? ADVICE.populate_write : ADVICE.populate_read);
    return ret;
  }

  /** Opened once its memory is wanted, and only of group 0. */
  #device(): number {
    if (this.#container(0).groupFd < 0) return -EBADF;
    if (this.#deviceFd < 0) this.#deviceFd = this.#container(0).device((this.place.groups[0] ?? CLOSED).device);
    return this.#deviceFd;
  }

  #avail(index: number): number | null {
    return this.#container(index).info()?.avail ?? null;
  }
}

const prots = (prot: keyof typeof PROT): number =>
  (prot.includes('r') ? MAP_FLAGS.r : 0) | (prot.includes('w') ? MAP_FLAGS.w : 0);
