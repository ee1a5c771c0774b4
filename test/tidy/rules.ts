/**
 * The rules of the project that types and lint cannot express. Each takes parsed sources and returns what is wrong,
 * with the line and the way to mend it. docs/architecture.md explains the import rules.
 */
import { finding, memberOf, nameOf, resolveImport, type Finding, type Node, type Source } from './source.ts';

export type Rule = (sources: readonly Source[]) => readonly Finding[];

/**
 * What each folder of src/ may import, besides itself; a path with a dot is one file. Each stands above those it names:
 * the coordinator and the workers stand side by side and speak the language of wire/.
 */
export const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  metrics: ['base'],
  model: ['base'],
  engine: ['base', 'metrics', 'model'],
  guest: ['base', 'model', 'engine', 'metrics/ops.ts'],
  scenario: ['base', 'model', 'engine', 'guest'],
  report: ['base', 'metrics'],
  console: ['base', 'scenario/source.ts'],
  transcript: ['base', 'console'],
  kernel: ['base', 'console', 'model/ioctl-args.ts', 'report/place.ts', 'transcript'],
  emulator: ['base', 'metrics', 'model', 'engine', 'guest'],
  wire: [
    'base',
    'metrics/read-snapshot.ts',
    'model',
    'engine',
    'scenario',
    'emulator/emulator.ts',
    'emulator/host-result.ts',
  ],
  worker: ['base', 'metrics', 'model/oracle.ts', 'engine', 'scenario/plan.ts', 'emulator', 'wire'],
  coordinator: ['base', 'metrics', 'engine', 'emulator', 'wire'],
  run: [
    'base',
    'metrics',
    'model',
    'engine',
    'guest',
    'scenario',
    'report',
    'console',
    'emulator',
    'wire/redis.ts',
    'coordinator',
  ],
  study: [
    'base',
    'metrics',
    'model',
    'engine',
    'scenario',
    'report',
    'console',
    'emulator',
    'wire/redis.ts',
    'coordinator/experiment.ts',
    'run',
    'transcript',
  ],
  cli: [
    'base',
    'metrics/ops.ts',
    'model',
    'engine',
    'scenario',
    'report',
    'console',
    'wire',
    'worker',
    'coordinator',
    'run',
    'study',
    'transcript',
    'kernel',
  ],
};

/** Packages that only some files may import, as prefixes of their paths. */
export const PACKAGE_HOMES: Readonly<Record<string, readonly string[]>> = {
  bullmq: ['src/wire/bullmq.ts'],
  ioredis: ['src/wire/', 'src/coordinator/', 'src/worker/'],
  commander: ['src/cli/'],
  piscina: ['src/emulator/'],
  'prom-client': ['src/metrics/'],
  koffi: ['src/kernel/libc.ts'],
  'node:worker_threads': ['src/emulator/'],
};

const folderOf = (file: string): string => file.split('/')[1] ?? '';
const inSrc = (source: Source): boolean => source.path.startsWith('src/');

export const importDirection: Rule = (sources) =>
  sources.filter(inSrc).flatMap((source) => {
    const folder = folderOf(source.path);
    const allowed = MAY_IMPORT[folder];
    if (allowed === undefined) {
      return [
        finding(
          source,
          0,
          `src/${folder} has no place in the layers`,
          'add it to MAY_IMPORT in test/tidy/rules.ts and to docs/architecture.md',
        ),
      ];
    }
    return source.imports.flatMap((imported) => {
      const target = resolveImport(source, imported);
      if (target === undefined) {
        const homes = PACKAGE_HOMES[imported.specifier];
        if (homes === undefined || homes.some((home) => source.path.startsWith(home))) return [];
        return [
          finding(
            source,
            imported.offset,
            `imports ${imported.specifier}`,
            `only ${homes.join(' and ')} may: move the code there`,
          ),
        ];
      }
      const within = target.slice('src/'.length);
      if (!target.startsWith('src/')) {
        return [finding(source, imported.offset, `imports ${target}`, 'src must not depend on anything outside src')];
      }
      const fine =
        folderOf(target) === folder || allowed.some((a) => (a.includes('.') ? within === a : folderOf(target) === a));
      if (fine) return [];
      return [
        finding(
          source,
          imported.offset,
          `src/${folder} imports ${target}`,
          `src/${folder} may import only ${['itself', ...allowed].join(', ')}: move what is shared down, or pass it in`,
        ),
      ];
    });
  });

