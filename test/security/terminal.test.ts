/* oxlint-disable no-control-regex -- they are what this is about */
/**
 * Whatever a user, a file, a run directory or a transcript brings in: nothing that a terminal obeys comes out, on a
 * terminal or into a pipe, and no text can begin a line of its own.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { buildResults } from '../../src/report/build.ts';
import { pinstorm } from '../cli/in-process.ts';
import { sampleDirectory } from '../report/directory.ts';
import { comparison, sweep } from '../report/experiments.ts';
import { failing } from '../report/sample.ts';

/** A title, a bell, a colour in seven and eight bits, marks of direction, ends of lines, and a forged line. */
const HOSTILE =
  'a\u001b]0;t\u0007\u001b[32mPASS\u009b31mb\u202e\u202a\u2066\u2069c\u2028\u2029\u200f\u061cd\rE\u0000\u007f\nFORGED';
const YAML = JSON.stringify(HOSTILE).replaceAll(
  /[\u007f-\uffff]/g,
  (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
);
/** File names hold no NUL. */
const NAME = HOSTILE.replaceAll(/[\u0000/]/g, '');

const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;
/** What summaries are painted with; the colours of HOSTILE do not count as ours. */
const OURS = /\u001b\[(?:0|1|2|31|32|33|36)m/g;

const GUESTS = `guests:
  - class: small
    memory: { size: 64MiB, backing: anon4k }
    actors: [{ name: mapper, task: main, workload: map-unmap }]
`;

/** Each text of plain data, and each key of its maps that may be any, made hostile, one copy per place. */
function* hostileCopies(data: unknown): Generator<unknown> {
  if (typeof data === 'string') yield data + HOSTILE;
  else if (Array.isArray(data))
    for (const [i, own] of data.entries()) for (const copy of hostileCopies(own)) yield data.with(i, copy);
  else if (typeof data === 'object' && data !== null) {
    for (const [key, own] of Object.entries(data))
      for (const copy of hostileCopies(own)) yield { ...data, [key]: copy };
    yield { ...data, [HOSTILE]: 1 };
  }
}

/** Runs it into a pipe and on a terminal, or on one of them, and looks at all that comes out. */
async function harmless(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  on = [false, true],
): Promise<number> {
  let status = 0;
  for (const terminal of on) {
    const ended = await pinstorm(args, env, terminal);
    status = ended.status;
    assert.notEqual(status, 70, ended.err);
    for (const text of [ended.out, ended.err]) {
      const bare = terminal ? text.replaceAll(/\r|\u001b\[K/g, '').replaceAll(OURS, '') : text;
      const where = `pinstorm ${JSON.stringify(args)}${terminal ? ' on a terminal' : ''}`;
      assert.doesNotMatch(bare.replaceAll('\r\n', '\n'), OBEYED, where);
      assert.doesNotMatch(text, /\u001b\[32mPASS/, where);
      assert.doesNotMatch(bare, /^FORGED/m, where);
    }
  }
  return status;
}

describe('what a terminal obeys never reaches one', () => {
  const home = process.cwd();
  const directory = mkdtempSync(join(tmpdir(), 'pin-tty-'));
  before(() => process.chdir(directory));
  after(() => {
    process.chdir(home);
    rmSync(directory, { recursive: true });
  });

  const scenario = (text: string, name = 'x.yaml'): string => {
    writeFileSync(name, text);
    return name;
  };

  it('from a scenario', async () => {
    const texts: Readonly<Record<string, string>> = {
      description: `name: x\ndescription: ${YAML}\n${GUESTS}`,
      name: `name: ${YAML}\n${GUESTS}`,
      key: `name: x\n${YAML}: 1\n${GUESTS}`,
      variant: `name: x\nvariant: ${YAML}\n${GUESTS}`,
      class: `name: x\n${GUESTS.replace('small', YAML)}`,
      workload: `name: x\n${GUESTS.replace('map-unmap', YAML)}`,
      size: `name: x\n${GUESTS.replace('64MiB', YAML)}`,
      metric: `name: x\nthresholds: { ${YAML}: ["rate < 1"] }\n${GUESTS}`,
      expression: `name: x\nthresholds: { op_errors: [${YAML}] }\n${GUESTS}`,
      stage: `name: x\nthresholds: { op_errors: ["rate < 1 during ${YAML.slice(1, -1)}"] }\n${GUESTS}`,
      expect: `name: x\nexpect: [${YAML}]\n${GUESTS}`,
      profile: `name: x\nprofile: ${YAML}\n${GUESTS}`,
      raw: `name: x\ndescription: '${HOSTILE.replace(/[\n\r\u0000]/g, '')}'\nnope: 1\n${GUESTS}`,
      alias: `name: *x${NAME.replace(/[\n\r]/g, '')}\n`,
    };
    for (const [what, text] of Object.entries(texts)) {
      for (const command of ['plan', 'validate', 'explore']) {
        const status = await harmless([
          command,
          scenario(text),
          ...(command === 'explore' ? ['--max-schedules', '1'] : []),
        ]);
        if (what !== 'description') assert.equal(status, 104, `${command} with a hostile ${what}`);
      }
    }
    const described = scenario(texts['description'] ?? '');
    assert.equal(await harmless(['plan', described, '--json']), 0);
    assert.equal(await harmless(['validate', described, '--origin']), 0);
    assert.equal(await harmless(['simulate', described, '--duration', '1ms', '--out', 'runs'], {}, [true]), 0);
    assert.equal(await harmless(['report', 'runs/latest', '--format', 'text']), 0);
  });

  it('from the names of files, options, commands and variables', async () => {
    const good = scenario(`name: x\n${GUESTS}`, `${NAME}.yaml`.replaceAll(/[\n]/g, ''));
    assert.equal(await harmless(['validate', good]), 0);
    assert.equal(await harmless(['plan', good]), 0);
    const bad = scenario('name: [', `bad${NAME}.yaml`);
    const rows = [
      [HOSTILE],
      ['help', HOSTILE],
      ['plan', bad],
      ['plan', good, `--${HOSTILE}`],
      ['plan', good, HOSTILE],
      ...['variant', 'seed', 'pace', 'duration', 'set'].map((option) => ['plan', good, `--${option}`, HOSTILE]),
      ['plan', good, '--set', `${HOSTILE}=1`],
      ['plan', good, '--set', `memory.size=${HOSTILE}`],
      ['plan', good, '--set', `guests.${HOSTILE}.count=1`],
      ...[
        'plan',
        'validate',
        'simulate',
        'run',
        'explore',
        'reproduce',
        'calibrate',
        'conform',
        'report',
        'advise',
      ].map((command) => [command, `none${NAME}`]),
      ['replay', HOSTILE],
      ['completion', HOSTILE],
      ['simulate', good, '--interval', HOSTILE],
      ['simulate', good, '--threads', HOSTILE],
      ['simulate', good, '--out', `${good}/${NAME}`],
      ['sweep', good, '--set', `guests=${HOSTILE}..1`],
      ['sweep', good, '--set', `${HOSTILE}=1,2`],
      ['sweep', good, '--set', 'guests=1,2', '--metrics', HOSTILE],
      ['sweep', good, '--set', 'guests=1,2', '--csv', `${good}/${NAME}`],
      ['compare', good, '--variants', `D,${HOSTILE}`],
      ['compare', good, '--variants', 'D,E', '--min-effect', HOSTILE],
      ['compare', good, '--variants', 'D,E', '--out', `${good}/${NAME}`],
      ['advise', good, '--devices', HOSTILE],
      ['run', good, '--redis', HOSTILE],
      ['run', good, '--redis', `redis://${HOSTILE}`],
      ['run', good, '--redis', `/${NAME}`],
      ['run', good, '--lease', HOSTILE],
      ['worker', '--redis', 'redis://localhost:1', '--name', HOSTILE],
      ['worker', '--redis', 'redis://localhost:1', '--prefix', HOSTILE],
      ['worker', '--redis', 'rediss://localhost:1', '--tls-ca', NAME],
      ['coordinator', good, '--redis', 'redis://localhost:1', '--run', HOSTILE],
      ['init', `${good}/${NAME}`],
      ['init', 'new.yaml', '--from', NAME],
    ];
    for (const row of rows) assert.equal(await harmless(row), 104, JSON.stringify(row));
    for (const name of ['SEED', 'SET', 'VARIANT', 'THREADS', 'OUT', NAME])
      await harmless(['plan', good], { [`PINSTORM_${name}`]: NAME });
  });

  it('from a case, rows, a transcript or a token', async () => {
    writeFileSync(
      'case.yaml',
      `case: ${YAML}\nabout: ${YAML}\nactors: [{ name: ${YAML}, task: main, ops: [{ ${YAML}: 1 }] }]\n`,
    );
    writeFileSync(
      'about.yaml',
      `case: c\nabout: ${YAML}\nactors: [{ name: a, task: main, ops: [{ mlock: { iova: 0, pages: 1 } }] }]\n`,
    );
    for (const command of ['explore', 'validate', 'simulate', 'run']) {
      for (const file of ['case.yaml', 'about.yaml']) await harmless([command, file]);
    }
    writeFileSync('rows.yaml', `rows: [{ id: ${YAML}, ${YAML}: 1 }]\n`);
    assert.equal(await harmless(['calibrate', 'rows.yaml']), 104);
    const recording = readdirSync(join(home, 'recordings/6.12/directed')).find((name) => name.endsWith('.jsonl')) ?? '';
    const lines = readFileSync(join(home, 'recordings/6.12/directed', recording), 'utf8')
      .trimEnd()
      .split('\n');
    const [header = '', first = ''] = lines;
    for (const copy of hostileCopies(JSON.parse(header))) {
      writeFileSync('t.jsonl', [JSON.stringify(copy), ...lines.slice(1)].join('\n'));
      await harmless(['conform', 't.jsonl']);
    }
    for (const copy of hostileCopies(JSON.parse(first))) {
      writeFileSync('t.jsonl', [header, JSON.stringify(copy), ...lines.slice(2)].join('\n'));
      await harmless(['conform', 't.jsonl']);
    }
    writeFileSync('t.jsonl', `${HOSTILE}\n`);
    assert.equal(await harmless(['conform', 't.jsonl']), 104);
    writeFileSync('token.txt', HOSTILE);
    assert.equal(await harmless(['replay', `p1-${HOSTILE}`]), 104);
  });

  it('from a run directory', async () => {
    for (const finished of [true, false]) {
      const texts = { name: HOSTILE, guestClass: HOSTILE, error: HOSTILE, history: HOSTILE, scenario: HOSTILE };
      const { directory: run } = sampleDirectory(join(directory, `r${finished}`), texts);
      if (finished) run.finish(buildResults(failing()), HOSTILE);
      const files = readdirSync(run.path).filter((name) => /^(run|results|verdict)\.json$/.test(name));
      for (const format of [
        [],
        ['--json'],
        ['--format', 'csv'],
        ['--format', 'junit'],
        ['--format', 'hgrm'],
        ['--format', 'html'],
      ])
        await harmless(['report', run.path, ...format]);
      for (const name of files) {
        const path = join(run.path, name);
        const text = readFileSync(path, 'utf8');
        for (const copy of hostileCopies(JSON.parse(text))) {
          writeFileSync(path, JSON.stringify(copy));
          await harmless(['report', run.path, '--format', 'text'], {}, [true]);
        }
        writeFileSync(path, text);
      }
      for (const name of ['intervals.jsonl', 'guests.jsonl', 'events.jsonl']) {
        const path = join(run.path, name);
        const text = readFileSync(path, 'utf8');
        for (const copy of hostileCopies(JSON.parse(text.slice(0, text.indexOf('\n'))))) {
          writeFileSync(path, `${JSON.stringify(copy)}\n`);
          await harmless(['report', run.path, '--format', 'text']);
          if (name === 'intervals.jsonl') await harmless(['report', run.path, '--format', 'csv']);
        }
        writeFileSync(path, text);
      }
    }
  });

  it('from an experiment', async () => {
    for (const experiment of [comparison(HOSTILE), sweep()]) {
      mkdirSync('e', { recursive: true });
      for (const copy of hostileCopies({ ...experiment, cells: experiment.cells.slice(0, 1) })) {
        writeFileSync('e/experiment.json', JSON.stringify(copy));
        await harmless(['report', 'e']);
      }
    }
  });
});
