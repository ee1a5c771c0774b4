/**
 * An intrusive ordered index inside the arena: a treap whose priorities are a hash of the ref, so that its shape is a
 * function of its content and the same on every run. Stands where the kernel has its red-black trees (mappings by
 * iova, externally pinned pages by iova) and its VMA tree. Keys are page numbers in an f64 field.
 */
import { word64 } from './layout.ts';
import type { Arena, Ref } from './arena.ts';

export interface OrderedFields {
  /** f64 field that orders the nodes. */
  readonly key: number;
  readonly left: number;
  readonly right: number;
  readonly prio: number;
}

function hash(ref: number): number {
  let x = Math.imul(ref ^ (ref >>> 16), 0x45d9f3b);
  x = Math.imul(x ^ (x >>> 16), 0x45d9f3b);
  return (x ^ (x >>> 16)) | 0;
}

export class Ordered {
  readonly #i32: Int32Array;
  readonly #f64: Float64Array;

  constructor(
    arena: Arena,
    readonly f: OrderedFields,
  ) {
    this.#i32 = arena.i32;
    this.#f64 = arena.f64;
  }

  key(node: Ref): number {
    return this.#f64[word64(node, this.f.key)] as number;
  }

  /** Inserts `node`, whose key must not be present, under the root word at `rootWord`. */
  insert(rootWord: number, node: Ref): void {
    const { left, right, prio } = this.f;
    const a = this.#i32;
    const key = this.key(node);
    const p = hash(node);
    a[node + prio] = p;
    // Walk down to the first node of lower priority, then split its subtree around the key.
    let word = rootWord;
    let at = a[word] as number;
    while (at !== 0 && (a[at + prio] as number) >= p) {
      word = key < this.key(at) ? at + left : at + right;
      at = a[word] as number;
    }
    a[word] = node;
    let lessWord = node + left;
    let moreWord = node + right;
    while (at !== 0) {
      if (this.key(at) < key) {
        a[lessWord] = at;
        lessWord = at + right;
        at = a[lessWord] as number;
      } else {
        a[moreWord] = at;
        moreWord = at + left;
        at = a[moreWord] as number;
      }
    }
    a[lessWord] = 0;
    a[moreWord] = 0;
  }

  /** Removes `node`, which must be in the index. */
  remove(rootWord: number, node: Ref): void {
    const { left, right, prio } = this.f;
    const a = this.#i32;
    const key = this.key(node);
    let word = rootWord;
    let at = a[word] as number;
    while (at !== node) {
      if (at === 0) throw new Error('ordered: node not found');
      word = key < this.key(at) ? at + left : at + right;
      at = a[word] as number;
    }
    let l = a[node + left] as number;
    let r = a[node + right] as number;
    // Merge the two subtrees in place.
    while (l !== 0 && r !== 0) {
      if ((a[l + prio] as number) >= (a[r + prio] as number)) {
        a[word] = l;
        word = l + right;
        l = a[word] as number;
      } else {
        a[word] = r;
        word = r + left;
        r = a[word] as number;
      }
    }
    a[word] = l !== 0 ? l : r;
    a[node + left] = 0;
    a[node + right] = 0;
  }

  /** The node with the greatest key <= `key`, or 0. */
  atOrBefore(rootWord: number, key: number): Ref {
    const a = this.#i32;
    let at = a[rootWord] as number;
    let best = 0;
    while (at !== 0) {
      if (this.key(at) <= key) {
        best = at;
        at = a[at + this.f.right] as number;
      } else {
        at = a[at + this.f.left] as number;
      }
    }
    return best;
  }

  /** The node with the smallest key >= `key`, or 0. */
  atOrAfter(rootWord: number, key: number): Ref {
    const a = this.#i32;
    let at = a[rootWord] as number;
    let best = 0;
    while (at !== 0) {
      if (this.key(at) >= key) {
        best = at;
        at = a[at + this.f.left] as number;
      } else {
        at = a[at + this.f.right] as number;
      }
    }
    return best;
  }

  first(rootWord: number): Ref {
    return this.atOrAfter(rootWord, -1);
  }

  /** The node after `node` in key order, or 0. `node` need not be in the index any more. */
  next(rootWord: number, node: Ref): Ref {
    const key = this.key(node);
    const a = this.#i32;
    let at = a[rootWord] as number;
    let best = 0;
    while (at !== 0) {
      if (this.key(at) > key) {
        best = at;
        at = a[at + this.f.left] as number;
      } else {
        at = a[at + this.f.right] as number;
      }
    }
    return best;
  }
}