/** Permissions of MAY_IMPORT and PACKAGE_HOMES that nothing uses: they would let in what was just driven out. */
export function unusedPermissions(sources: readonly Source[]): readonly string[] {
  const imports = sources.filter(inSrc).flatMap((source) =>
    source.imports.map(({ specifier, ...rest }) => ({
      from: source.path,
      specifier,
      to: resolveImport(source, { specifier, ...rest })?.slice('src/'.length),
    })),
  );
  const folders = Object.entries(MAY_IMPORT).flatMap(([folder, allowed]) =>
    allowed
      .filter(
        (a) => !imports.some(({ from, to }) => folderOf(from) === folder && (to === a || to?.startsWith(`${a}/`))),
      )
      .map((a) => `src/${folder} never imports ${a}`),
  );
  const packages = Object.entries(PACKAGE_HOMES).flatMap(([name, homes]) =>
    homes
      .filter((home) => !imports.some(({ from, specifier }) => specifier === name && from.startsWith(home)))
      .map((home) => `${home} never imports ${name}`),
  );
  return [...folders, ...packages];
}

/** Folders that know no real clock. Elsewhere wall time is the business. */
const TIMELESS = /^src\/(base|model|guest|scenario|metrics|engine\/(?!wall\/))/;
const CLOCKS = new Set(
  'Date performance setTimeout setInterval setImmediate randomUUID randomBytes randomInt getRandomValues'.split(' '),
);
const CLOCK_MODULES = /^(node:)?(timers(\/promises)?|perf_hooks)$/;

export const noRealClock: Rule = (sources) =>
  sources
    .filter((s) => TIMELESS.test(s.path))
    .flatMap((source) => {
      const fix =
        'take time and randomness from the Ctx or as an argument; only src/engine/wall/ and the layers above read a clock';
      const names = source.nodes.flatMap((node) => {
        const member = memberOf(node);
        if (member === 'process.hrtime') return [finding(source, node.start, `uses ${member}`, fix)];
        const name = nameOf(node);
        if (name === undefined || !CLOCKS.has(name) || isPropertyName(node)) return [];
        return [finding(source, node.start, `uses ${name}`, fix)];
      });
      const modules = source.imports.filter((i) => CLOCK_MODULES.test(i.specifier));
      return [...names, ...modules.map((i) => finding(source, i.offset, `imports ${i.specifier}`, fix))];
    });

export const noUnseededRandom: Rule = (sources) =>
  sources.flatMap((source) =>
    source.nodes
      .filter((node) => memberOf(node) === 'Math.random')
      .map((node) =>
        finding(
          source,
          node.start,
          'uses Math.random',
          'draw from a substream of src/base/prng.ts, so that a seed repeats the run',
        ),
      ),
  );

/** `x.name` and `{ name: ... }` name a property, not the global. */
function isPropertyName(node: Node): boolean {
  const { parent } = node;
  if (parent === undefined || parent['computed'] === true) return false;
  const part = parent.type === 'MemberExpression' ? 'property' : 'key';
  const named = parent[part];
  return (
    named !== null &&
    typeof named === 'object' &&
    'start' in named &&
    named.start === node.start &&
    parent['shorthand'] !== true
  );
}

/** Where output is drained before the process ends, and where control characters of others are taken out. */
const OUTPUT_HOMES: Readonly<Record<string, readonly string[]>> = {
  'process.exit': ['src/cli/main.ts'],
  'process.stdout': ['src/console/output.ts'],
  'process.stderr': ['src/console/output.ts'],
  'console.log': [],
  'console.error': [],
};

export const outputHasOneWay: Rule = (sources) =>
  sources
    .filter((s) => inSrc(s) && !s.path.startsWith('src/report/browser/'))
    .flatMap((source) =>
      source.nodes.flatMap((node) => {
        const member = memberOf(node) ?? '';
        const homes = Object.hasOwn(OUTPUT_HOMES, member) ? OUTPUT_HOMES[member] : undefined;
        if (homes === undefined || homes.includes(source.path)) return [];
        return [
          finding(
            source,
            node.start,
            `uses ${member}`,
            'print with src/console/output.ts; only src/cli/main.ts ends the process',
          ),
        ];
      }),
    );

