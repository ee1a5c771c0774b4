import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { EXIT, UserError } from '../../src/base/errors.ts';
import { command } from '../../src/cli/commands/conform.ts';
import { Interrupts } from '../../src/console/interrupts.ts';
import { stdout } from '../../src/console/output.ts';
import { variantNamed } from '../../src/run/variant-named.ts';
import { conform, describeDifference, recordedVariant } from '../../src/study/conform/conform.ts';
import { Likeness } from '../../src/study/conform/likeness.ts';
import { transcriptFiles } from '../../src/transcript/files.ts';
import { parseSequence, parseTranscript, type Transcript } from '../../src/transcript/transcript.ts';

const RECORDED = 'recordings';
const HEADER = {
  format: 1,
  kernel: '6.12.1-amd64',
  iommu: 'type1v2',
  memlock_bytes: 65536,
  cap_ipc_lock: false,
  dma_entry_limit: 65535,
  buffer: { bytes: 1048576, backing: 'anon4k' },
  seed: 0,
  page_sizes: 4096,
  iova_ranges: [[0, 281474976710655]],
};
const MAP = {
  op: 'map',
  actor: 'main',
  iova: 1048576,
  offset: 0,
  bytes: 16384,
  prot: 'rw',
  flags: [],
  result: { errno: 'OK', vmlck_kb: { main: 16 }, avail: 65534 },
};
const text = (...lines: unknown[]): string =>
  lines.map((l) => (typeof l === 'string' ? l : JSON.stringify(l))).join('\n') + '\n';

let directory: string;
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'pinstorm-conform-'));
});
after(() => rmSync(directory, { recursive: true }));

const transcript = (path: string): Transcript => parseTranscript(readFileSync(path, 'utf8'), path);

test('every recording of the selection agrees with the model', () => {
  const files = transcriptFiles([RECORDED]);
  const kernels = new Map<string, number>();
  for (const { path: file } of files) {
    const difference = conform(transcript(file), null);
    assert.equal(difference === null ? '' : describeDifference(file, difference), '');
    const { id } = recordedVariant(transcript(file));
    kernels.set(id, (kernels.get(id) ?? 0) + 1);
  }
  assert.deepEqual(Object.fromEntries(kernels), { '6.1': 162, H: 154 });
});

test('held against another variant, the recordings differ where the kernels do', () => {
  const at = `${RECORDED}/6.1/directed`;
  // 6.12 counts what 6.1 leaves to the zero page; before 6.3 an exec makes the count wrap.
  assert.notEqual(conform(transcript(`${at}/zero-page-ro-type1v2.jsonl`), variantNamed('6.12')), null);
  assert.notEqual(conform(transcript(`${at}/exec-map-first-type1v2.jsonl`), variantNamed('G')), null);
  assert.equal(conform(transcript(`${at}/exec-map-first-type1v2.jsonl`), variantNamed('H')), null);
});

test('a kernel behaves like the variants that differ nowhere, or else like the nearest', () => {
  const likeness = new Likeness();
  const at = `${RECORDED}/6.12/directed`;
  likeness.add(transcript(`${at}/zero-page-ro-type1v2.jsonl`));
  likeness.add(transcript(`${at}/exec-map-first-type1v2.jsonl`));
  const { header } = transcript(`${at}/zero-page-ro-type1v2.jsonl`);
  assert.equal(likeness.describe().split(' ')[0], header.kernel);
  const patched = (vmlck: number): Transcript =>
    parseTranscript(
      text({ ...HEADER, kernel: '6.99.1-patched' }, { ...MAP, result: { ...MAP.result, vmlck_kb: { main: vmlck } } }),
      'x',
    );
  const odd = new Likeness();
  odd.add(patched(16));
  assert.match(odd.describe(), /^6\.99\.1-patched behaves like A, B, .*H, .* in 1 sequence\n$/);
  odd.add(patched(12));
  assert.match(odd.describe(), /^6\.99\.1-patched behaves like no variant; A, B, .* in 1 of 2 sequences\n$/);
});

