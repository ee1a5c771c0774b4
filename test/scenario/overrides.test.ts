import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UserError } from '../../src/base/errors.ts';
import { overridesOf } from '../../src/cli/scenario-options.ts';
import { originsOf } from '../../src/scenario/origins.ts';
import { parseSet, type Override } from '../../src/scenario/overrides.ts';
import { validateScenario, type ResolvedScenario } from '../../src/scenario/validate.ts';
import { REGISTRY } from './registry.ts';

const TWO = `name: two
seed: 5
guests:
  - class: small
    memory: &m { size: 1GiB }
    actors:
      - { name: mapper, workload: map-unmap, options: { size: 4KiB } }
  - class: large
    memory: *m
    actors: [{ name: mapper, workload: map-unmap }]
`;
const ONE = TWO.slice(0, TWO.indexOf('  - class: large'));

const set = (...texts: string[]): Override[] =>
  texts.map((text) => {
    const override = parseSet(text);
    assert.ok(override !== null, text);
    return override;
  });
const resolve = (text: string, ...sets: string[]): ResolvedScenario =>
  validateScenario('t.yaml', text, REGISTRY, set(...sets));

function faultOf(text: string, ...sets: string[]): string {
  try {
    resolve(text, ...sets);
  } catch (error) {
    assert.ok(error instanceof UserError, String(error));
    return error.message.split('\n').slice(1).join('\n');
  }
  return assert.fail(`accepted: ${sets.join(' ')}`);
}

test('a dotted path sets one key of one class; what is shared by an alias stays apart', () => {
  const { guests } = resolve(TWO, 'guests.small.memory.size=4GiB').scenario;
  assert.deepEqual(
    guests.map((guest) => guest.memory.size),
    [
      { kind: 'fixed', value: 4 * 2 ** 30 },
      { kind: 'fixed', value: 2 ** 30 },
    ],
  );
});

test('the short form sets a key of every class', () => {
  const { guests } = resolve(TWO, 'memory.backing=thp', 'memlock=64KiB').scenario;
  for (const guest of guests) {
    assert.deepEqual(guest.memory.backing, { kind: 'fixed', value: 'thp' });
    assert.equal(guest.memlock, 65536);
  }
});

test('actors by name, whole values, new keys, the later of two wins', () => {
  const { scenario } = resolve(
    TWO,
    'guests.small.actors.mapper.options.size=8KiB',
    'actors.mapper.count=3',
    'seed=9',
    'seed=10',
    'duration=2m',
    'deferred={batch: 1}',
    'guests.large.memory.size={choose: [1GiB, 2GiB]}',
    'guests.large.count=7',
  );
  assert.equal(scenario.seed, 10);
  assert.equal(scenario.duration, 120e9);
  assert.deepEqual(scenario.deferred, { batch: 1, flush: 1e6 });
  assert.deepEqual(scenario.guests[0]?.actors[0]?.options, { size: 8192, chunk: 1 });
  assert.deepEqual(
    scenario.guests.map((guest) => [guest.count, guest.actors[0]?.count]),
    [
      [1, 3],
      [7, 3],
    ],
  );
  assert.equal(scenario.guests[1]?.memory.size.kind, 'choose');
});

test('guests=N where there is one class', () => {
  assert.equal(resolve(ONE, 'guests=64').scenario.guests[0]?.count, 64);
  assert.equal(resolve(ONE, 'guests.small=3').scenario.guests[0]?.count, 3);
});

