/** "Did you mean": the nearest known names to one that is not known. */
import { distance } from 'fastest-levenshtein';

/** The known name nearest to `name`, or null when none is near enough to be a slip of the hand. */
export function nearest(name: string, known: Iterable<string>): string | null {
  // Fewer slips than letters: one letter is no misspelling of another.
  const limit = Math.min(Math.floor(Math.min(name.length, 40) / 3) + 1, name.length - 1);
  let best: string | null = null;
  let bestDistance = limit + 1;
  // Who stops early means a longer name, whatever short names are a few letters away.
  const longer = [...known].filter((candidate) => name.length >= 3 && candidate.startsWith(`${name}-`));
  if (longer.length === 1) return longer[0] as string;
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
  return names.length === 0 ? 'there is none here' : `known: ${listed(names)}`;
}

const LIST_MAX = 240;

/** Names with commas between, as many as can be read in passing, and the count of the rest. */
export function listed(names: readonly string[]): string {
  let text = names.join(', ');
  if (text.length <= LIST_MAX) return text;
  text = text.slice(0, text.lastIndexOf(', ', LIST_MAX));
  return `${text} and ${names.length - text.split(', ').length} more`;
}
