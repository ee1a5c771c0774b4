/** Asks simulations to end; may be set from any thread. */

/** What the word of a signal says. */
export const Stop = {
  /** Nobody has asked. */
  No: 0,
  /** Hosts end in order: guests begin no further operation. */
  InOrder: 1,
  /** Hosts end as they are, in the middle of operations. */
  Now: 2,
} as const;

/** How long hosts may take to end in order, ms of real time: an operation of a large guest may take minutes to simulate. */
const GRACE_MS = 400;

export class StopSignal {
  readonly word = new Int32Array(new SharedArrayBuffer(4));

  /** Every host that runs or is still to run ends: in order, or as it is when that takes too long. */
  set(graceMs = GRACE_MS): void {
    if (this.isSet) return;
    Atomics.store(this.word, 0, Stop.InOrder);
    setTimeout(() => Atomics.store(this.word, 0, Stop.Now), graceMs).unref();
  }

  get isSet(): boolean {
    return Atomics.load(this.word, 0) !== Stop.No;
  }
}
