/** What an emulated host is like. */
export interface HostOptions {
  /** CPUs; null = as many as there are threads. */
  readonly cpus: number | null;
  /** How long a thread may keep a CPU that others want, ns. */
  readonly sliceNs: number;
  /** From being woken to running, ns. */
  readonly wakeUpNs: number;
  /** From the release of a lock to a spinning waiter's next try, ns. */
  readonly spinNs: number;
  /** Transfer of a lock word's cache line from the CPU that used it last, ns. */
  readonly lineNs: number;
  /** How long 4 KiB of clearing keeps the memory of all CPUs busy, ns. */
  readonly memoryNs: number;
  /** Work items of one pool that may be under way at once. */
  readonly workMaxActive: number;
  /** Asked now and then, also in the middle of operations: whether the host is to stay as it is, for good. */
  readonly halt?: (() => boolean) | undefined;
  /** Every step is an event: slow, for the proof that running ahead changes nothing. */
  readonly stepByStep?: boolean;
}
