// slow: searches limits by many simulations
/** `pinstorm advise`: answers known by hand, and where the model needs another limit than the formula. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { endlessScenario, start } from './endless.ts';
import { pinstorm, type Ended } from './in-process.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'pinstorm-advise-'));
after(() => rmSync(directory, { recursive: true }));

const advise = (...args: string[]): Promise<Ended> => pinstorm(['advise', ...args]);

interface Cell {
  readonly variant: string;
  readonly devices: number;
  readonly limitPages: number | null;
  readonly limitBytes: number | null;
  readonly formulaPages: number;
  readonly at: { readonly refused: number; readonly mappings: number; readonly otherRefusals: Record<string, number> };
  readonly below: {
    readonly limitPages: number;
    readonly refused: number;
    readonly otherRefusals: Record<string, number>;
  } | null;
}

async function cellsOf(...args: string[]): Promise<Cell[]> {
  const { status, out, err } = await advise(...args, '--json');
  assert.equal(status, 0, err);
  return (JSON.parse(out) as { cells: Cell[] }).cells;
}

function scenario(name: string, yaml: string): string {
  const file = path.join(directory, `${name}.yaml`);
  writeFileSync(file, yaml);
  return file;
}

const actor = (workload: string, options: string): string =>
  `{ name: a, task: main, workload: ${workload}, options: ${options}, iterations: 1 }`;

const flat = (out: string): string => out.replaceAll('\n', ' ');

const GIB = 2 ** 18;
/** A PC leaves out what lies between 640 KiB and 1 MiB. */
const HOLE = 96;

