/** What the kernel says of this process in /proc/self/status, read through one descriptor that stays open. */
import { type Libc, O_RDONLY } from './libc.ts';

const STATUS = '/proc/self/status';

export class ProcessStatus {
  readonly #fd: number;
  readonly #bytes = new Uint8Array(new ArrayBuffer(16_384));

  constructor(private readonly libc: Libc) {
    this.#fd = libc.open(STATUS, O_RDONLY);
    if (this.#fd < 0) throw new Error(`${STATUS} cannot be opened: errno ${-this.#fd}`);
  }

  /** VmLck, KiB: what is counted as locked. */
  vmLckKb(): bigint {
    const read = this.libc.readStart(this.#fd, this.#bytes);
    const line = /^VmLck:\s+(\d+) kB$/m.exec(new TextDecoder().decode(this.#bytes.subarray(0, Math.max(0, read))));
    if (line === null) throw new Error(`${STATUS} has no VmLck`);
    return BigInt(line[1] as string);
  }

  close(): void {
    this.libc.close(this.#fd);
  }
}
