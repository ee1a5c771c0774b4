import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { actualSeries, Op, Outcome, SERIES, SERIES_BY_NAME } from '../../src/metrics/ops.ts';
import { buildResults } from '../../src/report/build.ts';
import { readContents } from '../../src/report/contents.ts';
import { intervalsCsv } from '../../src/report/csv.ts';
import { hgrmFiles } from '../../src/report/hgrm.ts';
import { escape, html, jsonData } from '../../src/report/html/markup.ts';
import { reportOf } from '../../src/report/html/report.ts';
import { sampleDirectory } from './directory.ts';
import { failing } from './sample.ts';

const MAP = actualSeries(Op.map, Outcome.ok);

const root = mkdtempSync(join(tmpdir(), 'pinstorm-html-'));
after(() => rmSync(root, { recursive: true }));

const EVIL = '</script><script>globalThis.pwned = 1</script><img src=x onerror="globalThis.pwned = 1">\u2028\'"&';

test('templates escape what is put in, and only that', () => {
  assert.equal(
    html`<b title="${EVIL}">${[html`<i>${1}</i>`, null, false, 'a<b']}</b>`.text.match(/<(?:script|img)/),
    null,
  );
  assert.equal(html`<b>${[html`<i>${1}</i>`, null, false, 'a<b']}</b>`.text, '<b><i>1</i>a&lt;b</b>');
  assert.equal(escape('\u0000\u001b[31m<>&"\''), '[31m&lt;&gt;&amp;&quot;&#39;');
  const json = jsonData({ text: EVIL }).text;
  assert.doesNotMatch(json, /[<\u2028]/);
  assert.deepEqual(JSON.parse(json), { text: EVIL });
});

test('whatever a run directory holds, it stays text', () => {
  const { directory } = sampleDirectory(root, {
    name: EVIL,
    guestClass: EVIL,
    error: EVIL,
    history: EVIL,
    scenario: EVIL,
  });
  directory.event(1, 'violation', { invariant: EVIL, count: 1, expected: false, history: EVIL });
  const text = reportOf(directory.path);
  assert.equal(text.match(/<img/g), null);
  assert.equal(text.match(/<script/g)?.length, 3, 'one that runs early, the data, the scripts');
  assert.equal(text.match(/<\/script/g)?.length, 3);
  assert.doesNotMatch(text, /<script>globalThis/);
  assert.match(text, /&lt;\/script&gt;&lt;script&gt;globalThis\.pwned/);
});

