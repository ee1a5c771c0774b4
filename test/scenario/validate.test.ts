import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { UserError } from '../../src/base/errors.ts';
import { validateScenario } from '../../src/scenario/validate.ts';
import { REGISTRY } from './registry.ts';

/** The smallest scenario; `keys` at the top, `guest` in its class, `actor` in its actor. */
function scenario(parts: { keys?: string; memory?: string; guest?: string; actor?: string } = {}): string {
  const { keys, memory = '{ size: 1GiB }', guest, actor } = parts;
  return [
    'name: t',
    ...(keys === undefined ? [] : [keys]),
    'guests:',
    '  - class: small',
    `    memory: ${memory}`,
    ...(guest === undefined ? [] : [`    ${guest}`]),
    '    actors:',
    '      - name: a',
    '        workload: map-unmap',
    ...(actor === undefined ? [] : [`        ${actor}`]),
  ].join('\n');
}

/** The faults as shown, without the summary line; fails when the scenario is valid. */
function faultsOf(text: string): string {
  try {
    validateScenario('t.yaml', text, REGISTRY);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    assert.equal(error.exitCode, 104);
    const [first = '', ...rest] = error.message.split('\n');
    assert.match(first, /^t\.yaml is not a valid scenario: (1 fault|\d+ faults)$/);
    return rest.join('\n');
  }
  return assert.fail(`valid, though it should not be:\n${text}`);
}

/** One fault: the line (without its number), where the caret starts below it, message and fix. */
function oneFault(text: string): string[] {
  const lines = faultsOf(text).split('\n');
  const [head = '', quoted = '', carets = '', fix = ''] = lines;
  assert.ok(lines.length <= 4, `more than one fault:\n${lines.join('\n')}`);
  const start = carets.indexOf('^');
  return [
    head.replace(/^t\.yaml:\d+:\d+: /, ''),
    quoted.slice(start, start + carets.replaceAll(/[^^]/g, '').length),
    fix.replace(/^ {2}fix: /, ''),
  ];
}

test('the smallest scenario is valid and gets its defaults', () => {
  const { scenario: s, variant, expect, expectErrors } = validateScenario('t.yaml', scenario(), REGISTRY);
  assert.equal(variant, 'E');
  assert.deepEqual(expect, []);
  assert.equal(expectErrors.size, 0);
  assert.deepEqual(
    { ...s, guests: [] },
    {
      name: 't',
      description: '',
      seed: 1,
      variant: 'E',
      pace: 1,
      profile: 'default',
      deferred: { batch: 100, flush: 1_000_000 },
      host: { count: 1, cpus: null },
      faults: {},
      expect: [],
      stages: [],
      thresholds: {},
      guests: [],
    },
  );
  assert.deepEqual(s.guests, [
    {
      class: 'small',
      count: 1,
      memory: {
        size: { kind: 'fixed', value: 2 ** 30 },
        backing: { kind: 'fixed', value: 'anon4k' },
        populated: { kind: 'fixed', value: true },
      },
      memlock: null,
      cap_ipc_lock: false,
      iommu: 'type1v2',
      containers: 1,
      mdev: 'none',
      start: { at: 0 },
      actors: [
        {
          name: 'a',
          count: 1,
          chance: 1,
          task: 'thread',
          workload: 'map-unmap',
          options: { size: 4096, chunk: 1 },
          arrival: { kind: 'closed', think: 0 },
          start: 0,
        },
      ],
    },
  ]);
});

test('a fault is shown with its place, its line, a caret and the fix', () => {
  assert.equal(
    faultsOf(scenario({ memory: '{ size: 64K, backing: thp }' })),
    [
      "t.yaml:4:21: guests[0].memory.size: the unit of '64K' is ambiguous",
      '    4 |     memory: { size: 64K, backing: thp }',
      '      |                     ^^^',
      '  fix: write 64KiB (powers of 1024)',
    ].join('\n'),
  );
});

