/** Lists on the command line whose members must be known and differ: variants to compare, metrics to show. */
import { EXIT, UserError } from '../base/errors.ts';
import { nearest } from '../base/suggest.ts';
import { LOCK_MODES, OPS } from '../metrics/ops.ts';
import { variantNamed } from '../run/variant-named.ts';
import type { Override } from '../scenario/overrides.ts';

/** The members of a comma-separated list. @throws UserError for an empty one. */
function membersOf(option: string, given: string, example: string): string[] {
  const members = given.split(',').map((member) => member.trim());
  if (!members.includes('')) return members;
  throw new UserError(EXIT.invalid, `${option}: a member of the list is empty`, `write for example ${example}`);
}

/**
 * Variants and kernel versions that are to stand beside each other. @throws UserError for an unknown name, and for two
 * names of one variant, which could only come out alike.
 */
export function variantList(option: string, given: string): string[] {
  const names = membersOf(option, given, 'A,D,E');
  const byId = new Map<string, string>();
  for (const name of names) {
    const { id } = variantNamed(name, option);
    const earlier = byId.get(id);
    if (earlier !== undefined) {
      const what = earlier === name ? `${name} is given twice` : `${earlier} and ${name} are both variant ${id}`;
      throw new UserError(EXIT.invalid, `${option}: ${what}`, 'name each variant once');
    }
    byId.set(id, name);
  }
  return names;
}

/** Refuses settings that would not count because `by` sets the same key. @throws UserError */
export function refuseBeside(by: string, keys: readonly string[], overrides: readonly Override[]): void {
  const idle = overrides.find(({ path, origin }) => origin.kind === 'flag' && keys.includes(path));
  if (idle === undefined) return;
  throw new UserError(EXIT.invalid, `${idle.origin.text} has no effect beside ${by}`, 'keep one of them');
}

/** The figures of a simulation, by name. */
const METRICS: readonly string[] = [
  'throughput',
  'duration',
  'deferred',
  'limit refusals',
  ...OPS.flatMap((op) => ['mean', 'p50', 'p99', 'max'].map((figure) => `${op} ${figure}`)),
  ...LOCK_MODES.flatMap((mode) => [`wait ${mode} p99`, `wait ${mode} total`]),
];

/** Metrics to be shown. @throws UserError that names the nearest for one that no simulation has. */
export function metricList(option: string, given: string): string[] {
  const names = membersOf(option, given, 'throughput,map p99');
  const unknown = names.find((name) => !METRICS.includes(name));
  if (unknown === undefined) return names;
  const near = nearest(unknown, METRICS);
  const shapes = "'map p99' (an operation and mean, p50, p99 or max), 'wait mmap_write p99', throughput, duration";
  const hint = near === null ? `write for example ${shapes}` : `did you mean '${near}'?`;
  throw new UserError(EXIT.invalid, `${option}: unknown metric '${unknown}'`, hint);
}