test('each kind of difference is found, and the first one is told with its place', () => {
  const good = { ...MAP, result: { errno: 'OK', vmlck_kb: { main: 16 }, avail: 65534 } };
  const unmap = {
    op: 'unmap',
    actor: 'main',
    iova: 1048576,
    bytes: 16384,
    flags: [],
    result: { errno: 'OK', size: 16384, vmlck_kb: { main: 0 }, avail: 65535 },
  };
  const rows: [unknown, string][] = [
    [{ ...unmap, result: { ...unmap.result, errno: 'EINVAL' } }, 'errno'],
    [{ ...unmap, result: { ...unmap.result, size: 4096 } }, 'size'],
    [{ ...unmap, result: { ...unmap.result, vmlck_kb: { main: 4 } } }, 'vmlck_kb'],
    [{ ...unmap, result: { ...unmap.result, vmlck_kb: { main: 0, ghost: 0 } } }, 'vmlck_kb'],
    [{ ...unmap, result: { ...unmap.result, avail: null } }, 'avail'],
  ];
  for (const [line, field] of rows) {
    const file = join(directory, 'changed.jsonl');
    writeFileSync(file, text(HEADER, good, line));
    const difference = conform(transcript(file), null);
    assert.deepEqual(
      difference?.differences.map((d) => d.field),
      [field],
    );
    assert.equal(difference.operation.line, 3);
  }
  const file = join(directory, 'told.jsonl');
  writeFileSync(
    file,
    text(HEADER, { ...MAP, result: { ...MAP.result, errno: 'ENOMEM', vmlck_kb: { main: 0 } } }, unmap),
  );
  const difference = conform(transcript(file), null);
  assert.ok(difference);
  assert.equal(
    describeDifference('told.jsonl', difference),
    `told.jsonl:2: map by main differs
  {"op":"map","actor":"main","iova":1048576,"offset":0,"bytes":16384,"prot":"rw","flags":[]}
  errno     expected ENOMEM
            got      OK
  vmlck_kb  expected {"main":0}
            got      {"main":16}
`,
  );
});

test('numbers up to 2^64-1 arrive whole', () => {
  const { operations } = parseTranscript(
    text(HEADER, JSON.stringify(MAP).replace('"iova":1048576', '"iova":18446744073709551615')),
    'x',
  );
  const action = operations[0]?.action;
  assert.ok(action?.op === 'map');
  assert.equal(action.iova, 2n ** 64n - 1n);
});

test('what is not a transcript is refused with file, line and what was expected', () => {
  const map = (fields: object): string => text(HEADER, { ...MAP, ...fields });
  const header = (fields: object): string => text({ ...HEADER, ...fields }, MAP);
  const rows: [string, string][] = [
    ['', 'x.jsonl: empty, expected a transcript'],
    ['{"format":1,}\n', 'x.jsonl:1:13: not JSON; each line of a transcript is one object'],
    [text(HEADER, MAP, '{"op":'), 'x.jsonl:3:7: not JSON; each line of a transcript is one object'],
    [text([1]), 'x.jsonl:1: the line is not a JSON object'],
    [text(MAP), 'x.jsonl:1: format: expected 1, in the header on the first line, it is missing'],
    [header({ format: 2 }), 'x.jsonl:1: format: expected 1, got 2'],
    [
      header({ kernel: undefined }),
      'x.jsonl:1: kernel: expected the release of the recording kernel; an input sequence has to be recorded first, it is missing',
    ],
    [header({ iommu: 'type2' }), 'x.jsonl:1: iommu: expected one of type1, type1v2, got "type2"'],
    [header({ surprise: 1 }), 'x.jsonl:1: surprise: unknown field'],
    [
      header({ buffer: { bytes: 4097, backing: 'thp' } }),
      'x.jsonl:1: buffer.bytes: expected a multiple of 4096, at most 2^46, got 4097',
    ],
    [
      header({ buffer: { bytes: 4096, backing: 'thp', parts: [{ offset: 0, bytes: 4096, backing: 'paper' }] } }),
      'x.jsonl:1: buffer.parts[0].backing: expected one of anon4k, thp, hugetlb2m, memfd, hole, none, ro, bar, got "paper"',
    ],
    [map({ op: 'melt' }), 'x.jsonl:2: op: expected one of map, unmap, setrlimit,'],
    [map({ iova: -1 }), 'x.jsonl:2: iova: expected an unsigned 64-bit integer, got -1'],
    [map({ iova: 1.5 }), 'x.jsonl:2: iova: expected an unsigned 64-bit integer, got 1.5'],
    [map({ bytes: undefined }), 'x.jsonl:2: bytes: expected an unsigned 64-bit integer, it is missing'],
    [
      text(HEADER, JSON.stringify(MAP).replace('16384', '18446744073709551616')),
      'x.jsonl:2: bytes: expected an unsigned 64-bit integer, got 18446744073709551616',
    ],
    [map({ flags: ['bit32'] }), 'x.jsonl:2: flags: expected VADDR or bit0 to bit31, got ["bit32"]'],
    [map({ container: 2 }), 'x.jsonl:2: container: expected 0 or 1, got 2'],
    [map({ actor: 'nobody' }), 'x.jsonl:2: actor: expected an actor that exists (main), got "nobody"'],
    [
      map({ result: undefined }),
      'x.jsonl:2: result: expected what the kernel answered; an input sequence has to be recorded first, it is missing',
    ],
    [
      map({ result: { errno: 'OK', vmlck_kb: { main: 'x' }, avail: 1 } }),
      'x.jsonl:2: result.vmlck_kb.main: expected an unsigned',
    ],
  ];
  for (const [given, expected] of rows) {
    assert.throws(
      () => parseTranscript(given, 'x.jsonl'),
      (error) => {
        assert.ok(error instanceof UserError, String(error));
        assert.equal(error.exitCode, EXIT.invalid);
        assert.equal(error.message.slice(0, expected.length), expected);
        return true;
      },
    );
  }
});

