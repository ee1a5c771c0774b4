/**
 * Pin loops that the virtual driver repeats by itself. Helper threads that pin one buffer meet at one mmap_sem: each
 * chunk is work that only its thread sees, a short write section, and such work again. While nothing else happens, a
 * chunk is one event, at its lock; the thread's path is not resumed. As soon as a chunk is not plain (the lock is not
 * free, somebody may look into the section, the limit is near, the address space is about to change) the path takes
 * over: at the lock, or from the chunk's start, for up to its lock a chunk has done nothing that another CPU could have
 * seen.
 *
 * Counters, the mapping and locked_vm lag behind while threads repeat chunks; they are settled before any path of the
 * group goes on and before the host itself does anything.
 */
import type { Arena, Ref } from '../../model/arena.ts';
import type { ChunkLoop } from '../../model/chunk-loop.ts';
import { addLockedVm, lockedVm } from '../../model/locked-vm.ts';
import { isFree } from '../../model/rwsem.ts';
import { S, stepSet } from '../../model/steps.ts';
import type { HostThread, ThreadGroup } from './host-thread.ts';
import type { Host } from './host.ts';

/** Steps of pinning, unpinning and accounting: none changes what an address space maps, nor a limit or a capability. */
const harmless = stepSet([
  S.Syscall,
  S.CopyFromUser,
  S.MutexLock,
  S.MutexUnlock,
  S.DownWrite,
  S.DownWriteKillable,
  S.DownWriteTrylock,
  S.UpWrite,
  S.DownRead,
  S.DownReadTrylock,
  S.UpRead,
  S.LockedVmRead,
  S.LockedVmWrite,
  S.GetTaskMm,
  S.MmgetNotZero,
  S.Mmput,
  S.Capable,
  S.NsCapable,
  S.HasCapability,
  S.Rlimit,
  S.FindDma,
  S.FindVpfn,
  S.LinkDma,
  S.UnlinkDma,
  S.Kmalloc,
  S.Kfree,
  S.QueueWork,
  S.WorkStart,
  S.GupFast,
  S.PutPage,
  S.IommuMap4K,
  S.IommuMap2M,
  S.IommuMap1G,
  S.IommuUnmap4K,
  S.IommuUnmap2M,
  S.IommuUnmap1G,
  S.IotlbSync,
  S.UserWork,
]);

/** locked_vm of one address space, as the loops that charge it see it. */
interface Account {
  /** Its value in pages, with what is not written yet; exact, or too large to matter. */
  pages: number;
  /** Not written yet. */
  unwritten: number;
  /** `pages` is up to date. */
  fresh: boolean;
  /** Up to here no loop that charges it can be refused, pages. */
  guardPages: number;
}

/** One thread's loop. */
interface Run {
  readonly thread: HostThread;
  readonly loop: ChunkLoop;
  readonly account: Account;
  /** Start of the chunk it is in, and when it comes to its lock, ns. */
  startNs: number;
  lockNs: number;
}

/** The threads of one guest: nobody else touches its address spaces. */
export class ChunkLoops implements ThreadGroup {
  readonly threads: HostThread[] = [];
  /** Deferred updates that no worker has taken up. */
  queuedWork = 0;
  readonly #runs: Run[] = [];
  readonly #accounts = new Map<Ref, Account>();

  constructor(
    private readonly arena: Arena,
    private readonly host: Host,
  ) {}

  /** How many of them repeat chunks. */
  get looping(): number {
    return this.#runs.length;
  }

  /** `thread`, at the start of a chunk, hands its loop over. False: this is not the moment. */
  start(thread: HostThread, loop: ChunkLoop): boolean {
    let account = this.#accounts.get(loop.mm);
    if (account === undefined) {
      account = { pages: 0, unwritten: 0, fresh: false, guardPages: Infinity };
      this.#accounts.set(loop.mm, account);
    }
    // The path that hands it over may have changed it just now, and may again before it yields.
    if (Number(lockedVm(this.arena, loop.mm)) + loop.pages > loop.limitPages) return false;
    const lockNs = thread.localNs + loop.unit.lockNs;
    this.#runs.push({ thread, loop, account, startNs: thread.localNs, lockNs });
    this.#guard(account);
    thread.repeating = true;
    thread.localNs = lockNs;
    return true;
  }