const UNFINISHED = /\b(TODO|FIXME|XXX|HACK)\b/;
const SUPPRESSION = /@ts-(ignore|nocheck|expect-error)/;

export const noLooseEnds: Rule = (sources) =>
  sources.flatMap((source) =>
    source.comments.flatMap(({ text, offset }) => {
      if (UNFINISHED.test(text))
        return [finding(source, offset, 'an unfinished mark', 'do it now, or write down as a limit what is not done')];
      if (SUPPRESSION.test(text)) return [finding(source, offset, 'a type error is suppressed', 'mend the type')];
      return [];
    }),
  );

export const noAny: Rule = (sources) =>
  sources.flatMap((source) =>
    source.nodes
      .filter((node) => node.type === 'TSAnyKeyword')
      .map((node) => finding(source, node.start, 'the type any', 'use unknown and narrow it, or the real type')),
  );

const TEST_FUNCTION = /^(test|it|describe|suite|t)$/;
const LEFT_OUT = /^(only|skip|todo)$/;
/** Needs more than programs: a machine that can boot others. A variable turns what it leaves out into a failure. */
const MAY_LEAVE_OUT = 'test/kernel/machine.test.ts';

export const noTestLeftOut: Rule = (sources) =>
  sources
    .filter((s) => s.path.startsWith('test/') && s.path !== MAY_LEAVE_OUT)
    .flatMap((source) => {
      const fix = 'run every test always: mend the test, or say on its first line what it needs (see test/run)';
      return source.nodes.flatMap((node) => {
        const [object, property] = memberOf(node)?.split('.') ?? [];
        if (object !== undefined && TEST_FUNCTION.test(object) && LEFT_OUT.test(property ?? '')) {
          return [finding(source, node.start, `${object}.${property} leaves tests out`, fix)];
        }
        const call = node.parent?.parent;
        const key = node.type === 'Property' ? nameOf(node['key']) : undefined;
        const callee = call?.type === 'CallExpression' ? nameOf(call['callee']) : undefined;
        if (key === undefined || callee === undefined || !LEFT_OUT.test(key) || !TEST_FUNCTION.test(callee)) return [];
        return [finding(source, node.start, `the option ${key} leaves tests out`, fix)];
      });
    });

/** Where a value is used at once: a generator that stands there never runs. */
const USED_AT_ONCE = new Set(
  'ExpressionStatement IfStatement WhileStatement UnaryExpression BinaryExpression LogicalExpression'.split(' '),
);

/** A path of the model does nothing until it is driven: a call without `yield*` loses its steps and its effect. */
export const pathsAreDriven: Rule = (sources) => {
  const paths = new Set(
    sources
      .filter((s) => s.path.startsWith('src/model/'))
      .flatMap((s) => s.nodes.filter((n) => n.type === 'FunctionDeclaration' && n['generator'] === true))
      .filter((n) => n.parent?.type === 'ExportNamedDeclaration')
      .map((n) => nameOf(n['id'])),
  );
  return sources.flatMap((source) =>
    source.nodes
      .filter((n) => n.type === 'CallExpression' && paths.has(nameOf(n['callee'])))
      .filter((n) => USED_AT_ONCE.has(n.parent?.type ?? ''))
      .map((n) =>
        finding(source, n.start, `${nameOf(n['callee'])} never runs`, `write yield* ${nameOf(n['callee'])}(...)`),
      ),
  );
};

export const MAX_LINES = 400;
export const MAX_FUNCTION_LINES = 70;
export const MAX_COLUMNS = 120;

/** Files and functions that grew past it before there was a limit. Each figure is a ceiling: it may only go down. */
const LARGER: Readonly<Record<string, number>> = {};
const LONGER: Readonly<Record<string, number>> = {};

export const noGiantFile: Rule = (sources) =>
  sources.filter(inSrc).flatMap((source) => {
    const lines = source.text.split('\n').length - 1;
    if (lines <= (LARGER[source.path] ?? MAX_LINES)) return [];
    const fix = `split it by what changes together; ${MAX_LINES} lines at most`;
    return [finding(source, source.text.length, `${lines} lines`, fix)];
  });

const FUNCTION = /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/;

/** A function, or the method or variable that holds it, as people call it. */
function functionName({ id, parent }: Node & { readonly id?: unknown }): string {
  const names = [id, parent?.['key'], parent?.['id']].map((node) => (node as { readonly name?: unknown } | null)?.name);
  return names.find((name) => typeof name === 'string') ?? 'a function without a name';
}

