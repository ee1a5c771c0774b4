import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { asBytes, asNs, PAGE_BYTES } from '../../src/base/units.ts';
import {
  BYTES_PATTERN,
  DURATION_PATTERN,
  formatBytes,
  formatDuration,
  parseBytes,
  parseDuration,
  parsePages,
  parseRate,
  roundedBytes,
  UnitTextError,
} from '../../src/base/units-text.ts';
import { zBytes, zDuration, zPages, zRate } from '../../src/base/zod-units.ts';

const SEED = 20161206;

function fault(parse: () => unknown): string {
  try {
    parse();
  } catch (error) {
    assert.ok(error instanceof UnitTextError, String(error));
    return `${error.message}; ${error.hint}`;
  }
  return 'no error';
}

test('sizes', () => {
  const rows: [string | number, number][] = [
    ['4GiB', 2 ** 32],
    ['640KiB', 655_360],
    ['640 KiB', 655_360],
    ['1.5MiB', 1_572_864],
    ['0.1KiB', -1],
    ['1TiB', 2 ** 40],
    ['4096B', 4096],
    ['0', 0],
    [0, 0],
    ['0B', 0],
  ];
  for (const [text, bytes] of rows) if (bytes >= 0) assert.equal(parseBytes(text), bytes, String(text));
});

test('what is wrong with a size, and the fix', () => {
  const rows: [string | number, string][] = [
    ['64K', "the unit of '64K' is ambiguous; write 64KiB (powers of 1024)"],
    ['64kb', "the unit of '64kb' is ambiguous; write 64KiB (powers of 1024)"],
    ['4g', "the unit of '4g' is ambiguous; write 4GiB (powers of 1024)"],
    ['4Gib', "the unit of '4Gib' is ambiguous; write 4GiB (powers of 1024)"],
    [65536, "'65536' has no unit; write a size with its unit, for example 64KiB"],
    ['8', "'8' has no unit; write 8KiB, 8MiB or 8GiB"],
    [1.5, "'1.5' has no unit; write a size with its unit, for example 4GiB"],
    [-4, "'-4' has no unit; write a size of 0 or more, for example 4GiB"],
    ['65536', "'65536' has no unit; write a size with its unit, for example 64KiB"],
    ['-4GiB', "'-4GiB' is negative; write a size of 0 or more, for example 4GiB"],
    ['4 bananas', "'4 bananas' has an unknown unit 'bananas'; use B, KiB, MiB, GiB, TiB or PiB, for example 4GiB"],
    ['big', "'big' is not a size; write a number and a unit, for example 4GiB or 640KiB"],
    ['0.1KiB', "'0.1KiB' is not a whole number of bytes; write it in a smaller unit"],
    ['9000PiB', "'9000PiB' is too large; sizes go up to 8191TiB"],
    ['', "'' is not a size; write a number and a unit, for example 4GiB or 640KiB"],
  ];
  for (const [text, expected] of rows)
    assert.equal(
      fault(() => parseBytes(text)),
      expected,
    );
});

test('durations', () => {
  const rows: [string | number, number][] = [
    ['10us', 10_000],
    ['1.5s', 1_500_000_000],
    ['1m30s', 90_000_000_000],
    ['1h 1ns', 3_600_000_000_001],
    ['1.001ms', 1_001_000],
    ['0', 0],
    [0, 0],
  ];
  for (const [text, ns] of rows) assert.equal(parseDuration(text), ns, String(text));
});

test('what is wrong with a duration, and the fix', () => {
  const rows: [string | number, string][] = [
    ['5 sec', "'5 sec' has an unknown unit 'sec'; write 5s"],
    ['1m30secs', "'1m30secs' has an unknown unit 'secs'; write 1m30s"],
    ['10µs', "'10µs' has an unknown unit 'µs'; write 10us"],
    ['3 days', "'3 days' has an unknown unit 'days'; use ns, us, ms, s, m or h, for example 10us"],
    [5, "'5' has no unit; write a duration with its unit, for example 5s or 5ms"],
    ['-5s', "'-5s' is negative; write a duration of 0 or more, for example 10us"],
    ['soon', "'soon' is not a duration; write a number and a unit, for example 10us, 5s or 1m30s"],
    ['0.5ns', "'0.5ns' is not a whole number of nanoseconds; write it in a smaller unit"],
    ['9000h', "'9000h' is too long; durations go up to 2500h"],
  ];
  for (const [text, expected] of rows)
    assert.equal(
      fault(() => parseDuration(text)),
      expected,
    );
});

