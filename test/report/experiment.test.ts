import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import {
  changeOf,
  changeText,
  failureSentences,
  findingsOf,
  readExperiment,
  writeExperiment,
} from '../../src/report/experiment.ts';
import { renderExperiment } from '../../src/report/html/experiment.ts';
import { comparison, figure, sweep } from './experiments.ts';

const root = mkdtempSync(join(tmpdir(), 'pinstorm-experiment-'));
after(() => rmSync(root, { recursive: true }));

test('a smaller latency is better, a smaller rate is worse, chance is neither', () => {
  const against = (ratio: number | null, p: number) => ({ ratio, p, significant: p < 0.05 });
  assert.equal(changeOf(figure('ns', [10], against(0.8, 0.01)), 0.01), 'better');
  assert.equal(changeOf(figure('ns', [10], against(1.2, 0.01)), 0.01), 'worse');
  assert.equal(changeOf(figure('per_second', [10], against(0.8, 0.01)), 0.01), 'worse');
  assert.equal(changeOf(figure('count', [10], against(0.8, 0.01)), 0.01), 'better');
  assert.equal(changeOf(figure('ns', [10], against(1.2, 0.2)), 0.01), 'same');
  assert.equal(changeOf(figure('ns', [10], against(null, 0.01)), 0.01), 'same');
  assert.equal(changeOf(figure('ns', [10], null), 0.01), 'unknown');
  const texts = [0.75, 1.016, 1.00004, 25, 1].map((ratio) => changeText(figure('ns', [1], against(ratio, 0.01))));
  assert.deepEqual(texts, ['-25 %', '+1.6 %', '+0.004 %', '25 times', '0 %']);
});

test('a difference below the smallest effect has no colour, and nothing that is not proved is green', () => {
  const against = { ratio: 1.004, p: 0.01, significant: true };
  assert.equal(changeOf(figure('ns', [10], against), 0.01), 'small');
  assert.equal(changeOf(figure('ns', [10], against), 0.001), 'worse');
  const whole = comparison();
  const less = { ...whole, minEffect: 0.5 };
  for (const { change, sentence } of findingsOf(less)) assert.equal(change, 'same', sentence);
  const text = renderExperiment(less);
  assert.doesNotMatch(text, /class="(ok|crossed)"|verdict v-(pass|fail)/);
  assert.match(text, /profile default \(not calibrated\); 1 host x 8 CPUs; seeds 1 to 5; /);
});

test('where nothing is drawn there is no p, no interval, and one sentence says why', () => {
  const whole = comparison();
  const cells = whole.cells.map((cell) => ({
    ...cell,
    seeds: [1],
    setting: { ...cell.setting, random: false },
    metrics: {
      throughput: figure('per_second', [5], cell.variant === 'A' ? null : { ratio: 1, p: null, significant: false }),
    },
  }));
  const text = renderExperiment({ ...whole, cells });
  assert.match(text, /All repetitions are alike: this scenario draws nothing\./);
  assert.doesNotMatch(text, /Mann-Whitney|not significant|<small>p |nothing can be/);
});

test('the words say regression, improvement, trade, or nothing, and why nothing could be said', () => {
  assert.deepEqual(
    findingsOf(comparison()).map(({ change, sentence }) => [change, sentence]),
    [
      ['worse', 'A regression, B against A: worse in map p99 +25 %.'],
      ['better', 'An improvement, D against A: better in map p99 -20 %, throughput +20 %.'],
      ['worse', 'A trade, E against A: worse in throughput -20 %; better in map p99 -20 %.'],
      ['same', 'F against A: no difference is significant.'],
    ],
  );
  const few = comparison();
  const short = { ...few, cells: few.cells.map((cell) => ({ ...cell, seeds: [1, 2, 3] })) };
  assert.match(findingsOf(short).at(-1)?.sentence ?? '', /use --repeat 5 or more/);
});

