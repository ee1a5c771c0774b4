/** Hosts and claims for tests. */
import type { Host } from '../../src/kernel/host.ts';
import type { Claim } from '../../src/kernel/safety.ts';

/** A machine that was booted for pinstorm alone. */
export const OWN_MACHINE: Host = {
  release: '6.12.1',
  groups: new Map(),
  containerNode: 'usable',
  dmaEntryLimit: 65535,
  memoryLeftBytes: 2 ** 30,
  freeHugePages: 96,
  thp: true,
  memlockBytes: null,
  capIpcLock: true,
  ownMachine: true,
};

export const claimed = (host: Host, groups = 2): Claim => ({
  host,
  groups: Array.from({ length: groups }, (_, i) => ({ number: 7 + i, device: `0000:00:0${3 + i}.0` })),
  bufferBytes: 64 * 2 ** 20,
});
