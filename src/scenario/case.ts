/**
 * Case files: the small programs `pinstorm explore` runs. YAML like scenarios, told apart by the key `case`, and with
 * the same care for faults: all of them at once, each with its line and column and the way to mend it.
 */
import { z } from 'zod';
import { suggestion } from '../base/suggest.ts';
import type { Pages } from '../base/units.ts';
import { describeValue, zPages } from '../base/zod-units.ts';
import {
  type AllowedOutcome,
  CASE_DEFAULTS,
  type CaseOp,
  type CaseOpName,
  type ExploreCase,
} from '../engine/explore/case.ts';
import { FAULT_SITES, type FaultSite } from '../model/env.ts';
import { resolveVariant, UnknownVariantError } from '../model/kernels/index.ts';
import { type InvariantName, INVARIANTS } from '../model/oracle.ts';
import { FaultList } from './fault-list.ts';
import { scenarioError } from './faults.ts';
import { errorMap, problems } from './issues.ts';
import {
  type Fault,
  isMapping,
  locate,
  type Located,
  type ParsedSource,
  parseSource,
  type PathPart,
  plain,
  type SourceText,
} from './source.ts';

/** What a case of the history says of the defect it shows. */
export interface Defect {
  /** Its number in the list of defects, for example K1. */
  readonly id: string;
  readonly title: string;
  /** Where it is known from. */
  readonly source: string;
  /** Derived from the code; nobody upstream is known to have described it. */
  readonly hypothesis: boolean;
  /** Ids of the variants that had it. */
  readonly variants: readonly string[];
  /** The idea of the fix. */
  readonly fix: string;
  /** What goes wrong, in prose. */
  readonly story: string;
}

export interface CaseFile {
  readonly file: string;
  readonly plan: ExploreCase;
  readonly defect: Defect | null;
}

const MAX_ACTORS = 8;
const MAX_OPS = 32;
const MAX_PAGES = 4096;

const count = z.int().min(1).max(MAX_PAGES);
const place = z
  .int()
  .min(0)
  .max(2 ** 30);
const container = z.int().min(0).max(2).default(0);
const pages = (max: number) => zPages({ min: 1 as Pages, max: max as Pages });
const range = z.strictObject({ page: place, pages: count });
const iovaRange = z.strictObject({ iova: place, pages: count, container });

/** The arguments of each operation; null where it has none. */
const OPS: Readonly<Record<CaseOpName, z.ZodType | null>> = {
  map: z.strictObject({ iova: place, page: place.default(0), pages: count, container }),
  unmap: iovaRange,
  unmap_all: z.strictObject({ container }),
  mlock: range,
  munlock: range,
  touch: range,
  munmap: range,
  hold: z.strictObject({ mode: z.enum(['read', 'write']) }),
  setrlimit: z.strictObject({
    pages: z
      .int()
      .min(0)
      .max(2 ** 30),
  }),
  close: z.strictObject({ container }),
  invalidate_vaddr: iovaRange,
  update_vaddr: iovaRange,
  pin: iovaRange,
  unpin: iovaRange,
  attach: z.strictObject({ container }),
  detach: z.strictObject({ container }),
  exec: null,
  exit: null,
  kill: z.strictObject({ actor: z.string() }),
};

const name = z.string().regex(/^[A-Za-z0-9][\w-]{0,62}$/);
const ops = z.array(z.unknown()).min(1).max(MAX_OPS);

const schema = z.strictObject({
  case: name,
  about: z.string().default(CASE_DEFAULTS.about),
  variant: z.string().default(CASE_DEFAULTS.variant),
  memory: pages(MAX_PAGES).prefault(`${CASE_DEFAULTS.memoryPages} pages`),
  contiguity: pages(MAX_PAGES).prefault('1 page'),
  populated: z.boolean().default(CASE_DEFAULTS.populated),
  memlock: z
    .union([z.literal('unlimited').transform(() => null), zPages({ min: 0 as Pages })])
    .prefault(`${CASE_DEFAULTS.memlockPages} pages`),
  cap_ipc_lock: z.boolean().default(CASE_DEFAULTS.capIpcLock),
  iommu: z.enum(['type1', 'type1v2']).default(CASE_DEFAULTS.iommu),
  containers: z.int().min(1).max(3).default(CASE_DEFAULTS.containers),
  mdev: z.enum(['none', 'only', 'beside']).default(CASE_DEFAULTS.mdev),
  faults: z.record(z.string(), z.int().min(1).max(16)).default({}),
  setup: z.array(z.strictObject({ actor: z.string(), ops })).default([]),
  actors: z
    .array(
      z.strictObject({
        name,
        task: z.enum(['main', 'thread', 'vm_child', 'child', 'kthread']),
        ops,
      }),
    )
    .min(1)
    .max(MAX_ACTORS),
  outcomes: z
    .array(
      z.strictObject({
        results: z.record(z.string(), z.array(z.union([z.string(), z.int()]))).optional(),
        locked_vm: z.int().min(0).optional(),
        pinned: z.int().min(0).optional(),
        user_locked_vm: z.int().min(0).optional(),
      }),
    )
    .default([]),
  expect: z.record(z.string(), z.array(z.string())).default({}),
  defect: z
    .strictObject({
      id: name,
      title: z.string(),
      source: z.string(),
      hypothesis: z.boolean().default(false),
      variants: z.array(z.string()),
      fix: z.string(),
      story: z.string(),
    })
    .optional(),
});

