/**
 * A set of operation ids that are dense and arrive almost in order: everything below a mark, and the few above it. Its
 * size is that of the disorder, not of the run.
 */
export class IdSet {
  #mark: number;
  readonly #above = new Set<number>();

  constructor(readonly first: number) {
    this.#mark = first;
  }

  /** Ids in the set. */
  get size(): number {
    return this.#mark - this.first + this.#above.size;
  }

  has(id: number): boolean {
    return id < this.#mark ? id >= this.first : this.#above.has(id);
  }

  /** False when it was there already (or lies before the first id). */
  add(id: number): boolean {
    if (id < this.#mark || this.#above.has(id)) return false;
    if (id !== this.#mark) {
      this.#above.add(id);
      return true;
    }
    this.#mark += 1;
    while (this.#above.size > 0 && this.#above.delete(this.#mark)) this.#mark += 1;
    return true;
  }

  /** Ranges `[from, to]`, inclusive, of the ids up to `last` that are not in the set; at most `max` of them. */
  missing(last: number, max: number): [number, number][] {
    const ranges: [number, number][] = [];
    let from = this.#mark;
    for (const id of [...this.#above].sort((a, b) => a - b)) {
      if (ranges.length === max || id > last) break;
      if (id > from) ranges.push([from, id - 1]);
      from = id + 1;
    }
    if (ranges.length < max && from <= last) ranges.push([from, last]);
    return ranges;
  }
}