  /**
   * See HostThread.chunkDue: `thread` has come to the lock of its chunk. Where nobody else is near, all loops of the
   * group go on from here, chunk by chunk in the order of time. False when `thread` repeats none.
   */
  due(thread: HostThread): boolean {
    const own = this.#find(thread);
    if (own === undefined) return false;
    const { host } = this;
    const alone = host.isAlone(this);
    const runs = alone ? [...this.#runs] : [own];
    let untilNs = alone ? host.quietNs(this.threads, null) : host.isolatedNs(thread);
    for (const { account, loop } of runs) {
      this.#refresh(account, loop.mm);
      if (!isFree(this.arena, loop.mm)) untilNs = -Infinity;
    }
    const { ownNs } = host;
    for (;;) {
      // The loop that comes first, and when the next one does.
      let run = runs[0] as Run;
      let nextNs = Infinity;
      for (let i = 1; i < runs.length; i += 1) {
        const other = runs[i] as Run;
        const earlier =
          other.lockNs < run.lockNs || (other.lockNs === run.lockNs && other.thread.slot < run.thread.slot);
        nextNs = Math.min(nextNs, earlier ? run.lockNs : other.lockNs);
        if (earlier) run = other;
      }
      const ended = this.#repeat(run, Math.min(untilNs, nextNs), ownNs);
      if (ended === undefined) {
        // Not a plain chunk. It is `thread`'s own turn only in the beginning; others have an event of theirs.
        if (run !== own || own.thread.localNs !== own.lockNs) break;
        this.#locked(own);
        return false;
      }
      if (!ended) continue;
      // From its chunk's end on the path goes on.
      this.#end(run, 'whole');
      run.lockNs = run.startNs;
      if (run !== own) this.#reschedule(run);
      runs.splice(runs.indexOf(run), 1);
      untilNs = Math.min(untilNs, run.startNs);
      if (runs.length === 0) break;
    }
    for (const run of runs) if (run !== own) this.#reschedule(run);
    thread.localNs = own.lockNs;
    return true;
  }

  /**
   * Does the next chunk of a loop, and more while none of another loop comes between. True: that was the last;
   * undefined: not now.
   */
  #repeat(run: Run, untilNs: number, ownNs: number): boolean | undefined {
    const { loop, account } = run;
    const { unit, pages } = loop;
    const lockNs = this.host.lines.usableNs(run.thread, loop.mm, run.lockNs);
    const sectionEndNs = lockNs + unit.releaseNs - unit.lockNs;
    const chunkEndNs = lockNs + unit.ns - unit.lockNs;
    const headroom = account.guardPages - account.pages;
    if (sectionEndNs >= untilNs || chunkEndNs >= ownNs || headroom < pages) return undefined;
    this.host.lines.use(run.thread, loop.mm, run.lockNs);
    let chunks = 1;
    if (sectionEndNs + unit.ns < untilNs) {
      chunks += Math.min(
        loop.left - 1,
        further(sectionEndNs, untilNs, unit.ns),
        further(chunkEndNs, ownNs, unit.ns),
        Math.floor(headroom / pages) - 1,
      );
    }
    account.pages += chunks * pages;
    account.unwritten += chunks * pages;
    loop.done += chunks;
    loop.left -= chunks;
    run.startNs = chunkEndNs + (chunks - 1) * unit.ns;
    run.lockNs = run.startNs + unit.lockNs;
    return loop.left === 0;
  }

