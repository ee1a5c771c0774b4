/**
 * Exhaustive depth-first search, by executing again from the start with one choice changed.
 *
 * With reduction: source-set dynamic partial-order reduction with sleep sets. Parosh Abdulla, Stavros Aronis, Bengt
 * Jonsson, Konstantinos Sagonas: "Optimal Dynamic Partial Order Reduction", POPL 2014, algorithm 1 (Source-DPOR). Of
 * all interleavings that differ only in the order of steps that commute, one is executed to its end.
 *
 * With a bound on preemptions (Musuvathi, Qadeer: "Iterative Context Bounding", PLDI 2007) every schedule with that
 * many preemptions or fewer is executed, switching only before steps that others can see; without reduction, because
 * the two do not combine without losing schedules.
 */
import type { Execution } from './execution.ts';
import { dependent, type Footprint } from './footprint.ts';
import { goOn, type Strategy } from './strategy.ts';

export interface DfsOptions {
  /** Partial-order reduction; default true, and always false with `preemptions`. */
  readonly reduction?: boolean;
  /** Preemptions of one execution at most; null = any number. */
  readonly preemptions?: number | null;
}

interface Sleeping {
  readonly id: number;
  readonly footprint: Footprint;
}

/** The state before a step, and the step taken from it in the current execution. */
interface Node {
  readonly enabled: readonly number[];
  chosen: number;
  /** Alternatives still to be tried. */
  todo: number[];
  /** Tried, or not worth trying: their steps lead to what has been seen. */
  readonly sleep: Sleeping[];
  /** Faults asked for during the step; a false one at the end is tried as true next. */
  faults: boolean[];
  readonly footprint: Footprint;
  /** Union over all variants of the step, for the sleep set. */
  readonly everything: Footprint;
  woken: readonly number[];
  created: readonly number[];
  /** Vector clock of the step: how many steps of each actor happen before it or are it. */
  clock: number[];
}

export class DfsStrategy implements Strategy {
  readonly name = 'dfs';
  readonly #reduction: boolean;
  readonly #preemptions: number | null;
  readonly #nodes: Node[] = [];
  #begun = false;
  #cut = false;
  /** Fault answers given within the current step. */
  #asked = 0;
  /** First depth of the current execution that has not been executed before. */
  #fresh = 0;
  /** Executions given up because all they could show had been seen. */
  redundant = 0;

  constructor(o: DfsOptions = {}) {
    this.#preemptions = o.preemptions ?? null;
    this.#reduction = (o.reduction ?? true) && this.#preemptions === null;
  }