test('rates', () => {
  assert.equal(parseRate('1000/s'), 1000);
  assert.equal(parseRate('5/ms'), 5000);
  assert.equal(parseRate('6/m'), 0.1);
  const rows: [string | number, string][] = [
    ['1000', "'1000' is not a rate; write a number per unit of time, for example 1000/s"],
    [1000, "'1000' is not a rate; write a number per unit of time, for example 1000/s"],
    ['fast', "'fast' is not a rate; write a number per unit of time, for example 1000/s"],
    ['10/sec', "'10/sec' is per unknown unit 'sec'; write 10/s (us, ms, s, m or h)"],
    ['0/s', "'0/s' is not above 0; write a rate above 0, for example 1000/s"],
  ];
  for (const [text, expected] of rows)
    assert.equal(
      fault(() => parseRate(text)),
      expected,
    );
});

test('pages', () => {
  assert.equal(parsePages(16), 16);
  assert.equal(parsePages('16'), 16);
  assert.equal(parsePages('1 page'), 1);
  assert.equal(parsePages('16 pages'), 16);
  assert.equal(parsePages('64KiB'), 16);
  assert.equal(
    fault(() => parsePages('6KiB')),
    "'6KiB' is not a multiple of the 4 KiB page; write for example 8KiB",
  );
  assert.equal(
    fault(() => parsePages(1.5)),
    "'1.5' is not a number of pages; write a whole number of 4 KiB pages, for example 16, or a size such as 64KiB",
  );
});

test('formatting is exact: the parser gives every size and duration back, and the schema pattern accepts the text', () => {
  const value = fc.oneof(
    fc.maxSafeNat(),
    fc.nat(1_000_000),
    fc.nat(4096).map((n) => n * PAGE_BYTES),
  );
  fc.assert(
    fc.property(value, (n) => {
      const size = formatBytes(asBytes(n));
      const duration = formatDuration(asNs(n));
      assert.equal(parseBytes(size), n);
      assert.equal(parseDuration(duration), n);
      assert.match(size, new RegExp(BYTES_PATTERN));
      assert.match(duration, new RegExp(DURATION_PATTERN));
    }),
    { seed: SEED, numRuns: 500 },
  );
  assert.equal(formatBytes(asBytes(3 * 2 ** 30 - 2 ** 20)), '3071MiB');
  assert.equal(formatDuration(asNs(1_500_000)), '1.5ms');
  assert.equal(roundedBytes(3 * 2 ** 30 - 2 ** 20), '3.0GiB');
  assert.equal(roundedBytes(12), '12B');
});

test('no text makes a parser throw anything but UnitTextError', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 60 }), (text) => {
      for (const parse of [parseBytes, parseDuration, parseRate, parsePages]) {
        try {
          assert.ok(parse(text) >= 0);
        } catch (error) {
          assert.ok(error instanceof UnitTextError, String(error));
        }
      }
    }),
    { seed: SEED, numRuns: 2000 },
  );
});

test('zod types: text in, base units out, the fix in params.hint', () => {
  const schema = z.strictObject({
    size: zBytes({ min: 4096, max: 2 ** 40 }),
    think: zDuration().prefault('10us'),
    rate: zRate().optional(),
    chunk: zPages({ min: 1 }).prefault(1),
  });
  assert.deepEqual(schema.parse({ size: '2MiB', rate: '5/s' }), { size: 2 ** 21, think: 10_000, rate: 5, chunk: 1 });
  const issues = schema.safeParse({ size: '1KiB', think: 5, rate: true, chunk: 0 }).error?.issues ?? [];
  assert.deepEqual(
    issues.map((i) => [i.path.join('.'), i.message, (i as { params?: { hint?: string } }).params?.hint]),
    [
      ['size', "'1KiB' is too small", 'the minimum is 4KiB'],
      ['think', "'5' has no unit", 'write a duration with its unit, for example 5s or 5ms'],
      ['rate', 'expected a rate, got true', 'write for example 1000/s'],
      ['chunk', "'0' is too small", 'the minimum is 1 page'],
    ],
  );
  const json = z.toJSONSchema(schema, { io: 'input' }) as {
    properties: Record<string, { default?: unknown; examples?: unknown }>;
    required: string[];
  };
  assert.deepEqual(json.required, ['size']);
  assert.equal(json.properties['think']?.default, '10us');
  assert.deepEqual(json.properties['size']?.examples, ['4GiB', '640KiB']);
});