/** Whether a parsed file is a case, not a scenario. */
export const isCase = (root: Located | null): boolean => isMapping(root?.value) && root.value.has('case');

/** @throws UserError (exit 104) with every fault of the text. */
export function parseCase(file: string, text: string): CaseFile {
  return caseOf(parseSource(file, text));
}

/** Checks a case that has been read. @throws UserError (exit 104) with every fault of it. */
export function caseOf({ source, root, faults }: ParsedSource): CaseFile {
  if (root === null) throw scenarioError(faults, source, 'case');
  return new CaseReader(root, source, faults).read();
}

type Written = z.output<typeof schema>;

class CaseReader {
  readonly #root: Located;
  readonly #source: SourceText;
  readonly #faults: FaultList;

  constructor(root: Located, source: SourceText, faults: readonly Fault[]) {
    this.#root = root;
    this.#source = source;
    this.#faults = new FaultList(root, faults);
  }

  read(): CaseFile {
    const data = plain(this.#root);
    const parsed = schema.safeParse(data, { error: errorMap });
    if (!parsed.success) {
      for (const problem of problems(parsed.error.issues, data)) this.#faults.add(problem);
      throw scenarioError(this.#faults.faults, this.#source, 'case');
    }
    const plan = this.#plan(parsed.data);
    const defect = this.#defect(parsed.data);
    if (this.#faults.faults.length > 0) throw scenarioError(this.#faults.faults, this.#source, 'case');
    return { file: this.#source.file, plan, defect };
  }

  #plan(c: Written): ExploreCase {
    const names = c.actors.map((a) => a.name);
    const actors = this.#actors(c, names);
    const setup = this.#setup(c, names);
    for (const site of Object.keys(c.faults)) this.#known(site, FAULT_SITES, ['faults', site], 'fault site');
    for (const [n, o] of c.outcomes.entries()) {
      for (const actor of Object.keys(o.results ?? {}))
        this.#known(actor, names, ['outcomes', n, 'results', actor], 'actor');
    }
    return {
      name: c.case,
      about: c.about,
      memoryPages: c.memory,
      contiguityPages: c.contiguity,
      populated: c.populated,
      memlockPages: c.memlock,
      capIpcLock: c.cap_ipc_lock,
      iommu: c.iommu,
      containers: c.containers,
      mdev: c.mdev,
      faults: c.faults as Partial<Record<FaultSite, number>>,
      setup,
      actors,
      outcomes: c.outcomes.map(allowedOutcome),
      expect: this.#expect(c),
      variant: this.#variant(c.variant, ['variant']),
    };
  }

  #actors(c: Written, names: readonly string[]): ExploreCase['actors'] {
    this.#faults.unique(
      names.map((_, n) => ['actors', n, 'name']),
      'actor',
    );
    if (c.actors.filter((a) => a.task === 'main').length !== 1) {
      this.#faults.add({
        path: ['actors'],
        message: 'a case has exactly one main thread',
        hint: 'write task: main for one of them',
      });
    }
    const actors = c.actors.map((a, n) => ({
      name: a.name,
      task: a.task,
      ops: this.#ops(a.ops, ['actors', n, 'ops'], names, c.containers),
    }));
    for (const [n, a] of actors.entries()) {
      const alone = a.task === 'child' || a.task === 'vm_child' || !actors.some((b) => b.task === 'thread');
      const at = a.ops.findIndex((o) => o.op === 'exec');
      if (at >= 0 && (!alone || a.task === 'kthread')) {
        this.#faults.add({
          path: ['actors', n, 'ops', at],
          message: 'exec in a process with other threads is not modelled',
          hint: 'make the others task: vm_child',
        });
      }
    }
    return actors;
  }

  #setup(c: Written, names: readonly string[]): ExploreCase['setup'] {
    return c.setup.flatMap(({ actor, ops: list }, n) => {
      this.#faults.name(['setup', n, 'actor'], 'actor', names);
      return this.#ops(list, ['setup', n, 'ops'], names, c.containers).map((op) => ({ actor, op }));
    });
  }

  #expect(c: Written): ExploreCase['expect'] {
    const expect: Record<string, InvariantName[]> = {};
    for (const [variant, list] of Object.entries(c.expect)) {
      for (const invariant of list) this.#known(invariant, INVARIANTS, ['expect', variant], 'invariant');
      expect[this.#variant(variant, ['expect', variant])] = list as InvariantName[];
    }
    return expect;
  }

  #defect({ defect }: Written): Defect | null {
    if (defect === undefined) return null;
    const variants = defect.variants.map((v, n) => this.#variant(v, ['defect', 'variants', n]));
    return { ...defect, variants };
  }

  /** Each operation is a word, or a map with the word as its only key. */
  #ops(list: readonly unknown[], path: readonly PathPart[], actors: readonly string[], containers: number): CaseOp[] {
    return list.flatMap((item, n): CaseOp[] => {
      const at = [...path, n];
      const isMap = typeof item === 'object' && item !== null && !Array.isArray(item);
      const keys = isMap ? Object.keys(item) : typeof item === 'string' ? [item] : [];
      const word = keys[0];
      if (word === undefined || keys.length > 1) {
        this.#faults.add({
          path: at,
          message: `expected one operation, got ${keys.length > 1 ? 'several keys' : describeValue(item)}`,
          hint: 'write for example - map: { iova: 0, pages: 1 }',
        });
        return [];
      }
      if (!Object.hasOwn(OPS, word)) {
        this.#faults.add({
          path: isMap ? [...at, word] : at,
          atKey: isMap,
          message: `unknown operation '${word}'`,
          hint: suggestion(word, Object.keys(OPS)),
        });
        return [];
      }
      const args = OPS[word as CaseOpName];
      const given = isMap ? (item as Record<string, unknown>)[word] : {};
      if (args === null || args === undefined) return [{ op: word } as CaseOp];
      const parsed = args.safeParse(given ?? {}, { error: errorMap });
      if (!parsed.success) {
        for (const problem of problems(parsed.error.issues, given ?? {}, isMap ? [...at, word] : at))
          this.#faults.add(problem);
        return [];
      }
      const op = { op: word, ...(parsed.data as object) } as CaseOp;
      if (op.op === 'kill' && !actors.includes(op.actor)) {
        this.#faults.add({
          path: [...at, 'kill', 'actor'],
          message: `unknown actor '${op.actor}'`,
          hint: suggestion(op.actor, actors),
        });
      }
      if ('container' in op && op.container >= containers) {
        this.#faults.add({
          path: at,
          message: `there is no container ${op.container}`,
          hint: `write containers: ${op.container + 1}`,
        });
      }
      return [op];
    });
  }

  #known(given: string, known: readonly string[], path: readonly PathPart[], what: string): void {
    if (known.includes(given)) return;
    this.#faults.add({ path, atKey: true, message: `unknown ${what} '${given}'`, hint: suggestion(given, known) });
  }

  #variant(given: string, path: readonly PathPart[]): string {
    // YAML reads 4.10 as the number 4.1.
    const written = locate(this.#root, path)?.written ?? given;
    try {
      return resolveVariant(path.at(-1) === given ? given : written).id;
    } catch (error) {
      if (!(error instanceof UnknownVariantError)) throw error;
      this.#faults.add({ path, message: error.message, hint: error.hint });
      return given;
    }
  }
}

function allowedOutcome(o: Written['outcomes'][number]): AllowedOutcome {
  const results = Object.entries(o.results ?? {}).map(([actor, list]) => [actor, list.map(String)]);
  return {
    ...(o.results === undefined ? {} : { results: Object.fromEntries(results) as Record<string, string[]> }),
    ...(o.locked_vm === undefined ? {} : { lockedVmPages: o.locked_vm }),
    ...(o.pinned === undefined ? {} : { pinnedPages: o.pinned }),
    ...(o.user_locked_vm === undefined ? {} : { userLockedVmPages: o.user_locked_vm }),
  };
}