  begin(): boolean {
    if (!this.#begun) {
      this.#begun = true;
      return true;
    }
    for (let node = this.#nodes.at(-1); node !== undefined; node = this.#nodes.at(-1)) {
      while (node.faults.at(-1) === true) node.faults.pop();
      this.#fresh = this.#nodes.length - 1;
      if (node.faults.length > 0) {
        node.faults[node.faults.length - 1] = true;
        return true;
      }
      const done = node.chosen;
      node.sleep.push({ id: done, footprint: { ...node.everything } });
      const next = node.todo.find((id) => !this.#reduction || !node.sleep.some((s) => s.id === id));
      if (next !== undefined) {
        node.todo = node.todo.filter((id) => id !== next);
        node.chosen = next;
        node.everything.reads = 0;
        node.everything.writes = 0;
        return true;
      }
      this.#nodes.pop();
    }
    return false;
  }

  pick(x: Execution, enabled: readonly number[]): number {
    this.#asked = 0;
    const known = this.#nodes[x.depth];
    if (known !== undefined) return known.chosen;
    const sleep: Sleeping[] = [];
    if (this.#reduction) {
      const last = this.#nodes.at(-1);
      for (const s of last?.sleep ?? []) {
        if (!dependent(s.footprint, (last as Node).footprint)) sleep.push(s);
      }
    }
    let chosen = goOn(x, enabled);
    if (sleep.some((s) => s.id === chosen)) {
      const awake = enabled.find((id) => !sleep.some((s) => s.id === id));
      if (awake === undefined) {
        this.redundant += 1;
        return -1;
      }
      chosen = awake;
    }
    this.#nodes.push({
      enabled,
      chosen,
      todo: this.#alternatives(x, enabled, chosen),
      sleep,
      faults: [],
      footprint: { reads: 0, writes: 0 },
      everything: { reads: 0, writes: 0 },
      woken: [],
      created: [],
      clock: [],
    });
    return chosen;
  }

  fault(x: Execution): boolean {
    const node = this.#nodes[x.depth - 1] as Node;
    const known = node.faults[this.#asked];
    this.#asked += 1;
    if (known !== undefined) return known;
    node.faults.push(false);
    return false;
  }

  took(x: Execution, footprint: Readonly<Footprint>): void {
    const at = x.depth - 1;
    if (at < this.#fresh) return;
    const node = this.#nodes[at] as Node;
    node.footprint.reads = footprint.reads;
    node.footprint.writes = footprint.writes;
    node.everything.reads |= footprint.reads;
    node.everything.writes |= footprint.writes;
    node.woken = x.woken;
    node.created = x.created;
    if (this.#reduction) this.#race(at);
  }

  /** Whether the step at this depth has not been executed before. */
  isFresh(depth: number): boolean {
    return depth >= this.#fresh;
  }

  bound(): string | null {
    return this.#cut ? `${this.#preemptions} preemptions` : null;
  }

  #alternatives(x: Execution, enabled: readonly number[], chosen: number): number[] {
    if (this.#reduction) return [];
    const others = enabled.filter((id) => id !== chosen);
    if (this.#preemptions === null || !enabled.includes(x.current) || others.length === 0) return others;
    if (x.nextIsLocal(x.current)) return [];
    if (x.preemptions < this.#preemptions) return others;
    this.#cut = true;
    return [];
  }

  /** The clock of the step at `at`, and for each race it ends, a reversal to be tried. */
  #race(at: number): void {
    const nodes = this.#nodes;
    const node = nodes[at] as Node;
    const p = node.chosen;
    let clock: number[] | null = null;
    let own = at;
    for (let i = at - 1; i >= 0; i -= 1) {
      const n = nodes[i] as Node;
      if (n.chosen === p || n.created.includes(p)) {
        clock = [...n.clock];
        own = i;
        break;
      }
    }
    clock ??= [];
    const before = clock[p] ?? 0;
    clock[p] = before + 1;
    const races: number[] = [];
    for (let i = at - 1; i >= 0; i -= 1) {
      const n = nodes[i] as Node;
      const q = n.chosen;
      if (q === p || (n.clock[q] as number) <= (clock[q] ?? 0)) continue;
      const woke = i > own && n.woken.includes(p);
      if (!woke && !dependent(n.footprint, node.footprint)) continue;
      // A step that made this one possible cannot come after it.
      if (!woke) races.push(i);
      for (let a = 0; a < n.clock.length; a += 1) {
        clock[a] = Math.max(clock[a] ?? 0, n.clock[a] ?? 0);
      }
    }
    for (let a = 0; a < clock.length; a += 1) clock[a] ??= 0;
    node.clock = clock;
    for (const i of races) this.#reverse(i, at);
  }

  /** Makes sure that an execution is tried in which the step at `j` comes before the one at `i`. */
  #reverse(i: number, j: number): void {
    const nodes = this.#nodes;
    const first = nodes[i] as Node;
    const q = first.chosen;
    const seq = first.clock[q] as number;
    // The steps between that do not need step i, then step j: who can begin them?
    const v: Node[] = [];
    for (let n = i + 1; n < j; n += 1) {
      const node = nodes[n] as Node;
      if ((node.clock[q] ?? 0) < seq) v.push(node);
    }
    v.push(nodes[j] as Node);
    const initials: number[] = [];
    for (const [n, node] of v.entries()) {
      const needed = v
        .slice(0, n)
        .some((earlier) => (node.clock[earlier.chosen] ?? 0) >= (earlier.clock[earlier.chosen] as number));
      if (needed || !first.enabled.includes(node.chosen)) continue;
      initials.push(node.chosen);
    }
    const tried = (id: number): boolean =>
      id === first.chosen || first.todo.includes(id) || first.sleep.some((s) => s.id === id);
    if (initials.length === 0 || initials.some(tried)) return;
    const p = (nodes[j] as Node).chosen;
    first.todo.push(initials.includes(p) ? p : (initials[0] as number));
  }
}
