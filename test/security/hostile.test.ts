// needs: redis-server
/**
 * What anybody who can write to Redis may put there: refused, counted, without effect on guests, files or prototypes.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { Redis } from 'ioredis';
import { type PrivateRedis, startPrivateRedis } from '../../src/coordinator/private-redis.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { checkPlan } from '../../src/scenario/plan-check.ts';
import { planHash, planRun } from '../../src/scenario/plan.ts';
import { resolveScenario, validateScenario } from '../../src/scenario/validate.ts';
import { claimSlice, takeName } from '../../src/wire/claims.ts';
import { runKeys, runsKey } from '../../src/wire/keys.ts';
import { ControlMessage, GuestJob, WorkerMessage } from '../../src/wire/messages.ts';
import { guestQueue, openProducer } from '../../src/wire/queue.ts';
import { openRedis } from '../../src/wire/redis.ts';
import { fetchPlan, listRuns } from '../../src/wire/runs.ts';
import { StreamReader } from '../../src/wire/streams.ts';
import { until } from '../coordinator/until.ts';
import { parsedFile } from '../scenario/read.ts';
import { CONTENTION, inDirectory, LiveRun, resultsOf } from '../worker/live-run.ts';

/** JSON as an attacker writes it: keys such as __proto__ arrive as own properties. */
const json = (text: string): unknown => JSON.parse(text) as unknown;
const RUNS_KEY = runsKey('pinstorm');
const isClean = (): boolean => Object.keys(Object.prototype).length === 0 && !('polluted' in {});

let redis: PrivateRedis;
let admin: Redis;
before(async () => {
  redis = await startPrivateRedis();
  admin = openRedis(redis.target, 'finite');
});
after(async () => {
  admin.disconnect();
  await redis.close();
});

describe('a guest job', () => {
  const good = { v: 1, slice: 0, incarnation: 1 };

  for (const [what, data] of [
    ['no object', 7],
    ['a list', []],
    ['nothing', null],
    ['a missing field', { v: 1, slice: 0 }],
    ['another version', { ...good, v: 2 }],
    ['a version as text', { ...good, v: '1' }],
    ['guests of its own choice', { ...good, from: 0, to: 1 }],
    ['a field too many', { ...good, file: '../../x' }],
    ['__proto__', json('{"v":1,"slice":0,"incarnation":1,"__proto__":{"polluted":1}}')],
    ['constructor', json('{"v":1,"slice":0,"incarnation":1,"constructor":{"prototype":{"polluted":1}}}')],
    ['a negative slice', { ...good, slice: -1 }],
    ['NaN', { ...good, slice: Number.NaN }],
    ['infinity', json('{"v":1,"slice":1e999,"incarnation":1}')],
    ['a fraction', { ...good, slice: 0.5 }],
    ['2^53', { ...good, incarnation: 2 ** 53 }],
    ['text for a number', { ...good, slice: '1' }],
    ['a path', { ...good, slice: '../../x' }],
    ['a nest of lists', { ...good, slice: json('['.repeat(50_000) + ']'.repeat(50_000)) }],
  ] as const) {
    it(`is refused with ${what}`, () => {
      assert.equal(GuestJob.safeParse(data).success, false);
      assert.ok(isClean());
    });
  }

  it('with an incarnation nobody ordered is forged, and a claim that was made holds', async () => {
    const keys = runKeys('pinstorm', 'claims');
    const [w1, w2] = [await takeName(admin, keys, 'w1'), await takeName(admin, keys, 'w2')];
    const job = (incarnation: number): GuestJob => ({ v: 1, slice: 3, incarnation });
    assert.equal(
      await claimSlice(admin, keys, job(1), { ...w1, token: 'another' }),
      'fenced',
      'not the bearer of the name',
    );
    assert.equal(await claimSlice(admin, keys, job(1), { name: 'w3', token: '' }), 'fenced', 'nobody of that name');
    assert.equal(await claimSlice(admin, keys, job(2), w1), 'forged');
    assert.equal(await claimSlice(admin, keys, job(Number.MAX_SAFE_INTEGER), w1), 'forged');
    assert.equal(await admin.exists(keys.claims), 0);
    assert.equal(await claimSlice(admin, keys, job(1), w1), 'ok');
    assert.equal(await claimSlice(admin, keys, job(1), w1), 'mine');
    assert.equal(await claimSlice(admin, keys, job(1), w2), 'taken');
    assert.equal(await claimSlice(admin, keys, job(2), w2), 'forged');
    // The coordinator orders a rerun.
    await admin.hset(keys.claims, '3', '2:');
    assert.equal(await claimSlice(admin, keys, job(1), w1), 'stale');
    assert.equal(await claimSlice(admin, keys, job(2), w2), 'ok');
    await admin.hset(keys.fenced, 'w2', '1');
    assert.equal(await claimSlice(admin, keys, job(2), w2), 'fenced');
  });
});