const s = scenario;
const ROWS: readonly (readonly [string, readonly string[]])[] = [
  // Unknown keys and names.
  [s({ keys: 'sede: 1' }), ['sede: unknown key', 'sede', "did you mean 'seed'?"]],
  [
    s({ keys: 'zebra: 1' }),
    [
      'zebra: unknown key',
      'zebra',
      'known: name, description, seed, variant, pace, duration, profile, deferred, host, faults, expect, stages, thresholds, guests',
    ],
  ],
  [s({ guest: 'conut: 1' }), ['guests[0].conut: unknown key', 'conut', "did you mean 'count'?"]],
  [s({ memory: '{ siez: 1GiB }' }), ['guests[0].memory.siez: unknown key', 'siez', "did you mean 'size'?"]],
  [s({ actor: 'worklod: x' }), ['guests[0].actors[0].worklod: unknown key', 'worklod', "did you mean 'workload'?"]],
  [
    s({ actor: 'options: { chnk: 1 }' }),
    ['guests[0].actors[0].options.chnk: unknown key', 'chnk', "did you mean 'chunk'?"],
  ],
  [
    s({ keys: 'variant: Q' }),
    ["variant: unknown variant 'Q'", 'Q', 'variants are A, B, C, D, E, or a kernel version such as "4.10"'],
  ],
  [
    s({ keys: 'variant: 4.99' }),
    ["variant: unknown variant '4.99'", '4.99', 'variants are A, B, C, D, E, or a kernel version such as "4.10"'],
  ],
  [s({ keys: 'profile: defualt' }), ["profile: unknown profile 'defualt'", 'defualt', "did you mean 'default'?"]],
  [
    s({ keys: 'faults: { work_itm: 0.5 }' }),
    ['faults.work_itm: unknown fault site', 'work_itm', "did you mean 'work_item'?"],
  ],
  [
    s({ keys: 'expect: [over-penalti]' }),
    ["expect[0]: unknown invariant 'over-penalti'", 'over-penalti', "did you mean 'over-penalty'?"],
  ],
  [
    s({ keys: 'expect: [{ mapp: ENOMEM }]' }),
    ["expect[0].mapp: unknown operation 'mapp'", 'mapp', "did you mean 'map'?"],
  ],
  [
    s({ keys: 'expect: { D: [{ mlock: ENOMEM }] }' }),
    ['expect.D[0].mlock: no actor of this scenario performs mlock', 'mlock', 'take it out; actors perform map, unmap'],
  ],
  [
    s({ keys: 'expect: [{ map: [ENOMEM, EBUSY] }]' }),
    [
      "expect[0].map[1]: unknown error 'EBUSY'",
      'EBUSY',
      'the statistics tell apart ENOMEM, EEXIST, other_error; other_error is any other',
    ],
  ],
  [
    s({ keys: "thresholds: { 'op_duration{op:pin}': 'max < 1ms' }" }),
    [
      `thresholds["op_duration{op:pin}"]: no actor of this scenario performs pin, so this can never be measured`,
      "'op_duration{op:pin}'",
      'actors perform map, unmap; take the threshold out, or append "or empty"',
    ],
  ],
  [s({ keys: 'expect: { E: [wrapp] }' }), ["expect.E[0]: unknown invariant 'wrapp'", 'wrapp', "did you mean 'wrap'?"]],
  [
    s({ keys: 'expect: { Z: [wrap] }' }),
    ["expect.Z: unknown variant 'Z'", 'Z', 'variants are A, B, C, D, E, or a kernel version such as "4.10"'],
  ],
  [
    s().replace('map-unmap', 'map-unmpa'),
    ["guests[0].actors[0].workload: unknown workload 'map-unmpa'", 'map-unmpa', "did you mean 'map-unmap'?"],
  ],
  [
    s().replace('map-unmap', 'zzz'),
    ["guests[0].actors[0].workload: unknown workload 'zzz'", 'zzz', 'known: map-unmap, fault, null'],
  ],
  [
    s({ actor: 'task: kthred' }),
    ["guests[0].actors[0].task: unknown value 'kthred'", 'kthred', "did you mean 'kthread'?"],
  ],
  [s({ guest: 'iommu: type2' }), ["guests[0].iommu: unknown value 'type2'", 'type2', "did you mean 'type1'?"]],
  [
    s({ memory: '{ size: 1GiB, backing: tph }' }),
    ["guests[0].memory.backing: unknown value 'tph'", 'tph', "did you mean 'thp'?"],
  ],
  [
    s({ actor: 'arrival: { kind: possion, rate: 5/s }' }),
    ["guests[0].actors[0].arrival.kind: unknown value 'possion'", 'possion', "did you mean 'poisson'?"],
  ],
  [
    s({ actor: 'arrival: opne' }),
    [
      "guests[0].actors[0].arrival: 'opne' needs more than its name",
      'opne',
      'write for example { kind: poisson, rate: 1000/s }, or closed',
    ],
  ],
  [
    s({ actor: 'arrival: poisson' }),
    [
      "guests[0].actors[0].arrival: 'poisson' needs more than its name",
      'poisson',
      'write for example { kind: poisson, rate: 1000/s }, or closed',
    ],
  ],
  // Missing keys.
  [s().replace('name: t\n', ''), ["'name' is missing", 'g', "add 'name:'"]],
  ['name: t', ["'guests' is missing", 'n', "add 'guests:'"]],
  [s({ memory: '{ backing: thp }' }), ["guests[0].memory: 'size' is missing", 'memory', "add 'size:'"]],
  [
    s({ actor: 'arrival: { kind: poisson }' }),
    ["guests[0].actors[0].arrival: 'rate' is missing", 'arrival', "add 'rate:'"],
  ],
  [
    s({ actor: 'arrival: { rate: 5/s }' }),
    ["guests[0].actors[0].arrival: 'kind' is missing", 'arrival', "add 'kind:'"],
  ],
  [
    s().replace('        workload: map-unmap', ''),
    ["guests[0].actors[0]: 'workload' is missing", 'n', "add 'workload:'"],
  ],
  // Wrong kinds of value.
  [s({ keys: 'seed: one' }), ["seed: expected a number, got 'one'", 'one', 'write a number without a unit']],
  [s({ keys: 'seed: 1.5' }), ['seed: expected a whole number, got 1.5', '1.5', 'write for example 2']],
  [s({ keys: 'pace: 2x' }), ["pace: expected a number, got '2x'", '2x', 'write a number without a unit']],
  [
    s({ keys: 'duration: 5' }),
    ["duration: '5' has no unit", '5', 'write a duration with its unit, for example 5s or 5ms'],
  ],
  [s({ keys: 'duration: 5 sec' }), ["duration: '5 sec' has an unknown unit 'sec'", '5 sec', 'write 5s']],
  [s({ keys: 'duration: [5s]' }), ['duration: expected a duration, got a list', 'duration', 'write for example 10us']],
  [s({ keys: 'description: 5' }), ['description: expected text, got 5', '5', 'put it in quotes']],
  [s({ keys: 'variant: [A]' }), ['variant: expected text or a number, got a list', 'variant', 'write a word']],
  [
    s({ keys: 'expect: wrap' }),
    ["expect: expected a list or a map, got 'wrap'", 'wrap', "start each entry on a line of its own with '- '"],
  ],
  [
    s({ keys: 'faults: [work_item]' }),
    ['faults: expected a map, got a list', 'faults', "write 'key: value' lines below it"],
  ],
  [s({ keys: 'deferred: 100' }), ['deferred: expected a map, got 100', '100', "write 'key: value' lines below it"]],
  [
    s({ memory: '4GiB' }),
    ["guests[0].memory: expected a map, got '4GiB'", '4GiB', "write 'key: value' lines below it"],
  ],
  [
    s({ memory: '{ size: true }' }),
    ['guests[0].memory.size: expected a size or a map, got true', 'true', 'write for example 4GiB'],
  ],
  [
    s({ memory: '{ size: }' }),
    ['guests[0].memory.size: expected a size or a map, got nothing', 'size', 'write for example 4GiB'],
  ],
  [
    s({ memory: '{ size: [1GiB, 2GiB] }' }),
    ['guests[0].memory.size: expected a size or a map, got a list', 'size', 'write for example 4GiB'],
  ],
  [
    s({ memory: '{ size: 4294967296 }' }),
    ["guests[0].memory.size: '4294967296' has no unit", '4294967296', 'write a size with its unit, for example 4GiB'],
  ],
  [
    s({ guest: 'cap_ipc_lock: yes' }),
    ["guests[0].cap_ipc_lock: expected true or false, got 'yes'", 'yes', 'write true or false'],
  ],
  [
    s({ guest: 'memlock: infinite' }),
    [
      "guests[0].memlock: 'infinite' is not a size",
      'infinite',
      'write a number and a unit, for example 4GiB or 640KiB, or unlimited',
    ],
  ],
  [
    s({ guest: 'memlock: unlimted' }),
    ["guests[0].memlock: unknown value 'unlimted'", 'unlimted', "did you mean 'unlimited'?"],
  ],
  [
    s({ guest: 'memlock: 64kb' }),
    ["guests[0].memlock: the unit of '64kb' is ambiguous", '64kb', 'write 64KiB (powers of 1024), or unlimited'],
  ],
  [s({ guest: 'start: 5s' }), ["guests[0].start: expected a map, got '5s'", '5s', "write 'key: value' lines below it"]],
  [
    s({ actor: 'arrival: { kind: constant, rate: 100 }' }),
    [
      "guests[0].actors[0].arrival.rate: '100' is not a rate",
      '100',
      'write a number per unit of time, for example 100/s',
    ],
  ],
  [
    s({ actor: 'options: [1]' }),
    ['guests[0].actors[0].options: expected a map, got a list', 'options', "write 'key: value' lines below it"],
  ],
  [
    s({ actor: 'options: { size: 1 }' }),
    ["guests[0].actors[0].options.size: '1' has no unit", '1', 'write 1KiB, 1MiB or 1GiB'],
  ],
  ['- name: t', ['a scenario is a map', '-', "start with 'name:' and 'guests:'"]],
  ['just text', ['a scenario is a map', 'just text', "start with 'name:' and 'guests:'"]],
  // Values out of range.
  [s({ keys: 'seed: -1' }), ['seed: -1 is too small', '-1', 'the minimum is 0']],
  [s({ keys: 'seed: 4294967296' }), ['seed: 4294967296 is too large', '4294967296', 'the maximum is 4294967295']],
  [s({ keys: 'pace: -1' }), ['pace: -1 is too small', '-1', 'the minimum is 0']],
  [s({ keys: 'pace: .inf' }), ['pace: expected a number, got Infinity', '.inf', 'write a number without a unit']],
  [s({ keys: 'duration: 0' }), ["duration: '0' is too small", '0', 'the minimum is 1ns']],
  [s({ keys: 'deferred: { batch: 0 }' }), ['deferred.batch: 0 is too small', '0', 'the minimum is 1']],
  [s({ keys: 'host: { cpus: 0 }' }), ['host.cpus: 0 is too small', '0', 'the minimum is 1']],
  [s({ keys: 'deferred: { flush: 2m }' }), ["deferred.flush: '2m' is too large", '2m', 'the maximum is 1m']],
  [s({ keys: 'faults: { work_item: 1.5 }' }), ['faults.work_item: 1.5 is too large', '1.5', 'the maximum is 1']],
  [s({ guest: 'count: 0' }), ['guests[0].count: 0 is too small', '0', 'the minimum is 1']],
  [s({ guest: 'count: 1000001' }), ['guests[0].count: 1000001 is too large', '1000001', 'the maximum is 1000000']],
  [s({ guest: 'containers: 17' }), ['guests[0].containers: 17 is too large', '17', 'the maximum is 16']],
  [s({ actor: 'count: 5000' }), ['guests[0].actors[0].count: 5000 is too large', '5000', 'the maximum is 4096']],
  [s({ actor: 'iterations: 0' }), ['guests[0].actors[0].iterations: 0 is too small', '0', 'the minimum is 1']],
  [
    s({ keys: 'name2: x' }).replace('name2: x', 'description: ' + 'x'.repeat(1001)),
    [
      'description: the text is too long',
      'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
      'the maximum is 1000 characters',
    ],
  ],
  [
    s().replace('name: t', 'name: my scenario'),
    [
      "name: 'my scenario' is not a name",
      'my scenario',
      'use letters, digits, - and _, at most 63, a letter or digit first',
    ],
  ],
  [
    s().replace('class: small', 'class: a.b'),
    [
      "guests[0].class: 'a.b' is not a name",
      'a.b',
      'use letters, digits, - and _, at most 63, a letter or digit first',
    ],
  ],
  [
    s({ guest: 'count: 1000000', actor: 'count: 11' }),
    ['guests: 11000000 actors are too many', 'guests', 'the maximum is 10000000'],
  ],
  // Impossible memory.
  [s({ memory: '{ size: 1KiB }' }), ["guests[0].memory.size: '1KiB' is too small", '1KiB', 'the minimum is 4KiB']],
  [s({ memory: '{ size: 65TiB }' }), ["guests[0].memory.size: '65TiB' is too large", '65TiB', 'the maximum is 64TiB']],
  [
    s({ memory: '{ size: 5KiB }' }),
    ['guests[0].memory.size: 5KiB is not a multiple of the 4KiB page', '5KiB', 'write for example 8KiB'],
  ],
  [
    s({ memory: '{ size: 1MiB, backing: hugetlb2m }' }),
    [
      'guests[0].memory.size: 1MiB is smaller than one 2MiB page of backing hugetlb2m',
      '1MiB',
      'write at least 2MiB, or use backing: anon4k',
    ],
  ],
  [
    s({ memory: '{ size: 3MiB, backing: hugetlb2m }' }),
    [
      'guests[0].memory.size: 3MiB is not a multiple of the 2MiB page of backing hugetlb2m',
      '3MiB',
      'write for example 4MiB',
    ],
  ],
  [
    s({ memory: '{ size: 1MiB, backing: { choose: [anon4k, thp] } }' }),
    [
      'guests[0].memory.size: 1MiB is smaller than one 2MiB page of backing thp',
      '1MiB',
      'write at least 2MiB, or use backing: anon4k',
    ],
  ],
  [
    s({ memory: '{ size: 1GiB, contiguity: 12KiB }' }),
    ['guests[0].memory.contiguity: 12KiB is not a power of two', '12KiB', 'write 8KiB or 16KiB'],
  ],
  [
    s({ memory: '{ size: 1MiB, contiguity: 2MiB }' }),
    ['guests[0].memory.contiguity: 2MiB is larger than the memory of 1MiB', '2MiB', 'write at most 1MiB'],
  ],
  [
    s({ memory: '{ size: 1GiB, contiguity: 4KiB, backing: thp }' }),
    [
      'guests[0].memory.contiguity: 4KiB is smaller than one 2MiB page of backing thp',
      '4KiB',
      'write at least 2MiB, or leave contiguity out',
    ],
  ],
  [
    s({ memory: '{ size: { choose: [1GiB, 2GiB], weights: [1] } }' }),
    [
      'guests[0].memory.size.weights: choose has 2 values, weights has 1',
      'weights',
      'give one weight for each value of choose, or none at all',
    ],
  ],
  [
    s({ memory: '{ size: { choose: [1GiB, 5KiB] } }' }),
    ['guests[0].memory.size.choose[1]: 5KiB is not a multiple of the 4KiB page', '5KiB', 'write for example 8KiB'],
  ],
  [
    s({ memory: '{ size: { choose: [] } }' }),
    ['guests[0].memory.size.choose: the list is empty', 'choose', 'give at least one entry'],
  ],
  [
    s({ memory: '{ size: { uniform: [2GiB, 1GiB] } }' }),
    ['guests[0].memory.size.uniform: the range is upside down', 'uniform', 'write [1GiB, 2GiB]'],
  ],
  [
    s({ memory: '{ size: { uniform: [1GiB, 2GiB], step: 0 } }' }),
    ["guests[0].memory.size.step: '0' is too small", '0', 'the minimum is 4KiB'],
  ],
  [
    s({ memory: '{ size: { uniform: [2MiB, 4MiB], step: 1MiB }, backing: hugetlb2m }' }),
    [
      'guests[0].memory.size: the step 1MiB is not a multiple of the 2MiB page of backing hugetlb2m',
      'size',
      'write for example step: 2MiB',
    ],
  ],
  [
    s({ memory: '{ size: { chose: [1GiB] } }' }),
    ['guests[0].memory.size.chose: unknown key', 'chose', "did you mean 'choose'?"],
  ],
  [
    s({ memory: '{ size: { uniform: [1GiB] } }' }),
    ['guests[0].memory.size.uniform: the list is too short', 'uniform', 'give at least 2 entries'],
  ],
  // Across keys.
  [
    s({ guest: 'start: { spread: 1s, rate: 5/s }' }),
    ['guests[0].start.rate: both spread and rate are given', '5/s', 'keep one of them'],
  ],
  [
    s({ actor: '\n      - name: a\n        workload: fault' }),
    ["guests[0].actors[1].name: there is another actor 'a'", 'a', 'give it a name of its own'],
  ],
  [
    s({ actor: 'task: main\n      - name: b\n        workload: fault\n        task: main' }),
    ['guests[0].actors[1].task: a guest has one main thread', 'main', 'use task: thread for the others'],
  ],
  [
    s({ actor: '{}' }).replace(
      /\n *{}/,
      '\n  - class: small\n    memory: { size: 1GiB }\n    actors: [{ name: a, workload: fault }]',
    ),
    ["guests[1].class: there is another class of guests 'small'", 'small', 'give it a name of its own'],
  ],
  [
    s({ actor: 'task: main\n        count: 2' }),
    ['guests[0].actors[0].task: a guest has one main thread', 'main', 'use task: thread for the others'],
  ],
  // Thresholds.
  [
    s({ keys: "thresholds: { op_duration: 'p(99) < 2' }" }),
    ["thresholds.op_duration: 'p(99) < 2' is not a threshold", "'p(99) < 2'", "write for example 'p(99) < 2ms'"],
  ],
  [
    s({ keys: 'stages: [{ name: boot, duration: 1s }, { name: steady }, { name: end, duration: 1s }]' }),
    ['stages[1]: a stage before the last needs a duration', '{', 'add duration:'],
  ],
  [
    s({ keys: 'stages: [{ name: boot, duration: 1s }, { name: boot }]' }),
    ["stages[1].name: there is another stage 'boot'", 'boot', 'give it a name of its own'],
  ],
  [
    s({ keys: "stages: [{ name: boot }]\nthresholds: { op_duration: 'max < 2s during boto' }" }),
    ["thresholds.op_duration: unknown stage 'boto'", "'max < 2s during boto'", 'use boot'],
  ],
  [
    s({ keys: "thresholds: { ops_duration: 'max < 2s' }" }),
    ["thresholds.ops_duration: unknown metric 'ops_duration'", 'ops_duration', 'use op_duration'],
  ],
  [
    s({ keys: 'thresholds: { op_duration: 5 }' }),
    [
      'thresholds.op_duration: expected text, a map or a list, got 5',
      '5',
      "start each entry on a line of its own with '- '",
    ],
  ],
  [
    s({ keys: 'thresholds: { op_duration: [{ treshold: max < 2s }] }' }),
    ['thresholds.op_duration[0].treshold: unknown key', 'treshold', "did you mean 'threshold'?"],
  ],
  [
    s({ keys: 'thresholds: { op_duration: [{ threshold: max << 2s }] }' }),
    [
      "thresholds.op_duration[0].threshold: 'max << 2s' is not a threshold",
      'max << 2s',
      "write for example 'p(99) < 2ms'",
    ],
  ],
  // The text itself.
  ['', ['t.yaml: the file is empty', '', '']],
  ['# nothing\n', ['t.yaml: the file is empty', '', '']],
  [s({ keys: 'seed: 1\nseed: 2' }), ["the key 'seed' is given twice", 'seed', 'keep one of them']],
  [
    'name: "t',
    ['YAML: a quote, bracket, comma, colon or space is missing', '', 'write key: value, and close what is open'],
  ],
  ['name: t\n\tguests: 1', ['YAML: a tab stands where only spaces may', ' ', 'indent with spaces, never with tabs']],
  ['name: t\n---\nname: u', ['YAML: more than one document', '---', 'keep one scenario in a file']],
  [
    'a: *nowhere',
    ['a: the alias *nowhere has no anchor', '*nowhere', 'define the anchor (&name) before its alias (*name)'],
  ],
  ['a: &a [*a]', ['a[0]: the alias *a refers to itself', '*a', 'define the anchor (&name) before its alias (*name)']],
  [
    s({ keys: '<<: { seed: 1 }' }),
    ['merge keys (<<) are not part of YAML 1.2', '<<', 'repeat the keys, or alias a whole value'],
  ],
  [s({ keys: '__proto__: { seed: 1 }' }), ["the key '__proto__' is not allowed", '__proto__', 'remove it']],
  [s({ keys: '? [1, 2]\n: 3' }), ['a key must be a word', '[1, 2]', 'write key: value']],
  [s({ keys: 'description: !!js/function x' }), ['YAML: tags are not allowed', '!!js/function', 'remove the tag']],
  ['a: ' + '['.repeat(100) + ']'.repeat(100), ['the YAML is nested too deeply', '[', 'nest at most 32 levels']],
  ['a: ' + '['.repeat(100_000), ['the YAML is nested too deeply', '[', 'nest at most 32 levels']],
  // The library would end the process here, not throw.
  ['? '.repeat(100_000), ['the YAML is nested too deeply', ' ', 'nest at most 32 levels']],
];

