/**
 * A coordinator and workers as on many machines: separate processes that meet in a Redis of the test's own. What has to
 * hold after every failure is checked here, for the tests and for the chaos runner alike.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT } from '../../src/base/errors.ts';
import type { RunResults } from '../../src/report/results.ts';
import { runKeys } from '../../src/wire/keys.ts';
import { until } from '../coordinator/until.ts';
import { CONTENTION, type Ended, inDirectory, LiveRun } from '../worker/live-run.ts';
import { Proxy } from './proxy.ts';
import { Server } from './server.ts';

/** Short, so that tests need not wait for long. A busy machine must not make a healthy worker look silent. */
export const LEASE_SECONDS = 10;

export interface FleetOptions {
  readonly seconds?: number;
  readonly guests?: number;
  /** How many come; 0: the test starts them, and the coordinator waits for one. */
  readonly workers?: number;
  readonly coordinator?: readonly string[];
  /** The coordinator reaches Redis by the proxy. */
  readonly coordinatorByProxy?: boolean;
  readonly worker?: readonly string[];
  readonly workerEnv?: NodeJS.ProcessEnv;
  readonly redisArgs?: readonly string[];
}

export class Fleet {
  readonly directory: string;
  readonly redis: Server;
  readonly proxy: Proxy;
  readonly workers: LiveRun[] = [];
  coordinator!: LiveRun;
  readonly #options: FleetOptions;

  private constructor(directory: string, redis: Server, proxy: Proxy, options: FleetOptions) {
    this.directory = directory;
    this.redis = redis;
    this.proxy = proxy;
    this.#options = options;
  }

  /** Starts everything, hands it to `body`, and leaves nothing behind. */
  static async with(options: FleetOptions, body: (fleet: Fleet) => Promise<void>): Promise<void> {
    const { seconds = 3, guests = 6, workers = 2, redisArgs = [], coordinator = [] } = options;
    await inDirectory(CONTENTION(seconds, guests), async (directory) => {
      const redis = await new Server(directory, redisArgs).start();
      const proxy = await Proxy.open(directory, redis.url);
      try {
        const fleet = new Fleet(directory, redis, proxy, options);
        fleet.coordinator = fleet.coordinate(['--min-workers', `${Math.max(1, workers)}`, ...coordinator]);
        for (let i = 0; i < workers; i++) fleet.join();
        await body(fleet);
      } finally {
        proxy.close();
        await redis.close();
      }
    });
  }

  coordinate(args: readonly string[]): LiveRun {
    const all = ['coordinator', 'scenario.yaml', '--lease', `${LEASE_SECONDS}s`, '--json', ...args];
    const url = this.#options.coordinatorByProxy === true ? this.proxy.url : this.redis.url;
    return new LiveRun(this.directory, all, { PINSTORM_REDIS: url });
  }

  /** Another command on the same Redis. */
  pinstorm(...args: string[]): Promise<Ended> {
    return new LiveRun(this.directory, args, { PINSTORM_REDIS: this.redis.url }).ended;
  }