describe('messages', () => {
  const interval = {
    t: 'interval',
    worker: 'w1',
    seq: 1,
    states: { running: 1 },
    ended: 0,
    snapshot: '',
    violations: {},
    driftPages: '0',
    backlog: 0,
    oldestAgeSeconds: 0,
    eventLoopDelayP99Ns: 0,
    residentBytes: 0,
    cpuSeconds: 0,
    clockOffsetMs: 0,
  };
  const register = {
    t: 'register',
    worker: 'w1',
    host: 'h',
    pid: 1,
    version: '0',
    planHash: '0',
    capacity: 1,
    threads: 1,
    clockOffsetMs: 0,
    roundTripMs: 0,
  };
  const outcome = {
    guest: 0,
    incarnation: 1,
    state: 'completed',
    operations: 1,
    failedOperations: 0,
    lockedVmAfterPages: '0',
  };

  it('that are well-formed pass: the refusals below are not for another reason', () => {
    for (const message of [interval, register, { t: 'outcomes', worker: 'w1', outcomes: [outcome] }]) {
      assert.ok(WorkerMessage.safeParse(message).success, JSON.stringify(message));
    }
  });

  for (const [what, message] of [
    ['a worker that is a path', { ...interval, worker: '../../x' }],
    ['a worker that is a key pattern', { ...interval, worker: '*' }],
    ['an unknown kind', { ...interval, t: 'shutdown' }],
    ['counts of an invariant that is a prototype', { ...interval, violations: json('{"constructor":5}') }],
    ['a guest state that is a prototype', { ...interval, states: json('{"toString":5}') }],
    ['a negative time', { ...interval, oldestAgeSeconds: -1 }],
    [
      'an infinite time',
      json(JSON.stringify(interval).replace('"eventLoopDelayP99Ns":0', '"eventLoopDelayP99Ns":1e999')),
    ],
    ['a sequence number past 2^53', { ...interval, seq: 2 ** 53 }],
    ['a drift that is no number', { ...interval, driftPages: '1e9' }],
    ['a capacity of nothing', { ...register, capacity: 0 }],
    ['a capacity past all reason', { ...register, capacity: 1e12 }],
    ['a host name of a megabyte', { ...register, host: 'x'.repeat(1 << 20) }],
    [
      'an outcome that is a path',
      { t: 'outcomes', worker: 'w1', outcomes: [{ ...outcome, lockedVmAfterPages: '../x' }] },
    ],
    ['too many outcomes', { t: 'outcomes', worker: 'w1', outcomes: Array.from({ length: 100_001 }, () => outcome) }],
  ] as const) {
    it(`with ${what} are refused`, () => {
      assert.equal(WorkerMessage.safeParse(message).success, false);
      assert.ok(isClean());
    });
  }

  it('that start a run at no possible time, or with no possible concurrency, are refused', () => {
    const start = { t: 'start', startAtMs: 1 };
    const share = { t: 'share', jobs: { w1: 1 } };
    for (const message of [start, share]) assert.ok(ControlMessage.safeParse(message).success);
    for (const message of [
      { ...start, startAtMs: 1e300 },
      { ...start, startAtMs: -1 },
      { ...share, jobs: { w1: 1e9 } },
      { ...share, jobs: { '../x': 1 } },
      { ...share, jobs: { w1: 0.5 } },
    ]) {
      assert.equal(ControlMessage.safeParse(message).success, false, JSON.stringify(message));
    }
  });

  it('send nothing to a terminal but text', () => {
    const error = 'a\u001b[2Jb\u0007c\u009bd\u202ee\rf';
    const { data } = WorkerMessage.safeParse({ t: 'trouble', worker: 'w1', error });
    assert.deepEqual(data, { t: 'trouble', worker: 'w1', error: 'a [2Jb c d e f' });
  });

  it('are refused unread when they are huge, nested a million deep, or no JSON, and the next one is read', async () => {
    const keys = runKeys('pinstorm', 'stream');
    const last = JSON.stringify({ t: 'trouble', worker: 'w1', error: 'last' });
    const deep = '['.repeat(1_000_000) + ']'.repeat(1_000_000);
    const huge = `{"t":"trouble","worker":"w1","error":"${'x'.repeat(17 << 20)}"}`;
    const bad = [
      huge,
      deep,
      `{"t":"trouble","worker":"w1","error":${deep}}`,
      '',
      '{',
      'null',
      '"',
      '\u0000',
      '[1e999]',
    ];
    for (const text of [...bad, last]) await admin.xadd(keys.events, '*', 'm', text);
    const reader = new StreamReader(openRedis(redis.target, 'finite'), [keys.events], WorkerMessage);
    try {
      assert.deepEqual(await reader.read(1000), [json(last)]);
      assert.equal(reader.refused, bad.length);
    } finally {
      reader.close();
      await admin.del(keys.events);
    }
  });
});

