// needs: prometheus redis-server
/**
 * Every query of every board against the real thing: Debian's Prometheus scrapes two real runs, and each panel,
 * annotation and variable gets data. docs/dashboard-queries.md keeps the answers of one such run.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { assertGenerated } from '../generated.ts';
import { drawBoard } from './draw.ts';
import {
  choices,
  fill,
  panelsOf,
  readBoards,
  type Board,
  type Prometheus,
  type Range,
  type Series,
} from './grafana.ts';
import { onStage } from './stage.ts';

const RUN_SECONDS = 6;
const TABLE = 'docs/dashboard-queries.md';
/** Metrics of Node itself that the boards leave out: of use to who looks for a bug in pinstorm. */
const NODES_OWN = /^pinstorm_(process|nodejs)_/;

interface Row {
  readonly board: string;
  readonly panel: string;
  readonly query: string;
  readonly expr: string;
  /** Series with at least one finite value. */
  readonly series: number;
  readonly max: number;
}

const finite = (series: readonly Series[]): number[][] =>
  series.map(({ values }) => values.map(([, v]) => v).filter(Number.isFinite)).filter((values) => values.length > 0);

/** Metrics named in an expression, as families: without the suffixes of histograms. */
const metricsIn = (expr: string): string[] => expr.match(/\bpinstorm_\w+/g) ?? [];
const familyOf = (name: string, families: ReadonlySet<string>): string =>
  families.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '');

