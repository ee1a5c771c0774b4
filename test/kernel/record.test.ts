/** Recording through a libc whose kernel is the model gives what real kernels answered, and what conform expects. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import type { Host } from '../../src/kernel/host.ts';
import { checkPossible } from '../../src/kernel/possible.ts';
import { type Place, record } from '../../src/kernel/recorder.ts';
import { resolveVariant } from '../../src/model/kernels/index.ts';
import { conform, recordedVariant } from '../../src/study/conform/conform.ts';
import { transcriptFiles } from '../../src/transcript/files.ts';
import { type RandomBounds, randomSequences } from '../../src/transcript/random.ts';
import { parseSequence, parseTranscript, type Sequence } from '../../src/transcript/transcript.ts';
import { soaked } from '../soak.ts';
import { claimed, OWN_MACHINE } from './claimed.ts';
import { ModelLibc } from './model-libc.ts';

const GROUPS = [7, 9];
const APERTURE: readonly (readonly [bigint, bigint])[] = [
  [0n, 0xfedf_ffffn],
  [0xfef0_0000n, (1n << 48n) - 1n],
];

interface Recorded {
  readonly text: string;
  readonly libc: ModelLibc;
}

/** Records on the model of a kernel, in a machine of its own. */
function recordOnModel(sequence: Sequence, kernel: string, ranges = APERTURE): Recorded {
  const variant = resolveVariant(/^\d+\.\d+/.exec(kernel)?.[0] ?? kernel);
  const libc = new ModelLibc({ variant, iovaRanges: ranges, pageSizes: 1_075_843_072n, groups: GROUPS });
  const place: Place = {
    kernel,
    groups: GROUPS.map((number) => ({ number, device: '0000:00:03.0' })),
    capIpcLock: true,
    setEntryLimit: (limit) => (libc.dmaEntryLimit = limit),
  };
  return { text: record(sequence, place, libc), libc };
}

const boundsOf = (host: Host): RandomBounds => ({ ...host, dmaEntryLimit: 65535, bufferBytes: 64 * 2 ** 20 });

const possible = (sequence: Sequence): boolean => {
  try {
    checkPossible(sequence, claimed(OWN_MACHINE));
    return true;
  } catch (error) {
    if (error instanceof UserError) return false;
    throw error;
  }
};

test('every recording of one thread is recorded on the model as it was on the kernel, to the byte', () => {
  const counts = new Map<string, number>();
  for (const { path } of transcriptFiles(['recordings'])) {
    const text = readFileSync(path, 'utf8');
    const sequence = parseSequence(text, path);
    if (!possible(sequence)) continue;
    const transcript = parseTranscript(text, path);
    const { kernel, iovaRanges } = transcript.header;
    const { text: got, libc } = recordOnModel(sequence, kernel, iovaRanges);
    assert.equal(got, text, path);
    assert.equal(libc.openFiles, 0, `${path}: descriptors stay open`);
    const { id } = recordedVariant(transcript);
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  assert.deepEqual(Object.fromEntries(counts), { '6.1': 91, H: 87 });
});

test('random sequences can be recorded, and agree with the variant they were recorded on', () => {
  const operations = soaked(500, 20_000);
  for (const kernel of ['5.4.0', '6.1.192', '6.12.1']) {
    let recorded = 0;
    for (const [i, text] of randomSequences(operations, 7, boundsOf(OWN_MACHINE)).entries()) {
      const sequence = parseSequence(text, `random-${i}`);
      checkPossible(sequence, claimed(OWN_MACHINE));
      const transcript = parseTranscript(recordOnModel(sequence, kernel).text, `random-${i}`);
      assert.equal(conform(transcript, null), null, `${kernel}, sequence ${i}:\n${text}`);
      recorded += transcript.operations.length;
    }
    assert.equal(recorded, operations);
  }
});

test('random sequences follow from seed and bounds, and stay within what the host allows', () => {
  const small: Host = {
    ...OWN_MACHINE,
    memlockBytes: 65_536n,
    capIpcLock: false,
    thp: false,
    freeHugePages: 0,
    ownMachine: false,
  };
  for (const host of [small, { ...small, memlockBytes: 0n }, { ...small, freeHugePages: 1, thp: true }])
    for (const bufferBytes of [8192, 3 * 2 ** 20, 19 * 2 ** 20]) {
      const texts = randomSequences(1000, 3, { ...boundsOf(host), bufferBytes });
      assert.deepEqual(randomSequences(1000, 3, { ...boundsOf(host), bufferBytes }), texts);
      assert.notDeepEqual(randomSequences(1000, 4, { ...boundsOf(host), bufferBytes }), texts);
      for (const text of texts) checkPossible(parseSequence(text, text), { ...claimed(host, 1), bufferBytes });
    }
});
