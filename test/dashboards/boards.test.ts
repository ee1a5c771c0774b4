// slow: compiles the boards against the schemas of Grafana
/**
 * The committed boards: what the generator makes, in the form Grafana's own types describe, by the conventions of this
 * project.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { dashboards } from '../../dashboards/source/index.ts';
import { SCHEMA_VERSION } from '../../dashboards/source/board.ts';
import { assertGenerated } from '../generated.ts';
import { readBoards, type Board } from './grafana.ts';

const generated = dashboards();

for (const [name, board] of Object.entries(generated)) {
  test(`dashboards/${name}.json is what the generator makes`, async () => {
    await assertGenerated(`dashboards/${name}.json`, JSON.stringify(board));
  });
}

test('there is no other board', () => {
  const found = readdirSync('dashboards').filter((file) => file.endsWith('.json'));
  assert.deepEqual(
    found,
    Object.keys(generated)
      .map((name) => `${name}.json`)
      .toSorted(),
  );
});

/** Paths of everything in a JSON value, with the value. */
function* walk(value: unknown, path = ''): Generator<[path: string, value: unknown]> {
  yield [path, value];
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) yield* walk(inner, `${path}.${key}`);
}

/** What is wrong with a board, by the conventions. */
function faults(board: Board): string[] {
  const found: string[] = [];
  const check = (fine: boolean, fault: string): void => {
    if (!fine) found.push(fault);
  };
  check(/^pinstorm-[a-z]+$/.test(board.uid), `uid ${board.uid}`);
  check(board.id === null, `id ${board.id}`);
  check(board.schemaVersion === SCHEMA_VERSION, `schemaVersion ${board.schemaVersion}`);
  check(board.graphTooltip === 1, 'no shared crosshair');
  check(board.tags.includes('pinstorm'), 'no tag');
  check(
    board.links.some(({ type, tags }) => type === 'dashboards' && tags.includes('pinstorm')),
    'no links to the others',
  );
  check(!('__inputs' in board), '__inputs is resolved by the import dialogue only');
  check(board.templating.list[0]?.type === 'datasource', 'the first variable is not the datasource');
  check(
    board.templating.list.some(({ name }) => name === 'run'),
    'no variable run',
  );
  check(board.annotations.list.length === 5, 'annotations');
  for (const [path, value] of walk(board)) {
    if (path.endsWith('.datasource')) {
      const { uid } = value as { uid?: string };
      check(uid === '${datasource}', `${path}: datasource ${uid} of one server`);
    }
  }
  const ids = board.panels.map(({ id }) => id);
  check(new Set(ids).size === ids.length && ids.every((id) => id > 0), `panel ids ${ids.join(' ')}`);
  const cells = new Map<string, string>();
  for (const panel of board.panels) {
    const { x, y, w, h } = panel.gridPos;
    check(x + w <= 24, `${panel.title}: past the right edge`);
    for (let i = x; i < x + w; i++) {
      for (let j = y; j < y + h; j++) {
        const taken = cells.get(`${i},${j}`);
        check(taken === undefined || taken === panel.title, `${panel.title} lies over ${taken}`);
        cells.set(`${i},${j}`, panel.title);
      }
    }
    if (panel.type === 'row') continue;
    const unit = panel.fieldConfig?.defaults.unit ?? panel.options?.yAxis?.unit;
    check(unit !== undefined, `${panel.title}: no unit`);
    check((panel.description ?? '').length > 20, `${panel.title}: no description`);
    check(panel.targets.length > 0, `${panel.title}: no query`);
    for (const { expr, refId } of panel.targets) {
      check(!/\[\d+[smhd]\]/.test(expr) || /\[30d\]/.test(expr), `${panel.title} ${refId}: a fixed window: ${expr}`);
      check(!/\b(rate|increase)\([^[]*\[(?!\$__rate_interval\])/.test(expr), `${panel.title} ${refId}: ${expr}`);
      check(/\$(run|baseline)\b/.test(expr), `${panel.title} ${refId}: not narrowed to the run: ${expr}`);
      check(!/avg[^(]*\(\s*histogram_quantile/.test(expr), `${panel.title} ${refId}: averages quantiles`);
      check(!/histogram_quantile/.test(expr) || /by \(le/.test(expr), `${panel.title} ${refId}: no buckets`);
    }
    const refs = panel.targets.map(({ refId }) => refId);
    check(new Set(refs).size === refs.length, `${panel.title}: refIds ${refs.join(' ')}`);
  }
  return found;
}

test('boards keep the conventions', () => {
  const uids = new Set<string>();
  for (const [name, board] of Object.entries(readBoards())) {
    assert.deepEqual(faults(board), [], name);
    uids.add(board.uid);
  }
  assert.equal(uids.size, Object.keys(generated).length);
});

test('the conventions are checked', () => {
  const spoil = (change: (board: Board) => void): string[] => {
    const board = structuredClone(readBoards()['overview']!);
    change(board);
    return faults(board);
  };
  const first = (board: Board) => board.panels.find(({ type }) => type === 'timeseries')!;
  const cases: readonly (readonly [RegExp, (board: Board) => void])[] = [
    [/uid/, (board) => Object.assign(board, { uid: 'dbc3f1' })],
    [/of one server/, (board) => Object.assign(first(board), { datasource: { type: 'prometheus', uid: 'P1809F7CD' } })],
    [/panel ids/, (board) => Object.assign(first(board), { id: 1 })],
    [/lies over/, (board) => Object.assign(first(board).gridPos, { y: 1 })],
    [/no description/, (board) => Object.assign(first(board), { description: '' })],
    [/no unit/, (board) => Object.assign(first(board).fieldConfig!.defaults, { unit: undefined })],
    [/not narrowed/, (board) => Object.assign(first(board).targets[0]!, { expr: 'pinstorm_guests' })],
    [/fixed window/, (board) => Object.assign(first(board).targets[0]!, { expr: 'rate(x[5m]) # $run' })],
    [/__inputs/, (board) => Object.assign(board, { __inputs: [] })],
  ];
  assert.deepEqual(faults(readBoards()['overview']!), []);
  for (const [expected, change] of cases) assert.match(spoil(change).join('\n'), expected);
});

/**
 * Grafana ships its schema as types only, so the boards are compiled against them: each as a literal, its panels'
 * options against the types of their kind. A field that is unknown, misspelt or of the wrong type fails.
 */
test('boards fit the types of Grafana’s schema', () => {
  const directory = 'dist/schema-check';
  mkdirSync(directory, { recursive: true });
  const kinds = ['stat', 'timeseries', 'heatmap', 'statetimeline', 'table'];
  const file = {
    stat: 'Stat',
    timeseries: 'TimeSeries',
    heatmap: 'Heatmap',
    statetimeline: 'StateTimeline',
    table: 'Table',
  };
  const imports = kinds.map(
    (kind) =>
      `import type * as ${kind} from '@grafana/schema/dist/esm/raw/composable/${kind}/panelcfg/x/${file[kind as keyof typeof file]}PanelCfg_types.gen';`,
  );
  const write = (name: string, board: Board): string => {
    // The schema leaves open what a datasource puts into its queries; these fields are those of Prometheus.
    const own = new Set(['expr', 'step', 'textFormat', 'titleFormat', 'useValueForTime']);
    const list = board.annotations.list.map(({ target, ...mark }) => ({
      ...Object.fromEntries(Object.entries(mark).filter(([field]) => !own.has(field))),
      target: { refId: target.refId },
    }));
    const annotations = { ...board.annotations, list };
    const lines = [
      `import type { Dashboard, Panel } from '@grafana/schema';`,
      ...imports,
      // JSON has the values of an enum where the types have its members.
      'type Json<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T : { [K in keyof T]: Json<T[K]> };',
      'type Part<T> = T extends object ? { [K in keyof T]?: Part<T[K]> } : T;',
      `export const board = ${JSON.stringify({ ...board, panels: [], annotations })} satisfies Json<Dashboard>;`,
    ];
    board.panels.forEach((panel, i) => {
      if (panel.type === 'row') return;
      const { options, fieldConfig, ...rest } = panel;
      const module = panel.type.replace('-', '');
      const { custom, ...defaults } = fieldConfig?.defaults ?? {};
      lines.push(
        `export const panel${i} = ${JSON.stringify({ ...rest, fieldConfig: { ...fieldConfig, defaults } })} satisfies Json<Part<Panel>>;`,
        `export const options${i} = ${JSON.stringify(options ?? {})} satisfies Json<Part<${module}.Options>>;`,
        `export const custom${i} = ${JSON.stringify(custom ?? {})} satisfies ${panel.type === 'stat' ? 'Record<string, never>' : `Json<Part<${module}.FieldConfig>>`};`,
      );
    });
    const path = `${directory}/${name}.ts`;
    writeFileSync(path, `${lines.join('\n')}\n`);
    return path;
  };
  const compile = (files: readonly string[]): string => {
    const options =
      '--ignoreConfig --noEmit --strict --skipLibCheck --module nodenext --target es2022 --types node'.split(' ');
    const { stdout, error } = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', ...options, ...files], {
      encoding: 'utf8',
    });
    assert.equal(error, undefined);
    return stdout;
  };
  const boards = readBoards();
  assert.equal(compile(Object.entries(boards).map(([name, board]) => write(name, board))), '');
  // The check itself: what Grafana does not know is refused.
  const wrong = structuredClone(boards['overview']!);
  Object.assign(wrong.panels.find(({ type }) => type === 'timeseries')!.options!, { legendary: true });
  Object.assign(wrong, { graphTooltip: 7 });
  const refused = compile([write('wrong', wrong)]);
  assert.match(refused, /legendary/);
  assert.match(refused, /DashboardCursorSync/);
});
