/** Asks every simulation that runs or is still to run to end; may be set from any thread. */
export class StopSignal {
  readonly word = new Int32Array(new SharedArrayBuffer(4));

  set(): void {
    Atomics.store(this.word, 0, 1);
  }

  get isSet(): boolean {
    return Atomics.load(this.word, 0) !== 0;
  }
}