describe('a run in Redis', () => {
  it('whose name is a path or a pattern, or whose record is damaged, is not seen', async () => {
    const record = JSON.stringify({ version: '0', planHash: '0'.repeat(64), leaseMs: 1000 });
    for (const name of ['../../x', '*', 'a b', '', 'x'.repeat(65), '__proto__', 'a:b', '}']) {
      await admin.hset(RUNS_KEY, name, record);
    }
    for (const [i, text] of ['{', '[]', '{"version":1}', `${record.slice(0, -1)},"more":1}`].entries()) {
      await admin.hset(RUNS_KEY, `bad-${i}`, text);
    }
    await admin.hset(RUNS_KEY, 'good', record);
    assert.deepEqual([...(await listRuns(admin, 'pinstorm')).keys()], ['good']);
    await admin.del(RUNS_KEY);
  });

  const plans = {
    'no gzip': Buffer.from('plan'),
    'no JSON': gzipSync('{'),
    'a list': gzipSync('[]'),
    'nested a million deep': gzipSync('['.repeat(1_000_000) + ']'.repeat(1_000_000)),
    // 300 MB of zeros in 0.3 MB: more than any plan may have.
    'a gzip bomb': gzipSync(Buffer.alloc(300 << 20), { level: 1 }),
  };
  for (const [what, packed] of Object.entries(plans)) {
    it(`whose plan is ${what} is refused with one line`, async () => {
      await admin.set(runKeys('pinstorm', 'r').plan, packed);
      await assert.rejects(fetchPlan(admin, 'pinstorm', 'r'), (error: Error) => {
        assert.equal(error.name, 'UserError');
        assert.match(error.message, /^the plan of run r is refused: [ -~]{1,300}$/);
        return true;
      });
    });
  }
});

describe('a plan', () => {
  const shipped = ['accounting-stress', 'boot-storm', 'huge-guest'].map((name) =>
    planRun(resolveScenario(parsedFile(`scenarios/${name}.yaml`), REGISTRY), REGISTRY),
  );
  // Every workload with its defaults, every kind of arrival. Some need a container of their own, or can be there once.
  const alone = ['huge-guest', 'map-unmap', 'vaddr-update'];
  const text = `name: all
variant: G
stages: [{ name: warm-up, duration: 1s }, { name: load }]
guests:
  - class: g
    count: 3
    containers: 4
    mdev: beside
    memory: { size: { uniform: [2MiB, 8MiB] } }
    memlock: 1MiB
    duration: 1s
    uid: 7
    actors:
${[...REGISTRY.workloads.keys()].map((name, i) => `      - { name: a${i}, workload: '${name}', ${alone.includes(name) ? `options: { container: ${alone.indexOf(name) + 1} }` : name === 'parallel-pin' ? '' : 'count: 2'} }`).join('\n')}
      - { name: b1, workload: 'null', arrival: { kind: poisson, rate: 5/s } }
      - { name: b2, workload: 'null', arrival: { kind: ramp, from: 1/s, to: 5/s, over: 1s } }
      - { name: b3, workload: 'null', arrival: { kind: burst, operations: 5, every: 1s }, iterations: 3 }
      - { name: b4, workload: 'null', arrival: { kind: closed, think: 1ms }, start: 1ms }
`;
  const all = planRun(validateScenario('all.yaml', text, REGISTRY), REGISTRY);

  it('of any scenario passes unchanged', () => {
    for (const plan of [...shipped, all]) {
      const checked = checkPlan(json(JSON.stringify(plan)));
      assert.deepEqual(checked, json(JSON.stringify(plan)));
      const { hash, ...rest } = checked;
      assert.equal(planHash(rest), hash);
    }
  });

  for (const [what, from, to] of [
    ['an unknown format', '"format":1', '"format":2'],
    ['a name that is a path', '"name":"all"', '"name":"../../x"'],
    ['an unknown variant', '"variant":"G"', '"variant":"constructor"'],
    ['an unknown workload', '"workload":"fault"', '"workload":"constructor"'],
    ['an option the workload has not', '"touch":true', '"touch":true,"x":1'],
    ['a missing option', '"touch":true', '"touch_":true'],
    ['an option of another type', '"touch":true', '"touch":"true"'],
    ['an option below its range', '"slots":1', '"slots":0'],
    ['an option past its range', '"calls":8', '"calls":1000000'],
    ['an option that makes no finite need', '"piece":1099511627776', '"piece":0'],
    ['a prototype among the options', '"touch":true', '"touch":true,"__proto__":{"polluted":1}'],
    ['a negative start', '"startNs":1000000', '"startNs":-1'],
    ['endless memory', /"bytes":\d+/, '"bytes":1e18'],
    ['half a page of memory', /"bytes":\d+/, '"bytes":2048'],
    ['a memlock past 2^53', '"memlockBytes":1048576', '"memlockBytes":9007199254740993'],
    ['guests out of order', '"index":1', '"index":2'],
    ['no guests', /"guests":\[.*\],"hash"/, '"guests":[],"hash"'],
    ['a guest without actors', /"actors":\[.*?\]/, '"actors":[]'],
    ['a probability of 2', '"faults":{}', '"faults":{"dma_node":2}'],
    ['an unknown fault site', '"faults":{}', '"faults":{"__proto__":1,"x":1}'],
    ['actors on containers that are not there', /"containers":\d+/, '"containers":1'],
    ['a field too many', '"format":1', '"format":1,"exec":"rm"'],
    ['an infinite cost', /"wake_up":\d+/, '"wake_up":1e999'],
  ] as const) {
    it(`with ${what} is refused`, () => {
      const good = JSON.stringify(all);
      const bad = good.replace(from, to);
      assert.notEqual(bad, good, 'the test changes nothing');
      assert.throws(() => checkPlan(json(bad)), /^Error: [ -~]{1,300}$/);
      assert.ok(isClean());
    });
  }
});