const FAULTS: readonly (readonly [string, string])[] = [
  [
    'memory.size=64K',
    "--set memory.size=64K: guests[0].memory.size: the unit of '64K' is ambiguous\n  fix: write 64KiB (powers of 1024)",
  ],
  [
    'guests.smal.count=2',
    "--set guests.smal.count=2: there is no class of guests 'smal'\n  fix: did you mean 'small'?",
  ],
  ['gests.small.count=2', "--set gests.small.count=2: unknown key 'gests'\n  fix: did you mean 'guests'?"],
  ['guests.small.conut=2', "--set guests.small.conut=2: guests[0].conut: unknown key\n  fix: did you mean 'count'?"],
  [
    'guests.small.actors.maper.count=2',
    "--set guests.small.actors.maper.count=2: there is no actor 'maper'\n  fix: did you mean 'mapper'?",
  ],
  ['guests=5', '--set guests=5: there are 2 classes of guests\n  fix: write for example guests.small.count=5'],
  ['seed.x=1', "--set seed.x=1: cannot set 'x' below 5\n  fix: set the whole value"],
  ['seed=[1', "--set seed=[1: '[1' is not a YAML value\n  fix: put it in quotes"],
  ['seed..x=1', "--set seed..x=1: 'seed..x' is not a key\n  fix: write for example memory.backing=anon4k"],
  [
    'deferred.__proto__.x=1',
    "--set deferred.__proto__.x=1: 'deferred.__proto__.x' is not a key\n  fix: write for example memory.backing=anon4k",
  ],
  [
    'deferred={__proto__: {x: 1}}',
    "--set deferred={__proto__: {x: 1}}: the key '__proto__' is not allowed\n  fix: remove it",
  ],
  [
    'variant=Q',
    '--set variant=Q: variant: unknown variant \'Q\'\n  fix: variants are A, B, C, D, E, or a kernel version such as "4.10"',
  ],
];
for (const [text, expected] of FAULTS) {
  test(`fault of --set ${text}`, () => {
    // One class where the fault would otherwise be told for each.
    assert.equal(faultOf(text.startsWith('memory') ? ONE : TWO, text), expected);
  });
}

test('a --set without = is no override', () => {
  assert.equal(parseSet('seed'), null);
  assert.equal(parseSet('=5'), null);
});

test('flags over environment over file over default, and the origin of each value', () => {
  const options = {
    variant: '4.10',
    seed: '7',
    pace: undefined,
    duration: '5s',
    set: set('pace=3', 'seed=6', 'duration=1s'),
  };
  const env = { PINSTORM_DURATION: '5s', PINSTORM_PACE: '9' };
  const overrides = overridesOf(options, env);
  const resolved = validateScenario('t.yaml', ONE, REGISTRY, overrides);
  const { scenario, variant } = resolved;
  assert.deepEqual([variant, scenario.seed, scenario.pace, scenario.duration], ['D', 7, 3, 1e9]);
  const origins = new Map(originsOf(resolved, REGISTRY).map((row) => [row.path, `${row.value} <- ${row.origin}`]));
  assert.deepEqual(Object.fromEntries(origins), {
    name: 'two <- t.yaml:1',
    description: '"" <- default',
    seed: '7 <- flag --seed 7',
    variant: '4.10 <- flag --variant 4.10',
    pace: '3 <- flag --set pace=3',
    duration: '1s <- flag --set duration=1s',
    profile: 'default <- default',
    'deferred.batch': '100 <- default',
    'deferred.flush': '1ms <- default',
    'host.count': '1 <- default',
    'host.cpus': 'unlimited <- default',
    expect: '[] <- default',
    stages: '[] <- default',
    'guests.small.class': 'small <- t.yaml:4',
    'guests.small.count': '1 <- default',
    'guests.small.memory.size': '1GiB <- t.yaml:5',
    'guests.small.memory.backing': 'anon4k <- default',
    'guests.small.memory.populated': 'true <- default',
    'guests.small.mdev': 'none <- default',
    'guests.small.memlock': 'unlimited <- default',
    'guests.small.cap_ipc_lock': 'false <- default',
    'guests.small.iommu': 'type1v2 <- default',
    'guests.small.containers': '1 <- default',
    'guests.small.start.at': '0 <- default',
    'guests.small.actors.mapper.name': 'mapper <- t.yaml:7',
    'guests.small.actors.mapper.count': '1 <- default',
    'guests.small.actors.mapper.chance': '1 <- default',
    'guests.small.actors.mapper.task': 'thread <- default',
    'guests.small.actors.mapper.workload': 'map-unmap <- t.yaml:7',
    'guests.small.actors.mapper.options.size': '4KiB <- t.yaml:7',
    'guests.small.actors.mapper.options.chunk': '1 <- default',
    'guests.small.actors.mapper.arrival': 'closed <- default',
    'guests.small.actors.mapper.start': '0 <- default',
  });
});

test('a value only the environment gives', () => {
  const options = { variant: undefined, seed: '3', pace: undefined, duration: undefined, set: [] };
  const resolved = validateScenario('t.yaml', ONE, REGISTRY, overridesOf(options, { PINSTORM_SEED: '3' }));
  const seed = originsOf(resolved, REGISTRY).find((row) => row.path === 'seed');
  assert.equal(seed?.origin, 'environment PINSTORM_SEED=3');
});
