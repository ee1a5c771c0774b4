/**
 * The event queue of the virtual driver: total order (time, slot, sequence), so that nothing depends on how a heap
 * breaks ties, nor on when an event was queued: whoever runs ahead queues its events at other moments than whoever goes
 * step by step. The heap orders by time alone; events of one instant are taken out together and handed on in key order.
 */
import FlatQueue from 'flatqueue';

/** Slots (threads and callbacks) one queue tells apart, and events it can order in its life. */
export const SLOTS_MAX = 2 ** 18;
const SEQUENCES_MAX = 2 ** 34;

/** Slot and sequence of an event in one exact integer below 2^53. */
export type EventKey = number;

/** The slot an event is for. */
export const slotOf = (key: EventKey): number => Math.floor(key / SEQUENCES_MAX);

export class EventQueue {
  readonly #heap = new FlatQueue<EventKey>();
  /** Events of the instant `#tiesNs` that wait for their turn, the next one last. */
  readonly #ties: EventKey[] = [];
  #tiesNs = 0;
  #sequence = 0;
  /** When the event taken last was due. */
  poppedNs = 0;

  /** Queues an event; `ns` must not lie before `poppedNs`. Returns its key. */
  push(ns: number, slot: number): EventKey {
    this.#sequence += 1;
    if (this.#sequence >= SEQUENCES_MAX) throw new RangeError('more than 2^34 events in one emulated host');
    const key = slot * SEQUENCES_MAX + this.#sequence;
    if (this.#ties.length > 0 && ns === this.#tiesNs) this.#insertTie(key);
    else this.#heap.push(key, ns);
    return key;
  }

  /** When the next event is due; Infinity if there is none. */
  peekNs(): number {
    if (this.#ties.length > 0) return this.#tiesNs;
    return this.#heap.length === 0 ? Infinity : (this.#heap.values[0] as number);
  }

  /** Takes the next event; undefined if there is none. */
  pop(): EventKey | undefined {
    const ties = this.#ties;
    if (ties.length > 0) {
      this.poppedNs = this.#tiesNs;
      return ties.pop();
    }
    const heap = this.#heap;
    if (heap.length === 0) return undefined;
    const ns = heap.values[0] as number;
    this.poppedNs = ns;
    const key = heap.pop() as EventKey;
    if (heap.length === 0 || heap.values[0] !== ns) return key;
    ties.push(key);
    while (heap.length > 0 && heap.values[0] === ns) ties.push(heap.pop() as EventKey);
    ties.sort((x, y) => y - x);
    this.#tiesNs = ns;
    return ties.pop();
  }

  /** Keys are unique, so the place is. */
  #insertTie(key: EventKey): void {
    const ties = this.#ties;
    let at = ties.length;
    ties.push(key);
    for (; at > 0 && (ties[at - 1] as number) < key; at -= 1) ties[at] = ties[at - 1] as number;
    ties[at] = key;
  }
}
