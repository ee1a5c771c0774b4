import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { noCircle, noClimb } from './tidy/circles.ts';
import * as rules from './tidy/rules.ts';
import { type Finding, listFiles, parseSource, readSource } from './tidy/source.ts';

const files = listFiles('.');
const sources = files.filter((f) => /^(src|test|bench|dashboards)\/.*\.ts$/.test(f)).map(readSource);

function assertNone(findings: readonly Finding[]): void {
  const lines = findings.map((f) => `${f.path}:${f.line}: ${f.problem}. Fix: ${f.fix}.`);
  assert.equal(lines.length, 0, `\n${lines.join('\n')}\n`);
}

const RULES: Readonly<Record<string, rules.Rule>> = {
  'imports run one way': rules.importDirection,
  'no circle of files': noCircle,
  'no folder stands above and below another': noClimb,
  'no real clock and no unseeded randomness below the drivers': rules.noRealClock,
  'Math.random is never used': rules.noUnseededRandom,
  'no unfinished marks, no suppressed type errors': rules.noLooseEnds,
  'the type any is never used': rules.noAny,
  'no test is left out': rules.noTestLeftOut,
  'every call of a path is driven': rules.pathsAreDriven,
  'no giant files': rules.noGiantFile,
  'no giant functions': rules.noGiantFunction,
  'no comment wider than the code': rules.noWideComment,
  'what is private is #name': rules.oneKindOfPrivate,
  'what is thrown has its tag': rules.throwsIsATag,
  'what is printed goes one way': rules.outputHasOneWay,
};
for (const [name, rule] of Object.entries(RULES)) test(name, () => assertNone(rule(sources)));

test('no dead file', () => assertNone(rules.noDeadFile(sources)));
test('no permission that nothing uses', () => assert.deepEqual(rules.unusedPermissions(sources), []));

test('no unfinished marks and no paths of one machine in any text file', () => {
  const binary = /\.(png|jpe?g|gif|ico|woff2?|gz|hlog)$|^package-lock\.json$/;
  const texts = files.filter((f) => !binary.test(f)).map((path) => ({ path, text: readFileSync(path, 'utf8') }));
  assertNone(texts.flatMap(rules.textRules));
});

// Spelt so that this file does not break the rules itself.
const [home, mark, ignore] = ['home', ['TO', 'DO'].join(''), 'ignore'];

test('each rule finds what it is for', () => {
  const found = (path: string, text: string): readonly string[] => {
    const planted = parseSource(path, text);
    return [...Object.values(RULES).flatMap((rule) => rule([planted])), ...rules.textRules(planted)].map(
      (f) => `${f.line} ${f.problem}`,
    );
  };
  const cases: readonly (readonly [path: string, text: string, ...expected: string[]])[] = [
    ['src/model/a.ts', `\nimport { x } from '../engine/b.ts';`, '2 src/model imports src/engine/b.ts'],
    ['src/model/a.ts', `import type { x } from '../engine/b.ts';`, '1 src/model imports src/engine/b.ts'],
    ['src/model/a.ts', `export * from '../engine/b.ts';`, '1 src/model imports src/engine/b.ts'],
    ['src/model/a.ts', `await import('../engine/b.ts');`, '1 src/model imports src/engine/b.ts'],
    ['src/base/a.ts', `new URL('../model/b.js', import.meta.url);`, '1 src/base imports src/model/b.ts'],
    ['src/base/a.ts', `new URL('../../package.json', import.meta.url);`],
    ['src/guest/a.ts', `import '../metrics/ops.ts'; import '../metrics/b.ts';`, '1 src/guest imports src/metrics/b.ts'],
    ['src/worker/a.ts', `import '../coordinator/b.ts';`, '1 src/worker imports src/coordinator/b.ts'],
    ['src/coordinator/a.ts', `import '../worker/b.ts';`, '1 src/coordinator imports src/worker/b.ts'],
    ['src/base/a.ts', `import '../../test/b.ts';`, '1 imports test/b.ts'],
    ['src/new/a.ts', '', '1 src/new has no place in the layers'],
    ['src/emulator/a.ts', `import 'bullmq'; import 'piscina';`, '1 imports bullmq'],
    ['src/wire/bullmq.ts', `import 'bullmq';`],
    ['src/cli/a.ts', `require('koffi');`, '1 imports koffi'],
    ['src/scenario/a.ts', `import 'node:worker_threads';`, '1 imports node:worker_threads'],
    ['src/model/a.ts', `// Date.now()\nconst Dates = 'performance';\nx.performance; ({ Date: 1 });`],
    [
      'src/model/a.ts',
      `x = Date.now();\ny = new Date();\nsetTimeout(f);`,
      '1 uses Date',
      '2 uses Date',
      '3 uses setTimeout',
    ],
    ['src/model/a.ts', `process.hrtime.bigint(); ({ performance });`, '1 uses process.hrtime', '1 uses performance'],
    [
      'src/engine/virtual/virtual-actor.ts',
      `import { setTimeout } from 'node:timers/promises';`,
      '1 uses setTimeout',
      '1 uses setTimeout',
      '1 imports node:timers/promises',
    ],
    ['src/engine/wall/wall-loop.ts', `performance.now();`],
    ['src/engine/wall/loop.ts', `performance.now();`],
    ['src/cli/a.ts', `Date.now(); Math.random();`, '1 uses Math.random'],
    ['src/cli/a.ts', `process.exit(1);\nconsole.log(x)`, '1 uses process.exit', '2 uses console.log'],
    ['src/cli/main.ts', `process.exit(1); process.stdout.write(x)`, '1 uses process.stdout'],
    ['src/cli/a.ts', `f();\n/* ${mark} */`, '2 an unfinished mark'],
    ['src/cli/a.ts', `// @ts-${ignore}\nf();`, '1 a type error is suppressed'],
    ['src/cli/a.ts', `let any: string; const x = y as any;`, '1 the type any'],
    ['test/a.test.ts', `test.only('x', f);\nt.skip();`, '1 test.only leaves tests out', '2 t.skip leaves tests out'],
    ['test/a.test.ts', `test('x', { skip: !redis }, f); other({ skip: 1 });`, '1 the option skip leaves tests out'],
    ['src/model/a.ts', 'export function* up() { yield; }\nfunction* f() {\nyield* up(); return up();\n}'],
    [
      'src/model/a.ts',
      'export function* up() { yield; }\nfunction* f() {\nup();\nif (!up()) yield* up();\n}',
      '3 up never runs',
      '4 up never runs',
    ],
    ['src/cli/a.ts', 'f();\n'.repeat(rules.MAX_LINES)],
    ['src/cli/a.ts', 'f();\n'.repeat(rules.MAX_LINES + 1), '402 401 lines'],
    ['src/cli/a.ts', `const g = () => {\n${'f();\n'.repeat(rules.MAX_FUNCTION_LINES - 2)}};`],
    ['src/cli/a.ts', `const g = () => {\n${'f();\n'.repeat(rules.MAX_FUNCTION_LINES - 1)}};`, '1 g has 71 lines'],
    ['src/cli/a.ts', `// ${'x'.repeat(117)}\nf();`],
    ['src/cli/a.ts', `\n// ${'x'.repeat(118)}\nf();`, '2 a comment of 121 columns'],
    [
      'src/cli/a.ts',
      'class A {\n  private x = 1;\n  protected f() {}\n  #y = 2;\n  private constructor(private readonly z: A) {}\n}',
      '2 a private member',
      '3 a protected member',
    ],
    [
      'src/cli/a.ts',
      `/** Does it. @throws {Error} */\n// A call that Throws.\n/**\n * Does it. Throws Error.\n */`,
      '4 a sentence about what is thrown',
    ],
    ['src/cli/a.ts', `const x = '/${home}/me/x'; const y = 'a/${home}/b';`, `1 the path /${home}/ of one machine`],
  ];
  for (const [path, text, ...expected] of cases)
    assert.deepEqual(found(path, text).toSorted(), expected.toSorted(), `${path}: ${text.slice(0, 80)}`);
});