for (const [text, expected] of ROWS) {
  test(`fault: ${expected[0]}`, () => {
    assert.deepEqual(oneFault(text), expected);
  });
}

test('every fault is reported, in the order of the file', () => {
  const text = faultsOf(
    [
      'name: t t',
      'sede: 1',
      'duration: 5 sec',
      'guests:',
      '  - class: small',
      '    memory: { size: 64K, contiguity: 12KiB }',
      '    memory: { size: 1GiB }',
      '    actors:',
      '      - { name: a, workload: mapp, task: mian }',
      '  - class: small',
      '    count: 0',
      '    memory: { size: 1MiB, backing: hugetlb2m }',
      '    actors: [{ name: b, workload: fault, options: { puase: 1ms } }]',
    ].join('\n'),
  );
  const heads = text.split('\n').filter((line) => line.startsWith('t.yaml:'));
  assert.deepEqual(heads, [
    "t.yaml:1:7: name: 't t' is not a name",
    't.yaml:2:1: sede: unknown key',
    "t.yaml:3:11: duration: '5 sec' has an unknown unit 'sec'",
    "t.yaml:6:21: guests[0].memory.size: the unit of '64K' is ambiguous",
    't.yaml:6:38: guests[0].memory.contiguity: 12KiB is not a power of two',
    "t.yaml:7:5: the key 'memory' is given twice",
    "t.yaml:9:30: guests[0].actors[0].workload: unknown workload 'mapp'",
    "t.yaml:9:42: guests[0].actors[0].task: unknown value 'mian'",
    "t.yaml:10:12: guests[1].class: there is another class of guests 'small'",
    't.yaml:11:12: guests[1].count: 0 is too small',
    't.yaml:12:21: guests[1].memory.size: 1MiB is smaller than one 2MiB page of backing hugetlb2m',
    't.yaml:13:53: guests[1].actors[0].options.puase: unknown key',
  ]);
});

