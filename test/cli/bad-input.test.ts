/**
 * Input that is wrong, as users give it: one message that says what was expected and how to mend it, the documented
 * status, no stack. What is refused needs no run, so all of it happens in this process.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pinstorm } from './in-process.ts';

const SCENARIO = (top = '', guest = '', options = ''): string => `name: bad
${top}
guests:
  - class: small
    count: 2
    memory: { size: 64MiB, backing: anon4k }
    ${guest}
    actors:
      - { name: mapper, task: main, workload: map-unmap${options} }
`;

const FILES: Readonly<Record<string, string>> = {
  'good.yaml': SCENARIO(),
  'env.yaml': SCENARIO('seed: ${SEED}'),
  'metric.yaml': SCENARIO('thresholds: { map_p99: ["< 1ms"] }'),
  'long.yaml': SCENARIO('', `note-${'x'.repeat(5000)}: 1`),
  'pages.yaml': SCENARIO('', '', ', options: { pages: -1 }'),
  'tab.yaml': 'name: x\n\tguests: []\n',
  'twice.yaml': 'name: x\nname: y\nguests: []\n',
  'empty.yaml': '',
  'list.yaml': '- a\n- b\n',
  'text.yaml': 'just text\n',
  'expect.yaml': SCENARIO('expect: [overpenalty]'),
  'unit.yaml': SCENARIO('duration: 10'),
  'gb.yaml': SCENARIO('', 'memlock: 4GB'),
  'nan.yaml': SCENARIO('pace: .nan'),
  'inf.yaml': SCENARIO('duration: .inf'),
  'colon.yaml': SCENARIO('description: a: b'),
  'quote.yaml': SCENARIO('description: "a'),
  'bracket.yaml': SCENARIO('stages: [a, b'),
  'at.yaml': SCENARIO('description: @home'),
  'escape.yaml': SCENARIO('description: "\\q"'),
  'cpus.yaml': SCENARIO('host: { cpus: 0 }'),
  'profile.yaml': SCENARIO('profile: server-2015'),
  'tag.yaml': SCENARIO('', '', ', options: !!js/function x'),
  'rows.yaml': 'fit: { nope: [x] }\nrows: [{ id: a }]\n',
  'case.yaml': 'case: c\nactors:\n  - name: a\n    task: main\n    ops: [{ mapp: {} }]\n',
  'header.jsonl': '{"format":2}\n',
  'empty.jsonl': '\n',
};

/** What is typed after `pinstorm`, variables before it, and what the message must say. All of it ends with 104. */
const ROWS: readonly (readonly [args: string, says: RegExp])[] = [
  ['plan good.yaml --seed 99999999999999999999999999', /seed/],
  ['plan good.yaml --seed -1', /seed/],
  ['plan good.yaml --seed 1.5', /seed/],
  ['plan good.yaml --seed x', /expected a number, got 'x'/],
  ['plan good.yaml --pace -1', /pace/],
  ['plan good.yaml --pace NaN', /pace/],
  ['plan good.yaml --pace 1e400', /pace/],
  ['plan good.yaml --duration 0s', /duration/],
  ['plan good.yaml --duration PT30S', /duration/],
  ['plan good.yaml --duration -5s', /duration/],
  ['plan good.yaml --duration 9999999999h', /duration/],
  ['plan good.yaml --set memory.backing=', /memory\.backing/],
  ['plan good.yaml --set memory.backing', /key=value/],
  ['plan good.yaml --set =x', /--set/],
  ['plan good.yaml --set memory.backin=anon4k', /did you mean .*backing/],
  ['plan good.yaml --set guests.smal.count=3', /smal/],
  ['plan good.yaml --set guests.small.actors.mapper.workload=map-unmp', /mapper|map-unmp/],
  ['plan good.yaml --set guests.small.count=-1', /count/],
  ['plan good.yaml --set guests.small.count=1e9', /count/],
  ['plan good.yaml --set __proto__.x=1', /__proto__/],
  ['plan good.yaml --variant 9.9', /9\.9/],
  ['plan good.yaml --variant 2.6.32', /3\.6/],
  ['plan good.yaml --variant DD', /unknown variant/],
  ['plan env.yaml', /SEED/],
  ['plan metric.yaml', /map_p99/],
  ['plan long.yaml', /a key is longer than 1024 characters/],
  ['plan pages.yaml', /pages/],
  ['plan tab.yaml', /tab/],
  ['plan twice.yaml', /name/],
  ['plan empty.yaml', /empty/],
  ['plan list.yaml', /list/],
  ['plan text.yaml', /text/],
  ['plan expect.yaml', /over-penalty/],
  ['plan unit.yaml', /unit|duration/],
  ['plan gb.yaml', /GiB/],
  ['plan nan.yaml', /pace/],
  ['plan .', /is a directory/],
  [`plan ${'d/'.repeat(200)}x.yaml`, /no such file/],
  ['simulate good.yaml --out', /--out/],
  ['simulate good.yaml --threads 0', /--threads/],
  ['sweep good.yaml --set guests=64..1:log2', /guests=64\.\.1:log2/],
  ['sweep good.yaml', /axis/],
  ['compare good.yaml --variants D', /two variants/],
  ['compare good.yaml --variants D,D', /twice/],
  ['compare good.yaml --variants D,E --min-effect 5', /--min-effect/],
  ['report none', /none/],
  ['replay nonsense', /token/],
  ['explore good.yaml --max-steps x', /--max-steps/],
  ['calibrate good.yaml', /rows/],
  ['conform good.yaml', /good\.yaml/],
  ['completion tcsh', /bash, zsh, fish/],
  ['run good.yaml --redis http://localhost', /redis/],
  ['run good.yaml --workers 0', /--workers/],
  ['worker', /--redis/],
  ['plan inf.yaml', /'Infinity' is not a duration/],
  ['plan colon.yaml', /colon\.yaml:2:14: YAML: .*\n.*\n.*\n {2}fix: .*quotes/],
  ['plan quote.yaml', /YAML: a quote, bracket/],
  ['plan bracket.yaml', /close all brackets/],
  ['plan at.yaml', /at\.yaml:2:14: YAML: a value cannot begin/],
  ['plan escape.yaml', /escape\.yaml:2:15: YAML: double quotes/],
  ['plan tag.yaml', /YAML: tags are not allowed/],
  ['plan cpus.yaml', /host\.cpus: 0 is too small/],
  ['plan profile.yaml', /did you mean 'server-2016'/],
  ['plan good.yaml --set guests.small.actors.mapper.workload=map', /did you mean 'map-unmap'/],
  ['run good.yaml --lease abc', /--lease: 'abc' is not a duration/],
  ['run good.yaml --lease 1ms', /--lease: expected a duration from 500ms to 1h/],
  ['run good.yaml --lease 5', /--lease: '5' has no unit/],
  ['run good.yaml --metrics-port 65536', /--metrics-port: expected a whole number from 0 to 65535/],
  ['simulate good.yaml --interval 1ns', /--interval: expected a duration of at least 1us/],
  ['simulate good.yaml --interval x', /--interval: 'x' is not a duration/],
  ['simulate case.yaml --seed 1e3', /--seed: expected a whole number from 0 to 4294967295/],
  ['explore case.yaml', /mapp/],
  ['explore good.yaml --variant ZZ', /unknown variant 'ZZ'/],
  ['conform header.jsonl', /header\.jsonl:1: format: expected 1, got 2/],
  ['conform empty.jsonl', /empty/],
  ['conform empty.jsonl --variant ZZ', /unknown variant 'ZZ'/],
  ['conform .', /\.jsonl/],
  ['calibrate rows.yaml', /rows\.yaml:2:8: rows\[0\]: 'profile' is missing/],
  ['advise good.yaml --devices 0', /--devices: expected numbers from 1 to 16/],
  ['advise good.yaml --max-failures 5', /--max-failures: expected a share/],
  ['compare good.yaml --variants D,ZZ', /unknown variant 'ZZ'/],
  ['compare good.yaml --variants D,E --repeat 31', /--repeat: expected a whole number from 1 to 30/],
  ['sweep good.yaml --set guests=1..2 --metrics nope', /unknown metric 'nope'/],
  ['sweep good.yaml --set guests=1..', /a range is from\.\.to/],
  ['worker --redis redis://localhost:1 --prefix {a}', /--prefix: expected 1 to 64/],
  ['worker --redis redis://localhost:1 --name a/b', /--name: expected 1 to 64/],
  ['worker --redis redis://localhost:1 --capacity 0', /--capacity: expected a whole number/],
  ['PINSTORM_LEASE=x run good.yaml', /PINSTORM_LEASE: 'x' is not a duration/],
  ['PINSTORM_THREADS=0 simulate good.yaml', /PINSTORM_THREADS: expected a whole number from 1/],
  ['PINSTORM_JSON=maybe plan good.yaml', /PINSTORM_JSON: expected 1 or 0/],
  ['PINSTORM_DURATION=5 plan good.yaml', /PINSTORM_DURATION=5: duration: '5' has no unit/],
  ['PINSTORM_VARIANT=ZZ plan good.yaml', /PINSTORM_VARIANT=ZZ: variant: unknown variant/],
  ['PINSTORM_FORMAT=pdf report .', /PINSTORM_FORMAT: expected one of/],
  [`plan good.yaml --set memory.backing=${'x'.repeat(9000)}`, /memory\.backing/],
  ['x'.repeat(9000), /unknown command/],
];