test('circles are found, also by types, and folders that stand above each other', () => {
  const planted = [
    parseSource('src/model/a.ts', `import type { B } from './paths/b.ts';`),
    parseSource('src/model/paths/b.ts', `import './c.ts';`),
    parseSource('src/model/paths/c.ts', `import '../a.ts';`),
    parseSource('src/model/paths/d.ts', `import '../kernels/e.ts';`),
    parseSource('src/model/kernels/e.ts', `import '../paths/b.ts';`),
  ];
  const problems = (found: readonly Finding[]): readonly string[] => found.map((f) => f.problem);
  assert.deepEqual(problems(noCircle(planted)), [
    'a circle of imports: src/model/a.ts, src/model/paths/b.ts, src/model/paths/c.ts',
  ]);
  assert.deepEqual(problems(noClimb(planted)), ['rooms of src/model stand above each other: a.ts, kernels, paths']);
  assert.deepEqual(noClimb(planted.slice(1, 2)), []);
});

test('a file that only a dead file imports is dead too', () => {
  const dead = rules.noDeadFile([
    parseSource('src/cli/main.ts', `await import('./a.ts');`),
    parseSource('src/cli/a.ts', `new URL('../worker/entry.js', import.meta.url);`),
    parseSource('src/worker/entry.ts', ''),
    parseSource('src/base/tested.ts', ''),
    parseSource('test/base/tested.test.ts', `import '../../src/base/tested.ts';`),
    parseSource('src/model/x.ts', `import './y.ts';`),
    parseSource('src/model/y.ts', `import './x.ts';`),
  ]);
  assert.deepEqual(
    dead.map((f) => f.path),
    ['src/base/tested.ts', 'src/model/x.ts', 'src/model/y.ts'],
  );
});

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly resolved?: string; readonly optionalDependencies?: Record<string, string> }>
  >;
}

test('npm ci can use the lock: complete for every platform, and free of one registry', () => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as Lock;
  const missing = Object.entries(packages).flatMap(([key, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) => !(`node_modules/${name}` in packages) && !(`${key}/node_modules/${name}` in packages),
    ),
  );
  assert.deepEqual(missing, [], 'missing from package-lock.json. Fix: node .ci/complete-lock.mjs');
  const resolved = Object.values(packages).flatMap((p) => p.resolved ?? []);
  assert.deepEqual(
    resolved,
    [],
    'package-lock.json names a registry. Fix: npm install, with the .npmrc of this project',
  );
});

test('dependencies are pinned to one version', () => {
  const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Record<
    'dependencies' | 'devDependencies',
    Record<string, string>
  >;
  const loose = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }).filter(
    ([, v]) => !/^\d+\.\d+\.\d+$/.test(v),
  );
  assert.deepEqual(loose, [], 'Fix: npm install -E PACKAGE@VERSION');
});
