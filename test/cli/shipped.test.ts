/** What comes with pinstorm is found by name from any directory. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ROOT, shipped } from '../../src/console/shipped.ts';
import { pinstorm } from './in-process.ts';

describe('from an empty directory', () => {
  const home = process.cwd();
  const directory = mkdtempSync(join(tmpdir(), 'pin-shipped-'));
  before(() => process.chdir(directory));
  after(() => {
    process.chdir(home);
    rmSync(directory, { recursive: true });
  });

  it('every name of the list is a file or directory that a command takes', async () => {
    const { out } = await pinstorm(['scenarios', '--json']);
    const { files } = JSON.parse(out) as { readonly files: ReturnType<typeof shipped> };
    assert.deepEqual(files, shipped());
    const names = (...kinds: readonly string[]): string[] =>
      files.filter(({ kind }) => kinds.includes(kind)).map(({ name }) => name);
    assert.ok(files.every(({ about }) => about !== ''));
    const valid = await pinstorm(['validate', ...names('scenario', 'case', 'defect')]);
    assert.equal(valid.status, 0, valid.err);
    assert.equal(valid.out.match(/: OK, /g)?.length, names('scenario', 'case', 'defect').length);
    const agreed = await pinstorm(['conform', ...names('recordings')]);
    assert.match(agreed.out, /^[1-9]\d\d passed, 0 failed\n$/m);
  });

  it('a name, a name with its ending and a path below pinstorm mean the same', async () => {
    const [name, ending, path] = await Promise.all(
      ['huge-guest', 'huge-guest.yaml', 'scenarios/huge-guest.yaml'].map((file) => pinstorm(['plan', file])),
    );
    assert.equal(name?.status, 0, name?.err);
    assert.deepEqual([ending, path], [name, name]);
  });

  it('a file of that name in the working directory comes first', async () => {
    writeFileSync('parity', 'not: a scenario\n');
    const { status, err } = await pinstorm(['plan', 'parity']);
    rmSync('parity');
    assert.equal(status, 104);
    assert.match(err, /^pinstorm: error: parity is not a valid scenario/);
  });

  it('a token of a case that comes along is replayed anywhere', async () => {
    const { err } = await pinstorm(['explore', 'over-commit', '--variant', 'D']);
    const token = /^pinstorm replay (\S+)$/m.exec(err)?.[1];
    assert.ok(token !== undefined, err);
    const replayed = await pinstorm(['replay', token]);
    assert.match(replayed.out + replayed.err, /limit-bypass/);
  });

  it('a name that nothing has is refused with the nearest that something has', async () => {
    const gest = await pinstorm(['plan', 'huge-gest']);
    assert.deepEqual(
      [gest.status, gest.out, gest.err],
      [
        104,
        '',
        'pinstorm: error: huge-gest: no such file\nhint: did you mean huge-guest, which comes with pinstorm?\n',
      ],
    );
    assert.match((await pinstorm(['plan', 'cases'])).err, /^pinstorm: error: cases: no such file/);
    const outside = await pinstorm(['plan', '../scenarios/../package.json']);
    assert.match(outside.err, /no such file/);
  });

  it('init copies with the schema on the first line, and never over a file', async () => {
    assert.equal((await pinstorm(['init', 'my.yaml', '--from', 'accounting-stress'])).status, 0);
    const [first = '', ...rest] = readFileSync('my.yaml', 'utf8').split('\n');
    const schema = /^# yaml-language-server: \$schema=(.*)$/.exec(first)?.[1] ?? '';
    assert.ok(existsSync(schema), first);
    const original = readFileSync(join(ROOT, 'scenarios', 'accounting-stress.yaml'), 'utf8').split('\n');
    assert.deepEqual(rest, original.slice(1));
    assert.equal((await pinstorm(['validate', 'my.yaml'])).status, 0);
    const again = await pinstorm(['init', 'my.yaml']);
    assert.deepEqual(
      [again.status, again.out, again.err],
      [104, '', 'pinstorm: error: my.yaml is there already\nhint: name another file\n'],
    );
    const unknown = await pinstorm(['init', 'other.yaml', '--from', 'accounting-stres']);
    assert.match(unknown.err, /hint: did you mean accounting-stress\?/);
    assert.ok(!existsSync('other.yaml'));
    assert.match((await pinstorm(['init', 'none/x.yaml'])).err, /none\/x\.yaml cannot be written \(ENOENT\)/);
  });

  it('schema prints the schema that init names', async () => {
    const { out } = await pinstorm(['schema']);
    assert.equal(out, readFileSync(join(ROOT, 'schema', 'scenario.schema.json'), 'utf8'));
  });
});
