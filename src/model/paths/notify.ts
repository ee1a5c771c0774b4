/**
 * An unmap meets a mapping with externally pinned pages: the container's lock is dropped, the mdev drivers are asked to
 * unpin, the lock is taken again and the search restarts. The eleventh time in a row the kernel gives up with BUG_ON.
 * Source: drivers/vfio/vfio_iommu_type1.c 4.10 to 6.12.
 *
 * The driver's callback runs in the unmapping task, as vendor drivers have it: it unpins every page it holds in the
 * range.
 */
import type { Ref } from '../arena.ts';
import type { Ctx, Path } from '../env.ts';
import { CONTAINER } from '../layout.ts';
import { mutexLock, mutexUnlock } from '../mutex.ts';
import { S } from '../steps.ts';
import { driverUnpins, MdevDriver, pinnedPages } from './external.ts';

const RETRIES_MAX = 10;

/** Thrown where the kernel would stop the machine: a driver that never unpins. */
export class KernelBug extends Error {
  constructor(what: string) {
    super(`the kernel would BUG here: ${what}`);
    this.name = 'KernelBug';
  }
}

export function* notifyUnmap(k: Ctx, container: Ref, dma: Ref, attempt: number): Path<void> {
  const a = k.arena;
  const pages: number[] = [];
  if (a.get(container, CONTAINER.notifier) === MdevDriver.Unpins) pinnedPages(a, dma, pages);
  yield* mutexUnlock(k, container);
  // With the lock let go, so that the other actors of the dead machine can end.
  if (attempt > RETRIES_MAX) throw new KernelBug('an mdev driver did not unpin after ten notifications');
  if (k.at(S.Notify, container)) yield;
  yield* driverUnpins(k, container, pages);
  yield* mutexLock(k, container);
}
