// slow: simulates repetitions
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { EXIT } from '../../src/base/errors.ts';
import { MIN_EFFECT_OPTION } from '../../src/cli/experiment-options.ts';
import { simulateAll } from '../../src/emulator/host-pool.ts';
import { hostTasks } from '../../src/emulator/host-result.ts';
import type { ActorPlan } from '../../src/engine/plan.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { virtualResults } from '../../src/run/simulated-results.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { resolveScenario } from '../../src/scenario/validate.ts';
import { compareCells, compareText } from '../../src/study/compare.ts';
import { type CellResults, endingOf, figuresOf, isRandom, runCells } from '../../src/study/experiment.ts';
import { gridOf, kneesOf, parseAxis, sweepCsv, sweepText } from '../../src/study/sweep.ts';
import { SETTING } from '../report/experiments.ts';
import { parsedFile } from '../scenario/read.ts';
import { pinstorm } from './in-process.ts';

const flag = { kind: 'flag' as const, text: 'test' };
const set = (path: string, value: string) => ({ path, value, origin: flag });
const SMALL = [set('memory.backing', 'anon4k'), set('guests.huge.actors.mapper.options.total', '16GiB')];
const HUGE = 'scenarios/huge-guest.yaml';

const byVariant = (...variants: string[]) =>
  variants.map((value) => ({ labels: { variant: value }, overrides: [set('variant', value)] }));

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof UserError);
    assert.equal(error.exitCode, 104);
    return error.message;
  }
  return assert.fail('not refused');
}

/** Two guests of which no map fits the limit. */
const REFUSED = `name: refused
guests:
  - class: tight
    count: 2
    memory: { size: 64MiB }
    memlock: 64KiB
    actors:
      - { name: a, task: main, workload: map-unmap, options: { pages: 64 pages, stop_on_failure: false }, iterations: 8 }
`;