test('more than 50 faults are counted, not listed', () => {
  const keys = Array.from({ length: 60 }, (_, i) => `zz${i}: 1`).join('\n');
  const lines = faultsOf(scenario({ keys })).split('\n');
  assert.equal(lines.filter((line) => line.startsWith('t.yaml:')).length, 50);
  assert.equal(lines.at(-1), '10 more faults');
});

test('aliases are expanded, within bounds', () => {
  const shared =
    scenario({ memory: '&m { size: 1GiB }' }) +
    '\n  - class: large\n    memory: *m\n    actors: [{ name: a, workload: fault }]';
  const { scenario: valid } = validateScenario('t.yaml', shared, REGISTRY);
  assert.deepEqual(valid.guests[1]?.memory, valid.guests[0]?.memory);
  // Each level ten times the one before: 10^9 values from 300 characters.
  const levels = Array.from({ length: 9 }, (_, i) => `l${i + 1}: &l${i + 1} [${Array(10).fill(`*l${i}`).join(', ')}]`);
  const started = performance.now();
  assert.match(faultsOf(['l0: &l0 [x]', ...levels].join('\n')), /^t\.yaml: the scenario has more than 200000 values/);
  assert.ok(performance.now() - started < 1000);
});

test('a key that names a part of every object reaches nobody', () => {
  for (const key of ['__proto__', 'constructor', 'prototype']) {
    assert.match(
      faultsOf(scenario({ actor: `options: { ${key}: { polluted: true } }` })),
      new RegExp(`the key '${key}' is not allowed`),
    );
  }
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
});