describe('pinstorm advise', () => {
  it('N devices behind a vIOMMU need N times the memory, for whoever pays', async () => {
    // Variant J-cas takes long for a page, whatever the backing.
    for (const [size, of, mappings, variants] of [
      ['4GiB', 4 * GIB, 3, 'E,H2,I,I-mm,I-none'],
      ['64MiB', GIB / 16, 2, 'J-cas'],
    ] as const) {
      const file = scenario(
        `devices-${size}`,
        `name: devices\nguests: [{ class: vm, memory: { size: ${size}, backing: thp }, actors: [${actor('boot', '{}')}] }]\n`,
      );
      const cells = await cellsOf(file, '--variants', variants, '--devices', '1,2,3');
      assert.equal(cells.length, 3 * variants.split(',').length);
      for (const cell of cells) {
        const pages = cell.variant === 'I-none' ? 0 : cell.devices * (of - HOLE);
        const what = `${cell.variant}, ${cell.devices} devices`;
        assert.equal(cell.limitPages, pages, what);
        assert.equal(cell.formulaPages, pages, what);
        assert.equal(cell.limitBytes, pages * 4096, what);
        assert.equal(cell.at.refused, 0, what);
        assert.equal(cell.at.mappings, mappings, what);
        // The search has seen one page less fail.
        assert.deepEqual(cell.below?.limitPages ?? null, pages === 0 ? null : pages - 1, what);
        assert.ok(pages === 0 || (cell.below?.refused ?? 0) > 0, what);
      }
    }
  });

  it('devices that the scenario has count once, and further ones copy them in turn', async () => {
    const dev = (name: string, container: number): string =>
      `{ name: ${name}, task: ${container === 0 ? 'main' : 'thread'}, workload: boot, options: { container: ${container} }, iterations: 1 }`;
    const file = scenario(
      'two',
      `name: two\nguests: [{ class: vm, memory: { size: 64MiB, backing: thp }, containers: 2, actors: [${dev('d0', 0)}, ${dev('d1', 1)}] }]\n`,
    );
    const cells = await cellsOf(file, '--variants', 'H', '--devices', '1,2,3');
    const pages = 2 ** 14 - HOLE;
    assert.deepEqual(
      cells.map(({ devices, limitPages, formulaPages }) => [devices, limitPages, formulaPages]),
      [
        [2, 2 * pages, 2 * pages],
        [3, 3 * pages, 3 * pages],
      ],
    );
    const { out } = await advise(file, '--variants', 'H', '--devices', '1');
    assert.match(flat(out), /Class vm has 2 containers in the scenario: these are 2 devices\./);
  });

  it('leaves out what something else refuses, and says so', async () => {
    const maps = `name: entries\nguests: [{ class: app, memory: { size: 262540KiB, backing: anon4k }, actors: [${actor('boot', '{ piece: 4KiB }')}] }]\n`;
    const args = [scenario('entries', maps), '--variants', 'H', '--devices', '1'];
    const { status, out, err } = await advise(...args);
    assert.equal(status, 0, err);
    assert.match(out, /^H +1 +262140 /m, 'dma_entry_limit mappings of a page');
    assert.match(flat(out), /left out: 4 with ENOSPC\. 4 times .* held 65535, which is dma_entry_limit: map larger/);

    const faulty = `name: faulty\nfaults: { dma_node: 0.5 }\nguests: [{ class: app, memory: { size: 1MiB }, actors: [{ name: a, task: main, workload: map-unmap, options: { pages: 16 pages, stop_on_failure: false }, iterations: 20 }] }]\n`;
    const [cell] = await cellsOf(scenario('faulty', faulty), '--variants', 'H', '--devices', '1');
    assert.deepEqual([cell?.limitPages, cell?.at.refused], [16, 0]);
    assert.ok((cell?.at.otherRefusals['enomem'] ?? 0) > 0);
  });

  it('counts EPERM of mlock at a limit of 0 as a refusal of the limit', async () => {
    const locks = `name: locks\nguests: [{ class: app, memory: { size: 1MiB }, actors: [${actor('mlock-loop', '{ pages: 1 page }')}] }]\n`;
    const [cell] = await cellsOf(scenario('locks', locks), '--variants', 'E', '--devices', '1');
    assert.equal(cell?.limitPages, 1);
    assert.deepEqual([cell?.below?.limitPages, cell?.below?.otherRefusals], [0, {}]);
    assert.ok((cell?.below?.refused ?? 0) > 0);
  });

  it('names what it rests on, and one seed where nothing is drawn', async () => {
    const one = `name: one\nseed: 5\nguests: [{ class: vm, memory: { size: 1MiB }, actors: [${actor('boot', '{}')}] }]\n`;
    const { out } = await advise(scenario('one', one), '--variants', 'E,H', '--devices', '1', '--repeat', '3');
    assert.match(flat(out), /All repetitions are alike: this scenario draws nothing\./);
    assert.match(
      flat(out),
      /profile default \(not calibrated\); 1 host x [^;]+; seed 5; E = 4\.12 - 4\.17, H = [^;]+; pinstorm \d/,
    );
  });

  it('what is mapped twice counts twice', async () => {
    const [cell] = await cellsOf(
      'scenarios/huge-guest.yaml',
      '--variants',
      'H',
      '--devices',
      '1',
      '--set',
      'actors.mapper.options.total=12GiB',
    );
    assert.equal(cell?.limitPages, 160 + 786_176 + 2 * GIB * 4);
    assert.equal(cell?.at.mappings, 4);
  });

  it('iommufd charges all guests of a user to one quota, type1 each address space its own', async () => {
    const one = (name: string): string =>
      `{ class: ${name}, uid: 7, memory: { size: 64 KiB }, actors: [${actor('map-unmap', '{ pages: 16 pages, stop_on_failure: false }')}] }`;
    const file = scenario('users', `name: users\nguests: [${one('x')}, ${one('y')}]\n`);
    const pages = Object.fromEntries(
      (await cellsOf(file, '--variants', 'E,I', '--devices', '1')).map((c) => [
        c.variant,
        [c.limitPages, c.formulaPages],
      ]),
    );
    // The maps of the two overlap in time, or one alone would do.
    assert.deepEqual(pages, { E: [16, 16], I: [32, 32] });
  });

  it('mlock shares the quota of type1 and of RLIMIT_MODE 1, not that of iommufd', async () => {
    const limits = await cellsOf(
      'scenarios/accounting-stress.yaml',
      '--variants',
      'E,I-mm,I',
      '--devices',
      '1',
      '--duration',
      '50ms',
    );
    assert.deepEqual(
      limits.map((c) => [c.variant, c.limitPages]),
      [
        ['E', 2],
        ['I-mm', 2],
        ['I', 1],
      ],
    );
  });

  it('a share of failures that is allowed lets the largest guests fail', async () => {
    const guests = [1, 100].map(
      (pages, i) =>
        `{ class: c${pages}, count: ${i === 0 ? 9 : 1}, memory: { size: 1MiB }, actors: [${actor('map-unmap', `{ pages: ${pages} pages, stop_on_failure: false }`)}] }`,
    );
    const file = scenario('fleet', `name: fleet\nguests: [${guests.join(', ')}]\n`);
    const limit = async (share: string): Promise<number | null | undefined> =>
      (await cellsOf(file, '--variants', 'E', '--devices', '1', '--max-failures', share))[0]?.limitPages;
    assert.equal(await limit('0%'), 100);
    assert.equal(await limit('9.9%'), 100);
    assert.equal(await limit('10%'), 1);
  });

  it('under deferred accounting no limit is enough for accounting-stress, and the text says why in 80 columns', async () => {
    const args = ['scenarios/accounting-stress.yaml', '--variants', 'D,E', '--devices', '1', '--duration', '50ms'];
    const { status, out, err } = await advise(...args);
    assert.equal(status, 0, err);
    assert.match(out, /^D +1 +none /m);
    assert.match(out, /^E +1 +8 +8\.0KiB +8 /m);
    assert.match(out.replaceAll('\n', ' '), /locked_vm goes below zero for moments.*Only CAP_IPC_LOCK helps/);
    for (const line of out.split('\n')) assert.ok(line.length <= 80, line);
    assert.equal((await advise(...args)).out, out, 'the same seed, the same answer');
  });

  it('SIGINT ends it with 105', async () => {
    const { child, ended, shows } = start('advise', endlessScenario(directory), '--variants', 'E', '--devices', '1');
    await shows(/0 of 1 searches over/);
    child.kill('SIGINT');
    const { code, err } = await ended;
    assert.equal(code, 105, err);
    assert.match(err, /stopped by the user before a limit was found/);
  });

  it('refuses what makes no sense with 104', async () => {
    const refused = async (...args: string[]): Promise<string> => {
      const { status, err } = await advise('scenarios/boot-storm.yaml', ...args);
      assert.equal(status, 104, err);
      return err;
    };
    assert.match(await refused('--max-failures', '0.1'), /expected a share below 100%, such as 0\.1%/);
    assert.match(await refused('--devices', '0'), /expected numbers from 1 to 16/);
    assert.match(await refused('--variants', 'Q'), /unknown variant 'Q'/);
  });
});