/** Runs `act` with a file that holds the scenario. */
async function withFile<T>(yaml: string, act: (file: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), 'pinstorm-experiment-'));
  try {
    const file = join(dir, 'scenario.yaml');
    writeFileSync(file, yaml);
    return await act(file);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

describe('operations that fail', () => {
  const sentence = /16 of 16 maps were refused \(ENOMEM\): it has no latency of map/;
  const flat = (out: string): string => out.replaceAll('\n', ' ');

  it('are said for each variant and each cell, with the status of a single run', async () => {
    await withFile(REFUSED, async (file) => {
      const compared = await pinstorm(['compare', file, '--variants', 'E,I-none', '--quiet']);
      assert.equal(compared.status, 99, compared.err);
      assert.match(flat(compared.out), new RegExp(`E: ${sentence.source}`));
      assert.match(flat(compared.out), /E: threshold crossed: op_errors\{op:map\} rate == 0/);
      assert.doesNotMatch(flat(compared.out), /I-none: \d+ of/);

      const swept = await pinstorm(['sweep', file, '--set', 'guests.tight.memlock=64KiB,1MiB', '--quiet']);
      assert.equal(swept.status, 99, swept.err);
      assert.match(flat(swept.out), new RegExp(`guests.tight.memlock 64KiB: ${sentence.source}`));
      assert.doesNotMatch(flat(swept.out), /memlock 1MiB: /);
    });
  });

  it('are said and cross nothing where the scenario expects them', async () => {
    await withFile(`${REFUSED}expect: [{ map: ENOMEM }]\n`, async (file) => {
      const { status, out, err } = await pinstorm(['compare', file, '--variants', 'D,E', '--quiet']);
      assert.equal(status, 0, err);
      for (const name of ['D', 'E']) assert.match(flat(out), new RegExp(`${name}: ${sentence.source}`));
    });
  });
});

describe('what is random', () => {
  const plansOf = (file: string) => {
    const resolved = resolveScenario(parsedFile(file), REGISTRY, []);
    return [1, 2].map((seed) => planRun({ ...resolved, scenario: { ...resolved.scenario, seed } }, REGISTRY));
  };
  it('is known from the plans, the faults, the arrivals and the workloads', () => {
    const plans = plansOf(HUGE);
    assert.equal(isRandom(plans), false);
    assert.equal(isRandom(plansOf('scenarios/boot-storm.yaml')), true, 'guests start at drawn times');
    assert.equal(isRandom(plans.map((plan) => ({ ...plan, faults: { map: 0.01 } }))), true);
    const withActor = (change: Partial<ActorPlan>) =>
      plans.map((plan) => ({
        ...plan,
        guests: plan.guests.map((guest) => ({ ...guest, actors: guest.actors.map((a) => ({ ...a, ...change })) })),
      }));
    assert.equal(isRandom(withActor({ arrival: { kind: 'poisson', options: { perSecond: 1 } } })), true);
    const drawing = [...REGISTRY.workloads.keys()].filter((workload) => isRandom(withActor({ workload })));
    assert.deepEqual(drawing.toSorted(), ['balloon', 'mdev-pin', 'virtio-mem']);
  });
});

describe('compare', () => {
  it('shows the regression of variant B from one repetition, where nothing is drawn', async () => {
    const names = ['A', 'B', 'D', 'A'];
    const cells = await runCells(parsedFile(HUGE), SMALL, byVariant(...names), { repeat: 4, threads: 1 });
    const table = compareCells(cells, ({ labels }) => labels['variant'] ?? '');
    const map = table.find(({ metric }) => metric === 'map mean');
    const [a, b, d, again] = map?.cells ?? [];
    assert.equal(a?.against, null);
    assert.ok(b?.against?.significant === true && (b.against.ratio ?? 0) > 1.2, `${b?.against?.ratio}`);
    assert.ok(d?.against?.ratio !== null && Math.abs((d?.against?.ratio ?? 0) - 1) < 0.02);
    assert.deepEqual([again?.against?.p, again?.against?.significant], [null, false]);
    const text = compareText(table, names, cells, 0.01);
    assert.deepEqual(
      cells.map(({ seeds }) => seeds.length),
      [1, 1, 1, 1],
    );
    assert.match(text, /^map mean .*\+\d+\.\d % .*s =$/m);
    assert.doesNotMatch(text, /p=|Mann-Whitney|nothing can be/);
    assert.match(text, /All repetitions are alike: this scenario draws nothing\./);
    assert.match(
      text,
      /profile \S+ \((not )?calibrated\); 1 host x [^;]+; seed 1; A =\s[^;]+,\sB =\s[^;]+,\sD =\s[^;]+;\spinstorm\s\d/,
    );
    // What does not fit beside the others has a table of its own, with the base again.
    const wide = compareText(
      table.map((row) => ({ ...row, cells: [row.cells[0]!, ...Array.from({ length: 7 }, () => row.cells[1]!)] })),
      'ABCDEFGH'.split(''),
      cells,
      0.01,
    );
    const heads = wide.split('\n').filter((line) => /^ +A( |$)/.test(line));
    assert.equal(heads.map((line) => line.replaceAll(' ', '')).join(' '), 'ABCD AEFG AH');
    for (const line of wide.split('\n')) assert.ok(line.length <= 80, line);
  });

  it('uses the same seeds for every cell, and other ones for every repetition', async () => {
    const options = { repeat: 3, threads: 2 };
    const storm = [set('guests.small.count', '3'), set('guests.large.count', '1'), set('duration', '2s')];
    const cells = await runCells(parsedFile('scenarios/boot-storm.yaml'), storm, byVariant('D', 'E'), options);
    assert.deepEqual(
      cells.map(({ seeds }) => [...seeds]),
      [
        [1, 2, 3],
        [1, 2, 3],
      ],
    );
    const means = cells[0]?.figures.map((f) => f.get('map mean')?.value) ?? [];
    assert.equal(new Set(means).size, 3, means.join(' '));
    // One thread or two: the same figures.
    const alone = await runCells(parsedFile('scenarios/boot-storm.yaml'), storm, byVariant('D', 'E'), {
      repeat: 3,
      threads: 1,
    });
    assert.deepEqual(alone, cells);
  });
});

describe('one cell', () => {
  it('has the figures of a single run with its seed', async () => {
    const storm = [set('guests.small.count', '3'), set('guests.large.count', '1'), set('duration', '2s')];
    const source = parsedFile('scenarios/boot-storm.yaml');
    const [cell] = await runCells(source, storm, byVariant('D'), { repeat: 2, threads: 1 });
    for (const [i, seed] of [1, 2].entries()) {
      const overrides = [...storm, set('variant', 'D'), set('seed', String(seed))];
      const plan = planRun(resolveScenario(source, REGISTRY, overrides), REGISTRY);
      const results = virtualResults(plan, await simulateAll(hostTasks(plan), { threads: 1 }));
      assert.deepEqual(cell?.figures[i], figuresOf(results), `seed ${seed}`);
    }
  });

  it('is random with one repetition too, if its plan depends on the seed', async () => {
    const storm = [set('guests.small.count', '2'), set('guests.large.count', '1'), set('duration', '1s')];
    const cells = await runCells(parsedFile('scenarios/boot-storm.yaml'), storm, byVariant('D'), {
      repeat: 1,
      threads: 1,
    });
    assert.deepEqual(
      cells.map(({ seeds, setting }) => [seeds.length, setting.random]),
      [[1, true]],
    );
    assert.equal(endingOf(cells, 5).note, 'pinstorm: stopped, these are 1 of 5 repetitions\n');
    assert.equal(endingOf(cells, 5).exitCode, EXIT.stopped);
    const alike = cells.map((cell) => ({ ...cell, setting: { ...cell.setting, random: false } }));
    const ending = endingOf(alike, 5);
    assert.equal(ending.note, null, 'a stopped experiment counts what was to run, not --repeat');
    assert.ok(ending.complete);
  });
});

describe('--min-effect', () => {
  const { parse } = MIN_EFFECT_OPTION.minEffect;
  it('takes shares from 0 % to 100 %', () => {
    const shares = ['0%', '1%', '2.5%', '2.5 %', '100%'].map((given) => parse(given));
    assert.deepEqual(shares, [0, 0.01, 0.025, 0.025, 1]);
  });
  for (const given of ['', '1', '0.01', '-1%', '101%', '1%%', '%', '1e1%', 'one%', '1.%']) {
    it(`refuses '${given}'`, () => {
      assert.match(
        refusal(() => parse(given)),
        /expected a share from 0% to 100%, such as 1%, got "/,
      );
    });
  }
});

describe('sweep', () => {
  it('reads ranges and lists', () => {
    assert.deepEqual(parseAxis('guests=1..20:log2').values, ['1', '2', '4', '8', '16']);
    assert.deepEqual(parseAxis('host.cpus=2..9:3').values, ['2', '5', '8']);
    assert.deepEqual(parseAxis('host.cpus=3..5').values, ['3', '4', '5']);
    assert.deepEqual(parseAxis('variant=A, D,E'), { key: 'variant', values: ['A', 'D', 'E'], numeric: false });
    assert.equal(parseAxis('host.cpus=1,2,8').numeric, true);
  });

  it('refuses what is neither, with the fix', () => {
    for (const [given, message] of [
      ['guests', /expected key=range/],
      ['guests=', /expected key=range/],
      ['guests=9..1', /upside down: write 1\.\.9/],
      ['guests=0..8:log2', /never ends/],
      ['guests=1..8:0', /never ends/],
      ['guests=1..x', /a range is/],
      ['variant=A,,B', /empty/],
      ['guests=1..99999999', /more than 10000/],
    ] as const) {
      assert.match(
        refusal(() => parseAxis(given)),
        message,
        given,
      );
    }
    assert.match(
      refusal(() => gridOf([parseAxis('pace=1'), parseAxis('pace=2')])),
      /given twice/,
    );
  });

  it('spans the grid, first axis outermost', () => {
    const grid = gridOf([parseAxis('variant=A,B'), parseAxis('guests=1..2')]);
    assert.deepEqual(
      grid.map(({ labels }) => `${labels['variant']}${labels['guests']}`),
      ['A1', 'A2', 'B1', 'B2'],
    );
  });

  it('finds the knee per combination of the other axes', () => {
    const cell = (variant: string, guests: number, throughput: number): CellResults => ({
      labels: { variant, guests: String(guests) },
      variant,
      seeds: [1],
      figures: [new Map([['throughput', { value: throughput, unit: 'per_second' as const }]])],
      violations: [],
      failures: [],
      exitCode: 0,
      setting: SETTING,
    });
    const axes = [parseAxis('variant=A,E'), parseAxis('guests=1,2,4,8')];
    const cells = [1, 2, 4, 8].flatMap((n) => [cell('A', n, n), cell('E', n, Math.min(n, 2))]);
    assert.deepEqual(
      kneesOf(axes, cells, 'throughput').map(({ labels, at }) => [labels['variant'], at]),
      [
        ['A', null],
        ['E', 2],
      ],
    );
    const caveat = /Each knee rests on 1 repetition: use --repeat 5/;
    const textOf = (given: readonly CellResults[]): string =>
      sweepText(axes, given, ['throughput'], kneesOf(axes, given, 'throughput'));
    assert.match(textOf(cells), /^variant=E: throughput flattens at guests=2$/m);
    assert.match(textOf(cells), caveat);
    assert.doesNotMatch(textOf(cells.map((one) => ({ ...one, seeds: [1, 2] }))), caveat);
  });

  it('writes a CSV that other programs read, from the command line too', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'pinstorm-sweep-'));
    const csv = join(dir, 'out.csv');
    try {
      const run = async (threads: string): Promise<string> => {
        const args = [HUGE, '--set', 'variant=A,B', '--set', 'memory.backing=anon4k', '--repeat', '2', '--csv', csv];
        const { status, err } = await pinstorm(['sweep', ...args, '--threads', threads, '--quiet']);
        assert.equal(status, 0, err);
        return readFileSync(csv, 'utf8');
      };
      const text = await run('1');
      const lines = text.trimEnd().split('\n');
      assert.equal(lines[0], 'variant,memory.backing,metric,unit,median,low,high,coverage,repetitions');
      assert.ok(lines.some((line) => /^B,anon4k,map mean,ns,\d+(\.\d+)?,/.test(line)));
      for (const line of lines) assert.equal(line.split(',').length, 9, line);
      assert.equal(await run('2'), text, 'two threads, the same bytes');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('quotes what a CSV needs quoted', () => {
    const cell: CellResults = {
      labels: { 'a,b': 'say "x", y' },
      variant: 'A',
      seeds: [1],
      figures: [new Map([['m', { value: 1, unit: 'count' as const }]])],
      violations: [],
      failures: [],
      exitCode: 0,
      setting: SETTING,
    };
    assert.match(sweepCsv([{ key: 'a,b', values: [], numeric: false }], [cell]), /^"say ""x"", y",m,count,1,1,1,0,1$/m);
  });
});
