export interface RwsemRules {
  /** Write-trylock succeeds past waiters that hold nothing (up to 5.1). */
  readonly trylockPassesWaiters: boolean;
  /** Long waiters have the lock handed over (5.2+). */
  readonly handoff: boolean;
  /** Readers woken at once, at most. */
  readonly readersWokenMax: number;
  /**
   * A reader may pass waiters while nobody holds the lock and no hand-off is asked for (5.11+): the kernel's test for
   * more than one reader counts the newcomer.
   */
  readonly readerSteal: boolean;
}

export const RWSEM_4_10: RwsemRules = {
  trylockPassesWaiters: true,
  handoff: false,
  readersWokenMax: Number.MAX_SAFE_INTEGER,
  readerSteal: false,
};
export const RWSEM_5_3: RwsemRules = {
  trylockPassesWaiters: false,
  handoff: true,
  readersWokenMax: 256,
  readerSteal: false,
};
export const RWSEM_5_11: RwsemRules = { ...RWSEM_5_3, readerSteal: true };