export const noGiantFunction: Rule = (sources) =>
  sources.filter(inSrc).flatMap((source) =>
    source.nodes
      .filter((node) => FUNCTION.test(node.type))
      .flatMap((node) => {
        const lines = source.text.slice(node.start, node.end).split('\n').length;
        const name = functionName(node);
        if (lines <= (LONGER[`${source.path} ${name}`] ?? MAX_FUNCTION_LINES)) return [];
        const fix = `give its parts names; ${MAX_FUNCTION_LINES} lines at most`;
        return [finding(source, node.start, `${name} has ${lines} lines`, fix)];
      }),
  );

/**
 * What only its class may use is `#name`, which the language itself keeps. `private` is for constructors, and for their
 * parameters that become properties; what overrides a member of a library is as that is.
 */
export const oneKindOfPrivate: Rule = (sources) =>
  sources.filter(inSrc).flatMap((source) =>
    source.nodes
      .filter(({ type, kind }) => /^(PropertyDefinition|MethodDefinition)$/.test(type) && kind !== 'constructor')
      .filter(({ accessibility, override }) => /^(private|protected)$/.test(String(accessibility)) && override !== true)
      .map((node) => finding(source, node.start, `a ${String(node['accessibility'])} member`, 'write #name')),
  );

/** Editors show the tag; a sentence about it they do not. */
export const throwsIsATag: Rule = (sources) =>
  sources.filter(inSrc).flatMap((source) =>
    source.comments.flatMap(({ text, offset }) => {
      const at = /(?<=[.;*] |\n)Throws\b/.exec(text)?.index;
      return at === undefined ? [] : [finding(source, offset + at, 'a sentence about what is thrown', 'write @throws')];
    }),
  );

/** The formatter breaks code, not comments. */
export const noWideComment: Rule = (sources) =>
  sources.flatMap((source) =>
    source.comments.flatMap(({ text, offset }) => {
      const start = source.text.lastIndexOf('\n', offset) + 1;
      const whole = source.text.slice(start, source.text.indexOf('\n', offset + text.length));
      // A comment behind code belongs to its line, which the formatter keeps.
      if (!/^\s*\/[/*]/.test(whole)) return [];
      const wide = whole.split('\n').findIndex((line) => line.length > MAX_COLUMNS);
      const fix = `break it; ${MAX_COLUMNS} columns at most`;
      return wide === -1
        ? []
        : [finding(source, offset, `a comment of ${whole.split('\n')[wide]!.length} columns`, fix)];
    }),
  );

/** Where the program begins, and the scripts of its pages (see src/report/html/assets.ts). */
const ENTRIES = new Set([
  'src/cli/main.ts',
  'src/report/browser/report.ts',
  'src/report/browser/live.ts',
  'src/report/browser/experiment.ts',
]);

/** Files of src/ that the program does not reach. What only tests import is dead too. */
export const noDeadFile: Rule = (sources) => {
  const byPath = new Map(sources.map((s) => [s.path, s]));
  const reached = new Set<string>();
  const visit = (file: string): void => {
    const source = byPath.get(file);
    if (source === undefined || reached.has(file)) return;
    reached.add(file);
    for (const imported of source.imports) visit(resolveImport(source, imported) ?? '');
  };
  for (const { path } of sources) if (ENTRIES.has(path)) visit(path);
  return sources
    .filter((s) => inSrc(s) && !reached.has(s.path))
    .map((s) => finding(s, 0, 'nothing imports this file', 'import it where it is used, or delete it'));
};

/** For any text file: no path of one machine, no unfinished mark. */
export function textRules(file: { readonly path: string; readonly text: string }): readonly Finding[] {
  const found: Finding[] = [];
  for (const match of file.text.matchAll(/(?<![\w.$}*-])\/(?:work|home|root|Users|tmp\/wt)\//g)) {
    found.push(
      finding(
        file,
        match.index,
        `the path ${match[0]} of one machine`,
        'use a path relative to the project, or a temporary directory',
      ),
    );
  }
  const mark = file.path.endsWith('.ts') ? null : UNFINISHED.exec(file.text);
  if (mark)
    found.push(finding(file, mark.index, 'an unfinished mark', 'do it now, or write down as a limit what is not done'));
  return found;
}