test('control characters of the file never reach the terminal', () => {
  // oxlint-disable-next-line no-control-regex
  assert.doesNotMatch(faultsOf(scenario({ keys: '"\\e[31mred\u0007": 1' })).replaceAll('\n', ''), /[\u0000-\u001f]/);
});

test('kernel versions that look like numbers stay text', () => {
  assert.equal(validateScenario('t.yaml', scenario({ keys: 'variant: 4.10' }), REGISTRY).variant, 'D');
  assert.equal(validateScenario('t.yaml', scenario({ keys: 'variant: "4.10"' }), REGISTRY).variant, 'D');
});

test('the workload null is a name, an absent one is not', () => {
  const text = scenario().replace('map-unmap', 'null');
  assert.equal(validateScenario('t.yaml', text, REGISTRY).scenario.guests[0]?.actors[0]?.workload, 'null');
  assert.match(faultsOf(scenario().replace('map-unmap', '')), /workload: expected text, got nothing/);
});

test('expected violations: a list for every variant, or a map by variant', () => {
  const expectOf = (keys: string): readonly string[] => validateScenario('t.yaml', scenario({ keys }), REGISTRY).expect;
  assert.deepEqual(expectOf('expect: [wrap, wrap, balance]'), ['wrap', 'balance']);
  assert.deepEqual(expectOf('variant: A\nexpect: { A: [wrap], D: [balance] }'), ['wrap']);
  assert.deepEqual(expectOf('variant: 4.10\nexpect: { A: [wrap], D: [balance] }'), ['balance']);
  assert.deepEqual(expectOf('variant: E\nexpect: { A: [wrap], D: [balance] }'), []);
});