test('an experiment is read back as it was written; a damaged one is refused with a clear message', () => {
  const directory = join(root, 'kept');
  assert.equal(readExperiment(directory), null);
  writeExperiment(directory, comparison());
  assert.deepEqual(readExperiment(directory), comparison());
  const path = join(directory, 'experiment.json');
  for (const [text, message] of [
    ['{', /is not JSON/],
    ['{"schemaVersion":1}', /is not an experiment: schemaVersion/],
    [readFileSync(path, 'utf8').replace('"per_second"', '"furlongs"'), /is not an experiment: cells\.\d\.metrics/],
  ] as const) {
    writeFileSync(path, text);
    assert.throws(
      () => readExperiment(directory),
      (error) => error instanceof UserError && error.exitCode === 104 && message.test(error.message),
    );
  }
  assert.throws(
    () => writeExperiment(join(path, 'below-a-file'), comparison()),
    /cannot write .*: a part of the path is a file/,
  );
});

test('the page says it in words first, and whatever the names are, they stay text', () => {
  const text = renderExperiment(comparison('</script><img src=x>'));
  assert.ok(text.indexOf('A regression, B against A') < text.indexOf('id="plots"'));
  assert.equal(text.match(/<img/g), null);
  assert.equal(text.match(/<script/g)?.length, 3);
  assert.match(renderExperiment(sweep()), /throughput flattens at guests 4/);
});

test('of each family of figures the one that differs most is named, the largest difference first', () => {
  const whole = comparison();
  const against = (ratio: number) => ({ ratio, p: 0.001, significant: true });
  const cells = whole.cells.slice(0, 2).map((cell, i) => {
    const of = (ratio: number) => figure('ns', [ratio], i === 0 ? null : against(ratio));
    const metrics = {
      'map mean': of(1.2),
      'map p50': of(1.1),
      'map p99': of(1.4),
      'map max': of(1.3),
      'close mean': of(1.6),
      'close max': of(1.5),
      'wait mmap_write total': of(1.05),
      'wait mmap_write p99': of(1.04),
      duration: of(1.25),
    };
    return { ...cell, metrics };
  });
  assert.deepEqual(
    findingsOf({ ...whole, cells }).map(({ sentence }) => sentence),
    [
      'A regression, B against A: worse in close mean +60 %, map p99 +40 %, duration +25 %, wait mmap_write total +5.0 %.',
    ],
  );
});

test('operations that failed are named with their errors, on the page too', () => {
  const sentences = failureSentences([
    { op: 'map', total: 512, failed: 512, errors: ['enomem'] },
    { op: 'attach', total: 3, failed: 1, errors: ['einval', 'other_error'] },
  ]);
  assert.deepEqual(sentences, [
    '512 of 512 maps were refused (ENOMEM): it has no latency of map, and its throughput and waits are those of refusals',
    '1 of 3 attaches were refused (EINVAL, another error): its latencies of attach are those of the others, its throughput and waits of all',
  ]);
  const whole = comparison();
  const cells = whole.cells
    .filter(({ variant }) => variant === 'A' || variant === 'F')
    .map((cell) => (cell.variant === 'A' ? { ...cell, failures: sentences, exitCode: 99 } : cell));
  assert.match(renderExperiment({ ...whole, cells }), /verdict v-fail/);
  assert.doesNotMatch(
    renderExperiment({ ...whole, cells: cells.map(({ exitCode: _exitCode, ...cell }) => cell) }),
    /verdict v-fail/,
    'expected',
  );
  assert.match(renderExperiment({ ...whole, cells }), /<li>A: 512 of 512 maps were refused \(ENOMEM\): /);
});

test('the plots of a sweep name the settings once and each row by its values, and a knee of one repetition says so', () => {
  const whole = sweep();
  assert.match(renderExperiment(whole), /Rows: variant, guests\. /);
  assert.match(renderExperiment(whole), />E, 4</);
  assert.doesNotMatch(renderExperiment(whole), /Each knee rests on/);
  const cells = whole.cells.map((cell) => ({ ...cell, seeds: [1] }));
  assert.match(renderExperiment({ ...whole, cells }), /Each knee rests on 1 repetition: use --repeat 5/);
  const alike = cells.map((cell) => ({ ...cell, setting: { ...cell.setting, random: false } }));
  assert.doesNotMatch(renderExperiment({ ...whole, cells: alike }), /Each knee rests on/);
});
