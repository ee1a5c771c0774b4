import { U64_MAX } from '../base/units.ts';
import type { Arena, Ref } from './arena.ts';
import { MM, word64 } from './layout.ts';

const WRAPPED = 1n << 63n;

/** Pages charged, as the kernel stores them: unsigned 64 bit. */
export function lockedVm(a: Arena, mm: Ref): bigint {
  return a.getU64(mm, MM.lockedVm);
}

/** locked_vm += npage (may be negative), wrapping as an unsigned long does. The caller holds mmap_sem for write. */
export function addLockedVm(a: Arena, mm: Ref, npage: number): void {
  a.addU64(mm, MM.lockedVm, BigInt(npage));
}

/** locked_vm as the atomic counter that variant J makes of it: the new value. */
export function addLockedVmAtomic(a: Arena, mm: Ref, npage: number): bigint {
  return (Atomics.add(a.u64, word64(mm, MM.lockedVm), BigInt.asUintN(64, BigInt(npage))) + BigInt(npage)) & U64_MAX;
}

/** locked_vm from `seen` to `seen` + npage, unless it is no longer `seen`. */
export function compareExchangeLockedVm(a: Arena, mm: Ref, seen: bigint, npage: number): boolean {
  const next = (seen + BigInt(npage)) & U64_MAX;
  return Atomics.compareExchange(a.u64, word64(mm, MM.lockedVm), seen, next) === seen;
}

/**
 * `times` atomic additions of `pages`, as variant J charges chunk by chunk; stops before one that would exceed the
 * limit, if there is one. Returns those done.
 */
export function chargeRepeatedly(a: Arena, mm: Ref, pages: number, times: number, limitPages: bigint | null): number {
  for (let n = 0; n < times; n += 1) {
    if (limitPages !== null && exceeds(lockedVm(a, mm), pages, limitPages)) return n;
    if (exceeds(addLockedVmAtomic(a, mm, pages), 0, limitPages ?? U64_MAX)) {
      addLockedVmAtomic(a, mm, -pages);
      return n;
    }
  }
  return times;
}

/** Whether V + n > L, in the kernel's unsigned arithmetic. */
export function exceeds(lockedVmPages: bigint, npage: number, limitPages: bigint): boolean {
  return ((lockedVmPages + BigInt(npage)) & U64_MAX) > limitPages;
}

/** A value that went below zero: no machine has 2^63 pages. */
export function isWrapped(lockedVmPages: bigint): boolean {
  return lockedVmPages >= WRAPPED;
}

/**
 * How many of `want` further pages the test "V + 1 > L" lets through one by one when V does not move, `have` pages
 * having passed already.
 */
export function allowance(lockedVmPages: bigint, have: number, limitPages: bigint, want: number): number {
  if (!exceeds(lockedVmPages, have + want, limitPages)) {
    // The sum may have wrapped past 2^64 and look small; then the first page decides.
    return exceeds(lockedVmPages, have + 1, limitPages) ? 0 : want;
  }
  if (lockedVmPages > limitPages) return 0;
  return Math.max(0, Number(limitPages - lockedVmPages) - have);
}