test('the page loads nothing', () => {
  const { directory } = sampleDirectory(root);
  const text = reportOf(directory.path);
  assert.doesNotMatch(text, /(?:src|href)="(?!#)/);
  assert.doesNotMatch(text, /@import|url\(/);
  assert.match(text, /default-src &#39;none&#39;/);
});

test('the report says the verdict first, and every section is there', () => {
  const { directory, whole } = sampleDirectory(root);
  const results = buildResults({ ...failing(), snapshot: whole });
  directory.finish(results, '');
  const text = reportOf(directory.path);
  const order = [
    'verdict',
    'thresholds',
    'latency',
    'spectrum',
    'heatmap',
    'locks',
    'deferred',
    'throughput',
    'phases',
    'guests',
    'accounting',
    'health',
    'events',
    'configuration',
    'reproduce',
  ].map((id) => text.indexOf(`id="${id}"`));
  assert.ok(
    order.every((at, i) => at > 0 && (i === 0 || at > order[i - 1]!)),
    order.join(),
  );
  assert.match(text, /Failed: invariant over_penalty violated 2 times, and 2 more reasons below\./);
  assert.match(text, /guest 3 {2}mapper {3}unmap 1 page: trylock fails/);
  assert.match(text, /pinstorm run scenarios\/accounting-stress\.yaml/);
});

test('of a damaged directory it shows what is left and says what is missing', () => {
  for (const name of [
    'latency.hlog',
    'intervals.jsonl',
    'events.jsonl',
    'guests.jsonl',
    'plan.json',
    'scenario.yaml',
  ]) {
    const { directory } = sampleDirectory(root);
    unlinkSync(join(directory.path, name));
    const { missing } = readContents(directory.path);
    assert.ok(
      missing.some((text) => text.startsWith(`${name} is missing: `)),
      `${name}: ${missing.join(' ')}`,
    );
    assert.match(reportOf(directory.path), new RegExp(`${name} is missing`));
  }
  const { directory, whole } = sampleDirectory(root);
  directory.finish(buildResults({ ...failing(), snapshot: whole }), '');
  unlinkSync(join(directory.path, 'run.json'));
  assert.match(reportOf(directory.path), /run\.json is missing/);
});

test('cut off anywhere, a directory still gives a report', () => {
  const { directory } = sampleDirectory(root);
  for (const name of ['latency.hlog', 'intervals.jsonl', 'events.jsonl', 'guests.jsonl', 'plan.json']) {
    const path = join(directory.path, name);
    const original = readFileSync(path);
    for (let cut = 1; cut < Math.min(original.length, 900); cut += 37) {
      truncateSync(path, original.length - cut);
      const { charts, missing } = readContents(directory.path);
      assert.ok(charts.slots.length >= 1 && missing.length >= 1, `${name} cut by ${cut}`);
    }
    writeFileSync(path, original);
  }
});

test('histograms belong to the interval they were recorded in, also after a crash between the two files', () => {
  const { directory, each, whole } = sampleDirectory(root);
  const { charts } = readContents(directory.path);
  assert.deepEqual(
    charts.slots.map((slot) => slot.series['actual.map.ok']?.[0] ?? 0),
    each.map((snapshot) => snapshot.count(MAP)),
  );
  const path = join(directory.path, 'intervals.jsonl');
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  writeFileSync(path, `${lines.slice(0, -1).join('\n')}\n`);
  const crashed = readContents(directory.path).charts;
  assert.equal(crashed.slots.length, each.length, 'the histograms of the last interval make a slot of their own');
  const sum = crashed.slots.reduce((n, slot) => n + (slot.series['actual.map.ok']?.[0] ?? 0), 0);
  assert.equal(sum, whole.count(MAP));
});

test('CSV: a line per slot, as many columns in each, names that are no formulas', () => {
  const { directory, each } = sampleDirectory(root);
  const csv = intervalsCsv(readContents(directory.path).charts);
  const [head = '', ...lines] = csv.trimEnd().split('\r\n');
  assert.equal(lines.length, each.length);
  for (const line of lines) assert.equal(line.split(',').length, head.split(',').length);
  const column = head.split(',').indexOf('actual.map.ok.count');
  assert.deepEqual(
    lines.map((line) => Number(line.split(',')[column])),
    each.map((snapshot) => snapshot.count(MAP)),
  );
  const slot = { start: 0, end: 1, series: {}, gauges: {}, guests: {} };
  const evil = intervalsCsv({
    ...readContents(directory.path).charts,
    slots: [{ ...slot, counters: { '=cmd,"x"': 1 } }],
  });
  assert.ok(evil.startsWith(`start_seconds,end_seconds,"'=cmd,""x"""\r\n0,1,1\r\n`), evil);
  const escapes = intervalsCsv({
    ...readContents(directory.path).charts,
    slots: [{ ...slot, counters: { 'a\u001b]0;x\u0007\u202e': 1 } }],
  });
  assert.equal(escapes, 'start_seconds,end_seconds,a\\u001b]0;x\\u0007\\u202e\r\n0,1,1\r\n');
});

test('hgrm: the distribution of each series in nanoseconds, as the library counts it', () => {
  const { directory, whole } = sampleDirectory(root);
  const files = hgrmFiles(readContents(directory.path));
  const names = [...whole.data.keys()].map((id) => `${SERIES[id]!.name}.hgrm`);
  assert.deepEqual(files.map(({ name }) => name).toSorted(), names.toSorted());
  for (const { name, text } of files) {
    const id = SERIES_BY_NAME.get(name.replace(/\.hgrm$/, ''))!;
    const [head = '', , ...rows] = text.split('\n');
    assert.match(head, /^ +Value +Percentile +TotalCount 1\/\(1-Percentile\)$/);
    const points = rows.filter((row) => /^ *\d/.test(row)).map((row) => row.trim().split(/ +/).map(Number));
    assert.equal(points.at(-1)?.[2], whole.count(id), `${name}: the last count is that of all samples`);
    const histogram = whole.histogram(id)!;
    for (const [ns = 0, , count = 0] of points) {
      // Half a sample below a step of the curve there is no rounding to disagree about.
      const share = ((count - 0.5) / histogram.totalCount) * 100;
      assert.equal(histogram.getValueAtPercentile(share), ns, `${name} at ${count} samples`);
    }
    assert.match(text, /#\[Max/);
  }
});
