/** What guests marked, counted: the first distinct texts, with the guests that marked them and how often. */
import { plural } from '../base/plural.ts';

export interface MarkCount {
  readonly text: string;
  readonly guests: number;
  readonly times: number;
}

/** Distinct texts a tally keeps. */
const TEXTS_MAX = 64;

export class MarkTally {
  readonly #byText = new Map<string, { readonly guests: Set<number>; times: number }>();

  add(guest: number, label: string, value: string): void {
    const text = `${label}: ${value}`;
    let count = this.#byText.get(text);
    if (count === undefined) {
      if (this.#byText.size === TEXTS_MAX) return;
      this.#byText.set(text, (count = { guests: new Set(), times: 0 }));
    }
    count.guests.add(guest);
    count.times += 1;
  }

  counts(): MarkCount[] {
    return [...this.#byText].map(([text, { guests, times }]) => ({ text, guests: guests.size, times }));
  }
}

/** Sums of tallies that have no guest in common, one line per text: `map failed: ENOSPC (1 guest, 929 times)`. */
export function markLines(tallies: readonly (readonly MarkCount[])[]): string[] {
  const sums = new Map<string, { guests: number; times: number }>();
  for (const { text, guests, times } of tallies.flat()) {
    const sum = sums.get(text);
    sums.set(text, { guests: (sum?.guests ?? 0) + guests, times: (sum?.times ?? 0) + times });
  }
  return [...sums].map(([text, { guests, times }]) => {
    if (times === 1) return text;
    const who = plural(guests, 'guest');
    return times === guests ? `${text} (${who})` : `${text} (${who}, ${times} times)`;
  });
}