test('every query of every board returns data from a real run', async () => {
  const boards = readBoards();
  await onStage(RUN_SECONDS, Object.values(boards), async ({ prometheus, values, scrape, range }) => {
    const table: Row[] = [];
    const ask = async (expr: string, instant: boolean): Promise<Series[]> => {
      const query = fill(expr, values, range);
      return instant ? prometheus.instant(query, range.to - 0.5) : prometheus.range(query, range);
    };
    for (const board of Object.values(boards)) {
      const queries = [
        ...panelsOf(board).flatMap(({ title, targets }) => targets.map((t) => ({ panel: title, ...t }))),
        ...board.annotations.list.map(({ name, target }) => ({ panel: `(annotation) ${name}`, ...target })),
      ];
      for (const { panel, refId, expr, instant = false } of queries) {
        const found = finite(await ask(expr, instant));
        table.push({
          board: board.title.replace('pinstorm / ', ''),
          panel,
          query: refId,
          expr,
          series: found.length,
          max: Math.max(...found.flat()),
        });
      }
    }
    const text = page(table);
    process.stdout.write(`${text}\n`);
    const empty = table
      .filter(({ series }) => series === 0)
      .map(({ board, panel, query, expr }) => ({ board, panel, query, expr: fill(expr, values, range) }));
    assert.deepEqual(empty, [], 'queries without data');

    // Names: nothing is asked for that does not exist, and nothing is exported that no panel shows.
    const families = new Set([...scrape.matchAll(/^# TYPE (\S+)/gm)].map((match) => match[1]!));
    const asked = new Set(
      Object.values(boards).flatMap((board) =>
        [
          ...panelsOf(board).flatMap(({ targets }) => targets.map(({ expr }) => expr)),
          ...board.annotations.list.map(({ target }) => target.expr),
        ]
          .flatMap(metricsIn)
          .map((name) => familyOf(name, families)),
      ),
    );
    assert.deepEqual(
      [...asked].filter((name) => !families.has(name)),
      [],
      'asked for and not exported',
    );
    const unseen = [...families].filter((name) => !asked.has(name) && !NODES_OWN.test(name));
    assert.deepEqual(unseen, [], 'exported and on no panel');

    // The other way about, one operation and another quantile: the baseline is later, so that its shift is negative.
    const { run, baseline } = values as Record<'run' | 'baseline', string>;
    const swapped: Record<string, string> = {
      ...values,
      run: baseline,
      baseline: run,
      op: '(map|unmap)',
      quantile: '0.5',
    };
    const { compare, ...others } = boards as { compare: Board } & Record<string, Board>;
    const shift = compare.templating.list.find(({ name }) => name === 'shift')!;
    swapped['shift'] = (await choices(shift, prometheus, swapped, range))[0]![1];
    assert.ok(Number(swapped['shift']) < 0 && Number(values['shift']) > 0, `${values['shift']}, ${swapped['shift']}`);
    for (const { title, targets } of panelsOf(compare)) {
      for (const { expr, instant = false } of targets) {
        const query = fill(expr, swapped, range);
        const answer = instant ? await prometheus.instant(query, range.to) : await prometheus.range(query, range);
        assert.ok(finite(answer).length > 0, `${title}, swapped: ${query}`);
      }
    }

    // The previewer draws what was asked, without a hole.
    for (const board of [compare, ...Object.values(others)]) {
      const html = await drawBoard(board, prometheus, values, range);
      assert.doesNotMatch(html, /NaN|undefined|Infinity|No data/, board.title);
    }

    await trouble(prometheus, range);
    await rules(prometheus, range);

    if (process.env['PINSTORM_UPDATE'] === '1') await assertGenerated(TABLE, text);
    // The figures are of another run; what was asked must be what is asked now.
    const cells = (markdown: string): string[] =>
      [...markdown.matchAll(/^\| +([^|]+?) +\| +([^|]+?) +\| +([A-Za-z]+) +\|/gm)]
        .map((m) => m.slice(1, 4).join(' / '))
        .slice(1);
    assert.deepEqual(
      cells(readFileSync(TABLE, 'utf8')),
      cells(text),
      `${TABLE} is stale: run PINSTORM_UPDATE=1 test/run dashboards/queries`,
    );
  });
});

/** The run had what the boards are for: otherwise the answers above prove little. */
async function trouble(prometheus: Prometheus, range: Range): Promise<void> {
  const most = async (expr: string): Promise<number> =>
    Math.max(0, ...finite(await prometheus.range(expr, range)).flat());
  for (const metric of [
    'pinstorm_trylock_failures_total',
    'pinstorm_deferred_jobs_total{state="applied"}',
    'pinstorm_limit_refusals_total',
    'pinstorm_op_duration_seconds_count{outcome="enomem"}',
    'pinstorm_lock_waits_total',
    'pinstorm_thread_idle_seconds_total',
    'pinstorm_stage_start_timestamp_seconds{stage="load"}',
    'pinstorm_worker_cpu_seconds_total',
    'pinstorm_worker_resident_memory_bytes',
    'pinstorm_redis_commands_total',
    'pinstorm_guest_jobs{state="active"}',
  ]) {
    assert.ok((await most(metric)) > 0, `${metric} stayed 0`);
  }
  assert.equal(await most('count(pinstorm_worker_up)'), 2);
  assert.equal(await most('pinstorm_threshold_ok{metric="trylock_failures"} == bool 0'), 1);
  const statuses = finite(await prometheus.range('pinstorm_run_exit_status', range)).flat();
  // A busy machine is a saturated generator, which counts before a threshold.
  assert.ok(
    statuses.includes(99) || statuses.includes(114),
    `exit status so far: ${[...new Set(statuses)].join(', ')}`,
  );
}

/** The rules of deploy/prometheus as this server evaluated them. */
async function rules(prometheus: Prometheus, range: Range): Promise<void> {
  const { groups } = parse(readFileSync('deploy/prometheus/rules/recording.yml', 'utf8')) as {
    groups: { rules: { record: string }[] }[];
  };
  for (const { record } of groups.flatMap((group) => group.rules)) {
    assert.ok(finite(await prometheus.range(record, range)).length > 0, `${record} recorded nothing`);
  }
  const fired = await prometheus.range('ALERTS{alertname="PinstormThresholdCrossed"}', range);
  assert.ok(fired.length > 0, 'PinstormThresholdCrossed was not even pending');
}

function page(table: readonly Row[]): string {
  const count = (key: (row: Row) => string): number => new Set(table.map(key)).size;
  const least = Math.min(...table.map(({ series }) => series));
  const lines = [
    '# The queries of the boards, run',
    '',
    '<!-- Made by test/dashboards/queries.test.ts with PINSTORM_UPDATE=1. -->',
    '',
    `Two real runs of ${RUN_SECONDS} s (variant C, then D, two workers each) were scraped by Prometheus every second; then every query of`,
    'every panel was sent to it as Grafana would, over the time of both runs. *Series* counts those with at least one finite',
    'value, *largest* is the largest of these values. The test repeats this on every run of the tests and fails where a query',
    'returns nothing.',
    '',
    `${count((r) => r.board)} boards, ${count((r) => r.board + r.panel)} panels and annotations, ${table.length} queries, at least ${least} series each.`,
    '',
    '| board | panel | query | series | largest |',
    '| --- | --- | --- | ---: | ---: |',
    ...table.map(
      ({ board, panel, query, series, max }) =>
        `| ${board} | ${panel} | ${query} | ${series} | ${Number.isFinite(max) ? Number(max.toPrecision(4)) : 'none'} |`,
    ),
    '',
  ];
  return lines.join('\n');
}