  /** One more worker. `wrap`: a command that starts it. */
  join(args: readonly string[] = [], env: NodeJS.ProcessEnv = {}, wrap: readonly string[] = []): LiveRun {
    const name = `w${this.workers.length + 1}`;
    const all = [
      'worker',
      '--name',
      name,
      '--threads',
      '2',
      '--capacity',
      '6',
      ...(this.#options.worker ?? []),
      ...args,
    ];
    const worker = new LiveRun(
      this.directory,
      all,
      {
        PINSTORM_REDIS: this.redis.url,
        ...this.#options.workerEnv,
        ...env,
      },
      wrap,
    );
    this.workers.push(worker);
    return worker;
  }

  /** The directory's name, once the coordinator has told it. */
  get runId(): string {
    const id = /run ([a-z0-9-]+);/.exec(this.coordinator.stderr)?.[1];
    assert.ok(id !== undefined, this.coordinator.stderr);
    return id;
  }

  read(file: string): string {
    try {
      return readFileSync(join(this.directory, 'runs', 'latest', file), 'utf8');
    } catch {
      return '';
    }
  }

  async event(kind: string, timeoutMs = 150_000): Promise<void> {
    const seen = (): boolean => this.read('events.jsonl').includes(`"kind":"${kind}"`);
    await until(`the event ${kind}`, seen, timeoutMs).catch((error: unknown) => {
      const said = [this.coordinator, ...this.workers].map(({ stderr }) => stderr).join('; ');
      assert.fail(`${String(error)}: ${said}`);
    });
  }

  /** What has to come while the run goes on: fails when the run ends before. */
  async during<T>(what: string, coming: Promise<T>): Promise<T> {
    const early = this.coordinator.ended.then(({ code, stderr }) =>
      assert.fail(`the coordinator ended with ${code} before ${what}: ${stderr}`),
    );
    return Promise.race([coming, early]);
  }

  /** Who runs what: `incarnation:worker` of every slice that was taken. */
  claims(): Promise<string[]> {
    return this.redis.admin.hvals(runKeys('pinstorm', this.runId).claims);
  }

  /** Guests are being started, some of them on the first worker. */
  async booting(): Promise<void> {
    await this.event('start');
    await until('w1 has guests', async () => (await this.claims()).includes('1:w1'));
  }

  /** Workers have reported operations and updates that were put off. */
  loaded(): Promise<void> {
    return this.coordinator.loaded();
  }

  /** The coordinator has ended. */
  get isOver(): boolean {
    return this.coordinator.process.exitCode !== null;
  }

  /** What the coordinator says at the end of the run. */
  async results(): Promise<RunResults> {
    const end = await this.coordinator.ended;
    assert.notEqual(end.stdout, '', end.stderr);
    const results = JSON.parse(end.stdout) as RunResults;
    assert.equal(end.code, results.verdict.exitCode, end.stderr);
    return results;
  }

  /** The end of the run, with its results. Everybody must have ended; nothing may be left in Redis. */
  async ended(expected: { workers?: readonly number[] } = {}): Promise<RunResults> {
    const results = await this.results();
    await this.gone(expected.workers);
    await this.nothingLeft();
    return results;
  }

  /** Ends the run, whose guests would live on: a busy machine must not bring their end before what is tested. */
  stopped(expected: { workers?: readonly number[] } = {}): Promise<RunResults> {
    this.coordinator.process.kill('SIGINT');
    return this.ended(expected);
  }

  /** Each worker has ended, with one of these statuses. */
  async gone(allowed: readonly number[] = [EXIT.ok]): Promise<void> {
    for (const worker of this.workers) {
      const { code, signal, stderr } = await worker.ended;
      if (signal === null)
        assert.ok(
          allowed.includes(code as number),
          `a worker ended with ${code}: ${stderr}; the coordinator said: ${this.coordinator.stderr}`,
        );
    }
  }

  /** No key but the farewell, which goes away by itself. */
  async nothingLeft(): Promise<void> {
    let left: string[] = [];
    await until('no key of the run is left', async () => {
      left = (await this.redis.admin.keys('*')).filter((key) => !key.endsWith(':control'));
      return left.length === 0;
    }).catch((error: unknown) => assert.fail(`${String(error)}: ${left.join(' ')}`));
  }
}

/**
 * Whatever happened: every guest ran to its end or to a stop once, and no accounting update was lost or applied twice.
 */
export function assertWhole(results: RunResults): void {
  const { accounting, coverage, verdict } = results;
  const why = JSON.stringify({ coverage, verdict, notes: accounting.notes });
  assert.equal(coverage.guestsFinished + (coverage.guestsStopped ?? 0), coverage.guestsPlanned, why);
  if (!results.stoppedByUser) assert.equal(coverage.guestsStopped, 0, why);
  assert.equal(coverage.guestsLost, 0, why);
  assertAccounts(results);
  assert.equal(accounting.balance, 'exact', why);
  // On a busy machine the generator may have been late, which is said, and is not about the failure.
  const whole = results.stoppedByUser ? EXIT.stopped : EXIT.ok;
  assert.ok(verdict.exitCode === whole || verdict.exitCode === EXIT.saturated, why);
}

export function assertAccounts({ accounting, coverage }: RunResults): void {
  const { queued, applied, discarded, lost } = accounting.deferred;
  assert.equal(applied + discarded, queued, 'deferred updates: applied + discarded = queued');
  assert.equal(lost, 0);
  assert.deepEqual(
    accounting.violations.filter(({ invariant }) => invariant !== 'wrap'),
    [],
  );
  const { guestsPlanned, guestsFinished, guestsStopped = 0, guestsFailed, guestsLost } = coverage;
  assert.equal(guestsFinished + guestsStopped + guestsFailed + guestsLost, guestsPlanned, 'guests are conserved');
}

export type { Ended };
