// slow: compiles a copy of the program
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

/** What a program that uses the new variant does: it maps 4 pages under a limit of 4, then one more. */
const TRY = `
import { Direct } from './dist/src/engine/direct.js';
import { buildGuest } from './dist/src/engine/guest.js';
import { BUFFER_PAGE } from './dist/src/engine/machine.js';
import { Arena, capacityFor } from './dist/src/model/arena.js';
import { resolveVariant } from './dist/src/model/kernels/index.js';
import { containerOf } from './dist/src/model/paths/files.js';
import { vfioDmaDoMap } from './dist/src/model/paths/map.js';
const arena = Arena.create(capacityFor({ guests: 1, actorsPerGuest: 1, mappingsPerGuest: 4 }), false);
const direct = new Direct(arena, resolveVariant('k'));
const guest = buildGuest(arena, direct.addressSpace, {
  index: 0, class: 'k', seed: 1, startNs: 0, durationNs: null, memlockBytes: 4 * 4096, capIpcLock: false, iommu: 'type1v2',
  memory: { bytes: 8 * 4096, backing: 'anon4k', contiguityPages: 1, populated: true }, containers: 1, actors: [],
}, () => 0);
const k = direct.as(guest.actors[0].task);
const map = (page, pages) => direct.run(vfioDmaDoMap(k, containerOf(k, 0), {
  argsz: 32, flags: 3, vaddr: BigInt(BUFFER_PAGE + page) * 4096n, iova: BigInt(page) * 4096n, size: BigInt(pages) * 4096n }));
console.log(map(0, 4), map(4, 1), direct.counters.mmap_write_acquisitions);
`;

test('docs/add-a-variant.md, followed to the letter, adds a variant', () => {
  const page = readFileSync('docs/add-a-variant.md', 'utf8');
  const blocks = [...page.matchAll(/^```ts\n(.*?)^```/gms)].map((m) => m[1] ?? '');
  const [file, importLine, listLine] = blocks;
  assert.ok(file !== undefined && importLine !== undefined && listLine !== undefined && blocks.length === 3);
  const copy = mkdtempSync(path.join(os.tmpdir(), 'pinstorm-variant-'));
  try {
    for (const name of ['package.json', 'tsconfig.json', 'src'])
      cpSync(name, path.join(copy, name), { recursive: true });
    symlinkSync(path.resolve('node_modules'), path.join(copy, 'node_modules'));
    writeFileSync(path.join(copy, 'src/model/kernels/k.ts'), file);
    const index = path.join(copy, 'src/model/kernels/index.ts');
    const text = readFileSync(index, 'utf8');
    const list = listLine.trim().replace(/K,$/, '');
    assert.ok(text.includes(list), 'the list of variants is where the page says');
    writeFileSync(index, `${importLine}${text.replace(list, listLine.trim())}`);
    const run = (...args: string[]): string => {
      const result = spawnSync(process.execPath, args, { cwd: copy, encoding: 'utf8' });
      assert.equal(result.status, 0, `${args.join(' ')}\n${result.stdout}${result.stderr}`);
      return result.stdout;
    };
    run('node_modules/typescript/bin/tsc', '-p', '.');
    assert.match(run('dist/src/cli/main.js', 'variants'), /^K +an example +E2 with an unkillable lock/m);
    writeFileSync(path.join(copy, 'try.mjs'), TRY);
    // Four pages charged one by one; the refused map meets the limit before it takes the lock.
    assert.equal(run('try.mjs'), '0 -12 4\n');
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
});