/** The first guest ends soon, so that its place is free for other jobs while the rest go on. */
const ONE_BRIEF = CONTENTION(60).replace(
  'guests:',
  `guests:
  - class: brief
    memory: { size: 16MiB }
    duration: 500ms
    actors: [{ name: idle, workload: 'null', arrival: { kind: closed, think: 1ms } }]`,
);

describe('a whole run', () => {
  it('is exact beside forged, damaged and oversized jobs, and counts them', async () => {
    await inDirectory(ONE_BRIEF, async (directory) => {
      const run = new LiveRun(directory, ['run', 'scenario.yaml', '--threads', '2', '--redis', redis.target.url]);
      await run.loaded();
      const [runId = ''] = await admin.hkeys(RUNS_KEY);
      const queue = guestQueue('pinstorm', runId);
      const base = `${queue.prefix}:${queue.name}`;
      const producer = openProducer(redis.target, queue);
      const slice = { v: 1, slice: 0, incarnation: 1 };
      await producer.addAll(
        [
          { ...slice, incarnation: 2 },
          { ...slice, incarnation: Number.MAX_SAFE_INTEGER },
          { ...slice, slice: 7 },
          { ...slice, slice: 2 ** 40, from: 0 },
          { ...slice, to: 7 },
          { ...slice, padding: 'x'.repeat(5 << 20) },
        ].map((data, i) => ({ id: `forged-${i}`, data })),
      );
      // A second copy of a job that was claimed.
      await producer.add('../../slice-0-1', slice);
      // Written behind BullMQ's back: no JSON in the data, options that would keep or repeat the job, fields it cannot
      // read.
      const raw = [
        { data: '{' },
        { data: JSON.stringify({ ...slice, v: 3 }), opts: '{"attempts":1000000,"delay":1,"removeOnComplete":false}' },
        { data: '"x"', parentKey: 'bull:other:1', parent: '{"id":"1","queueKey":"bull:other"}' },
        { opts: '{' },
        { progress: '{' },
      ];
      for (const [i, fields] of raw.entries()) {
        await admin.hset(`${base}:raw-${i}`, { name: 'x', data: '{}', opts: '{}', timestamp: '0', ...fields });
        await admin.lpush(`${base}:wait`, `raw-${i}`);
      }
      await producer.add('wake-up', 0);
      await until('all were handed out', async () => (await producer.counts()).waiting === 0);
      run.process.kill('SIGINT');
      const { code, stderr } = await run.ended;
      assert.notEqual(code, 70, stderr);
      const { accounting, coverage } = resultsOf(directory);
      assert.equal(accounting.balance, 'exact');
      // The first guest ends by itself; the others go on until the stop.
      assert.deepEqual([coverage.guestsFinished, coverage.guestsStopped], [1, 6]);
      const refused = Number(/^(\d+) guest jobs refused$/m.exec(accounting.notes.join('\n'))?.[1]);
      // Six forged, three raw ones, the wake-up, and each delivery of the two that BullMQ itself cannot read.
      assert.ok(refused >= 12, accounting.notes.join('; '));
      assert.match(accounting.notes.join('\n'), /^1 guest jobs delivered again$/m);
      await producer.close();
      assert.ok(!existsSync(`${directory}/../x`));
    });
    await until('no key is left', async () =>
      (await admin.keys('{pinstorm:*')).every((key) => !key.includes('guests')),
    );
  });
});
