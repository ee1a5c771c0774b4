/** The cache lines of lock words: the CPU that used one last has it, another one waits for its transfer. */
import type { Ref } from '../../model/arena.ts';
import type { HostThread } from './host-thread.ts';

export class LockLines {
  readonly #lineNs: number;
  /** Who used the lock word of an address space last, and when its cache line is free again. */
  readonly #lines = new Map<Ref, { user: HostThread; freeNs: number }>();

  /** @param lineNs the transfer of a line; 0: lines cost nothing. */
  constructor(lineNs: number) {
    this.#lineNs = lineNs;
  }

  /** `thread` uses the lock word of `mm` at `ns`: when it has its cache line. */
  use(thread: HostThread, mm: Ref, ns: number): number {
    if (this.#lineNs === 0) return ns;
    const line = this.#lines.get(mm);
    if (line === undefined) {
      this.#lines.set(mm, { user: thread, freeNs: ns });
      return ns;
    }
    const atNs = this.usableNs(thread, mm, ns);
    if (line.user !== thread) {
      line.user = thread;
      line.freeNs = atNs;
    }
    return atNs;
  }

  /** When `thread` would have the cache line of the lock word of `mm` if it used it at `ns`. */
  usableNs(thread: HostThread, mm: Ref, ns: number): number {
    const line = this.#lineNs === 0 ? undefined : this.#lines.get(mm);
    return line === undefined || line.user === thread ? ns : Math.max(line.freeNs, ns) + this.#lineNs;
  }

  /** Whether `thread` can use the lock word of `mm` without a transfer. */
  isWith(thread: HostThread, mm: Ref): boolean {
    return this.#lineNs === 0 || this.#lines.get(mm)?.user === thread;
  }
}