describe('bad input', () => {
  const home = process.cwd();
  const directory = mkdtempSync(join(tmpdir(), 'pin-bad-'));
  before(() => {
    process.chdir(directory);
    for (const [name, text] of Object.entries(FILES)) writeFileSync(name, text);
  });
  after(() => {
    process.chdir(home);
    rmSync(directory, { recursive: true });
  });

  for (const [line, says] of ROWS) {
    it(line.length > 80 ? `${line.slice(0, 77)}...` : line, async () => {
      const words = line.split(' ');
      const from = words.findIndex((word) => !word.startsWith('PINSTORM_'));
      const env = Object.fromEntries(words.slice(0, from).map((word) => word.split('=') as [string, string]));
      const { status, out, err } = await pinstorm(words.slice(from), env);
      assert.equal(status, 104, err);
      assert.equal(out, '');
      assert.match(err, says);
      const complaint = err.replace(/^pinstorm: (note|warning): .*\n/gm, '');
      assert.match(complaint, /^pinstorm: error: /);
      assert.equal(complaint.match(/^pinstorm: /gm)?.length, 1, `more than one message:\n${err}`);
      assert.doesNotMatch(err, /^ +at |node:internal|--set: --set|undefined|\[object/m);
      assert.match(err, /\n(hint:| {2}fix:)/, `no word on how to mend it:\n${err}`);
      for (const text of err.split('\n')) assert.ok(text.length <= 400, `a line of ${text.length} columns`);
    });
  }
});