  /**
   * The chunk at whose lock the loop is becomes its path's: its own work is done, from the accounting on it goes step
   * by step.
   */
  #locked(run: Run): void {
    const { thread, loop, account } = run;
    if (account.guardPages - account.pages < loop.pages) this.#nearLimit(account, thread, thread.localNs, true);
    this.#end(run, 'locked');
    thread.localNs -= loop.unit.lockNs - loop.unit.accountNs;
  }

  #reschedule(run: Run): void {
    if (run.thread.localNs === run.lockNs) return;
    run.thread.localNs = run.lockNs;
    this.host.reschedule(run.thread);
  }

  /** A path of the group announces `step` at `nowNs`: loops that might notice its effect give way first. */
  announced(step: number, nowNs: number): void {
    if (harmless[step] === 1) return;
    // Each takes itself out of the list.
    for (const run of this.#runs.slice()) this.#rewind(run, nowNs);
  }

  /** The path of `thread` has changed locked_vm of `mm` at `nowNs`. */
  charged(thread: HostThread, mm: Ref, nowNs: number): void {
    const account = this.#accounts.get(mm);
    if (account === undefined) return;
    account.pages = Number(lockedVm(this.arena, mm));
    this.#nearLimit(account, thread, nowNs, false);
  }

  /** `thread` is about to lose its CPU at `nowNs`. */
  leave(thread: HostThread, nowNs: number): void {
    const run = this.#find(thread);
    if (run !== undefined) this.#rewind(run, nowNs);
  }

  /** Writes down what the loops have done. The values are the arena's again, and may change. */
  settle(): void {
    if (this.#accounts.size === 0) return;
    for (const { loop } of this.#runs) loop.settle();
    for (const [mm, account] of this.#accounts) {
      this.#write(account, mm);
      account.fresh = false;
    }
  }

  #guard(account: Account): void {
    account.guardPages = Infinity;
    for (const { account: same, loop } of this.#runs) {
      if (same === account) account.guardPages = Math.min(account.guardPages, loop.limitPages - loop.pages);
    }
  }

  #find(thread: HostThread): Run | undefined {
    for (const run of this.#runs) if (run.thread === thread) return run;
    return undefined;
  }

  #refresh(account: Account, mm: Ref): void {
    if (account.fresh) return;
    account.pages = Number(lockedVm(this.arena, mm));
    account.fresh = true;
  }

  #write(account: Account, mm: Ref): void {
    if (account.unwritten === 0) return;
    addLockedVm(this.arena, mm, account.unwritten);
    account.unwritten = 0;
  }

  /**
   * Takes loops that charge `account` and would be refused now back to their paths, unless they have made their test.
   */
  #nearLimit(account: Account, by: HostThread, nowNs: number, all: boolean): void {
    for (const run of this.#runs.slice()) {
      if (run.account !== account || run.thread === by) continue;
      if (!all && account.pages + run.loop.pages <= run.loop.limitPages) continue;
      const testNs = run.startNs + run.loop.unit.testNs;
      if (testNs < nowNs || (testNs === nowNs && !all && run.thread.slot < by.slot)) continue;
      this.#rewind(run, nowNs);
    }
  }

  #rewind(run: Run, nowNs: number): void {
    this.#end(run, 'rewound');
    run.thread.localNs = run.startNs;
    this.host.catchUp(run.thread, nowNs);
  }

  #end(run: Run, end: ChunkLoop['end']): void {
    this.#runs.splice(this.#runs.indexOf(run), 1);
    this.#guard(run.account);
    run.thread.repeating = false;
    run.loop.end = end;
    run.loop.settle();
    this.#write(run.account, run.loop.mm);
  }
}

/** How many more periods end before `untilNs`, after one that ends at `endNs`. */
function further(endNs: number, untilNs: number, periodNs: number): number {
  if (untilNs === Infinity || periodNs === 0) return Number.MAX_SAFE_INTEGER;
  return Math.ceil((untilNs - endNs) / periodNs) - 1;
}