test('an operation of an actor that has ended is a fault of the transcript', () => {
  const spawn = {
    op: 'spawn',
    actor: 'main',
    child: 'c',
    result: { errno: 'OK', vmlck_kb: { main: 0, c: 0 }, avail: 65535 },
  };
  const exit = { op: 'exit', actor: 'c', result: { errno: 'OK', vmlck_kb: { main: 0 }, avail: 65535 } };
  const file = join(directory, 'dead.jsonl');
  writeFileSync(file, text(HEADER, spawn, exit, { ...MAP, actor: 'c' }));
  assert.throws(() => conform(transcript(file), null), /dead\.jsonl:4: actor: c has ended/);
});

test('paths and variants that do not exist', () => {
  assert.throws(() => transcriptFiles(['bin']), /bin: no transcript \(\*\.jsonl\) in this directory/);
  assert.throws(() => variantNamed('Q'), UserError);
  const file = join(directory, 'old.jsonl');
  writeFileSync(file, text({ ...HEADER, kernel: '2.6.32' }, MAP));
  assert.throws(() => conform(transcript(file), null), /old\.jsonl:1: kernel: no variant is known for "2\.6\.32"/);
});

test('the command: exit 0 when all agree, 1 when one differs', async (t) => {
  const out: string[] = [];
  t.mock.method(stdout, 'raw', (chunk: string) => void out.push(chunk));
  const paths = [`${RECORDED}/6.1/directed`];
  assert.equal(await command.run({ paths }, { variant: undefined }, new Interrupts()), EXIT.ok);
  assert.deepEqual(out, ['6.1.0-56-amd64 behaves like 6.1 in all 83 sequences\n83 passed, 0 failed\n']);
  out.length = 0;
  assert.equal(
    await command.run({ paths: [`${paths[0]}/zero-page-ro-type1v2.jsonl`] }, { variant: 'H' }, new Interrupts()),
    EXIT.failed,
  );
  assert.match(out[0] ?? '', /zero-page-ro-type1v2\.jsonl:2: map by main differs/);
  assert.equal(out.at(-1), '0 passed, 1 failed\n');
});

test('a sequence is what was done, whether it has been recorded or not', () => {
  const { kernel: _, page_sizes: __, iova_ranges: ___, ...header } = HEADER;
  const { format: _____, ...start } = header;
  const { result: ____, ...map } = MAP;
  const asked = parseSequence(text(header, map), 'asked.jsonl');
  const recorded = parseSequence(text(HEADER, MAP), 'asked.jsonl');
  assert.deepEqual(recorded, asked);
  assert.equal(`${asked.text}\n${asked.steps[0]?.text}\n`, text(start, map));
  const large = text(header, JSON.stringify(map).replace('"iova":1048576', '"iova":18446744073709551615'));
  assert.equal(parseSequence(large, 'x').steps[0]?.text, large.split('\n')[1]);
  assert.throws(() => parseSequence(text(header, { ...map, surprise: 1 }), 'x'), /x:2: surprise: unknown field/);
  assert.throws(() => parseSequence(text({ ...header, surprise: 1 }), 'x'), /x:1: surprise: unknown field/);
  assert.throws(() => parseSequence('', 'x'), /x: empty/);
});