test('no text at all makes the validator throw anything but UserError', () => {
  const words = fc.constantFrom(
    'name',
    'guests',
    'memory',
    ':',
    '- ',
    '\n',
    '  ',
    '{',
    '}',
    '[',
    ']',
    '&a',
    '*a',
    '!!',
    '1GiB',
    '"',
    '|',
    '#',
    '?',
    '\t',
    '__proto__',
  );
  const mutated = fc
    .tuple(fc.nat(scenario().length), fc.nat(8), words)
    .map(([at, cut, word]) => scenario().slice(0, at) + word + scenario().slice(at + cut));
  const texts = fc.oneof(
    fc.string(),
    fc.array(words, { maxLength: 40 }).map((parts) => parts.join('')),
    mutated,
  );
  fc.assert(
    fc.property(texts, (text) => {
      try {
        validateScenario('t.yaml', text, REGISTRY);
      } catch (error) {
        assert.ok(error instanceof UserError, error instanceof Error ? error.stack : String(error));
      }
    }),
    { seed: 20161206, numRuns: 1500 },
  );
});

test('errors are expected by operation, for all variants or for some', () => {
  const of = (expect: string, variant: string) =>
    Object.fromEntries(
      validateScenario('t.yaml', scenario({ keys: `variant: ${variant}\nexpect: ${expect}` }), REGISTRY).expectErrors,
    );
  assert.deepEqual(of('[wrap, { map: ENOMEM, unmap: [ENOMEM, EEXIST] }]', 'D'), {
    map: ['enomem'],
    unmap: ['enomem', 'eexist'],
  });
  const byVariant = "{ D: [{ map: ENOMEM }], '*': [wrap, { map: EEXIST, unmap: other_error }] }";
  assert.deepEqual(of(byVariant, 'D'), { map: ['enomem', 'eexist'], unmap: ['other_error'] });
  assert.deepEqual(of(byVariant, 'E'), { map: ['eexist'], unmap: ['other_error'] });
});
