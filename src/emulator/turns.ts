/** A turn lasts about this long, ms: short beside any heartbeat, long beside the way through the event loop. */
const TURN_MS = 5;

/** Work done a few milliseconds at a time, in order: heartbeats, messages and Redis get their turn in between. */
export class Turns {
  #queue: (() => void)[] = [];
  #next = 0;
  #scheduled = false;

  add(work: () => void): void {
    this.#queue.push(work);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#take());
  }

  #take(): void {
    const until = performance.now() + TURN_MS;
    while (this.#next < this.#queue.length) {
      const work = this.#queue[this.#next] as () => void;
      this.#next += 1;
      work();
      if (performance.now() >= until) break;
    }
    this.#scheduled = this.#next < this.#queue.length;
    if (this.#scheduled) {
      setImmediate(() => this.#take());
      return;
    }
    this.#queue = [];
    this.#next = 0;
  }
}
