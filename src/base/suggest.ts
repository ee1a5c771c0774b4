/** "Did you mean": the nearest known names to one that is not known. */
import { distance } from 'fastest-levenshtein';

/** The known name nearest to `name`, or null when none is near enough to be a slip of the hand. */
export function nearest(name: string, known: Iterable<string>): string | null {
  // Fewer slips than letters: one letter is no misspelling of another.
  const limit = Math.min(Math.floor(Math.min(name.length, 40) / 3) + 1, name.length - 1);
  let best: string | null = null;
  let bestDistance = limit + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - name.length) > limit) continue;
    const d = distance(name.toLowerCase().slice(0, 200), candidate.toLowerCase());
    if (d < bestDistance) [best, bestDistance] = [candidate, d];
  }
  return best;
}

/** The hint for an unknown name: the nearest known one, or the list of them. */
export function suggestion(name: string, known: Iterable<string>): string {
  const names = [...known];
  const near = nearest(name, names);
  if (near !== null) return `did you mean '${near}'?`;
  return names.length === 0 ? 'there is none here' : `known: ${names.join(', ')}`;
}
