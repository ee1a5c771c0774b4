/**
 * Cost profiles as files: nanoseconds per primitive, each with where it is from. A profile may extend another one, so
 * that a younger kernel on a newer machine says only what is different.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { EXIT, UserError } from '../base/errors.ts';
import { DEFAULT_PROFILE, MACHINE_PRIMITIVES, type CostProfile } from '../engine/profile.ts';
import { COST_PRIMITIVES } from '../model/steps.ts';
import { FaultList } from './fault-list.ts';
import { scenarioError } from './faults.ts';
import { errorMap, problems } from './issues.ts';
import { parseSource, plain } from './source.ts';

/** Where the profiles that come with pinstorm lie. */
export const PROFILE_DIRECTORY = new URL('../../../profiles/', import.meta.url);

const PRIMITIVES = [...COST_PRIMITIVES, ...Object.keys(MACHINE_PRIMITIVES)];

const profileSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,40}$/),
  description: z.string().min(1),
  extends: z.string().optional(),
  calibrated: z.boolean(),
  costs: z.partialRecord(
    z.enum(PRIMITIVES as [string, ...string[]]),
    z.strictObject({ ns: z.number().min(0).max(1e12), source: z.string().min(3) }),
  ),
});

export interface ProfileFile extends CostProfile {
  readonly description: string;
  /** Where each value is from. */
  readonly sources: Readonly<Record<string, string>>;
}

type Parsed = z.infer<typeof profileSchema>;

/** Reads one profile. @throws UserError (exit 104) with every fault of the file, its line and the fix. */
function parseProfile(file: string, text: string): Parsed {
  const { root, source, faults } = parseSource(file, text);
  if (root === null || faults.length > 0) throw scenarioError(faults, source, 'cost profile');
  const data = plain(root);
  const parsed = profileSchema.safeParse(data, { error: errorMap });
  if (parsed.success) return parsed.data;
  const found = new FaultList(root);
  for (const problem of problems(parsed.error.issues, data)) found.add(problem);
  throw scenarioError(found.faults, source, 'cost profile');
}

/** Resolves what profiles extend. `texts`: file name and text. @throws UserError (exit 104). */
export function profilesFrom(texts: readonly (readonly [file: string, text: string])[]): Map<string, ProfileFile> {
  const parsed = new Map(
    texts.map(([file, text]) => [parseProfile(file, text), file] as const).map(([p, f]) => [p.name, [p, f] as const]),
  );
  const done = new Map<string, ProfileFile>();
  const resolve = (name: string, below: readonly string[]): ProfileFile => {
    const known = done.get(name);
    if (known !== undefined) return known;
    const [profile, file] = parsed.get(name) as readonly [Parsed, string];
    let base: ProfileFile = { ...DEFAULT_PROFILE, description: '', sources: {} };
    if (profile.extends !== undefined) {
      if (below.includes(name) || !parsed.has(profile.extends)) {
        const fix = `extend one of ${[...parsed.keys()].filter((k) => k !== name).join(', ')}`;
        throw new UserError(
          EXIT.invalid,
          `${file}: extends '${profile.extends}', which ${below.includes(name) ? 'extends it' : 'does not exist'}`,
          fix,
        );
      }
      base = resolve(profile.extends, [...below, name]);
    }
    const costNs = { ...base.costNs };
    const sources = { ...base.sources };
    for (const [primitive, { ns, source }] of Object.entries(profile.costs) as [
      keyof typeof costNs,
      { ns: number; source: string },
    ][]) {
      costNs[primitive] = ns;
      sources[primitive] = source;
    }
    const { description, calibrated } = profile;
    const made = { name, description, calibrated, costNs, sources };
    done.set(name, made);
    return made;
  };
  for (const name of parsed.keys()) resolve(name, []);
  return done;
}

/**
 * The profiles that come with pinstorm, by the names of their files, and the uncalibrated default. The files are read
 * when one of them is first asked for: most commands use the default.
 */
export function shippedProfiles(): Pick<ReadonlyMap<string, CostProfile>, 'keys' | 'has' | 'get'> {
  const directory = PROFILE_DIRECTORY.pathname;
  const files = readdirSync(directory)
    .filter((name) => name.endsWith('.yaml'))
    .toSorted();
  const names = [DEFAULT_PROFILE.name, ...files.map((name) => basename(name, '.yaml'))];
  let loaded: ReadonlyMap<string, CostProfile> | undefined;
  return {
    keys: () => names.values(),
    has: (name) => names.includes(name),
    /** @throws UserError (exit 104) when a file is not valid. */
    get(name) {
      if (name === DEFAULT_PROFILE.name) return DEFAULT_PROFILE;
      loaded ??= profilesFrom(
        files.map((file) => [join('profiles', file), readFileSync(join(directory, file), 'utf8')] as const),
      );
      return loaded.get(name);
    },
  };
}
