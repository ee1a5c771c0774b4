/**
 * A stage for the boards: Prometheus with the configuration of deploy/, and two real runs one after the other on one
 * port.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { EXIT } from '../../src/base/errors.ts';
import { inDirectory, LiveRun } from '../worker/live-run.ts';
import { choices, Prometheus, type Board, type Range } from './grafana.ts';

export const SCRAPE_SECONDS = 1;

/**
 * Guests that meet every kind of trouble the boards show: trylocks fail and updates are deferred (two mappers of one
 * address space), maps are refused by the limit, faults and mlock take the lock for read and write, bursts want more
 * than can be done at once, one threshold holds and one does not.
 */
const SCENARIO = (seconds: number): string => `
name: boards
seed: 20170322
variant: D
# Ten times slower than the model's time: locks are held longer for the same work of this machine.
pace: 0.1
duration: ${seconds * 100}ms
expect: [wrap, over-penalty]
stages:
  - { name: start, duration: 200ms }
  - { name: load }
thresholds:
  'op_duration{op:map}': ['p(99) < 10s']
  trylock_failures: ['count < 1']
guests:
  - class: busy
    count: 4
    containers: 2
    memory: { size: 16MiB, backing: anon4k }
    cap_ipc_lock: true
    start: { spread: 50ms }
    duration: ${seconds * 100}ms
    actors:
      - name: mapper-0
        workload: map-unmap
        options: { pages: 16 pages, slots: 4, container: 0 }
        arrival: { kind: closed, think: 4ms }
      - name: mapper-1
        workload: map-unmap
        options: { pages: 16 pages, slots: 4, container: 1 }
        arrival: { kind: closed, think: 4ms }
      - name: vcpu
        count: 2
        workload: fault
        arrival: { kind: poisson, rate: 500/s }
      - name: locker
        workload: mlock-loop
        arrival: { kind: constant, rate: 500/s }
  - class: limited
    count: 2
    memory: { size: 16MiB, backing: anon4k }
    memlock: 64KiB
    start: { spread: 50ms }
    duration: ${seconds * 100}ms
    actors:
      - name: mapper
        workload: map-unmap
        options: { pages: 8 pages, slots: 4, stop_on_failure: false }
        arrival: { kind: burst, operations: 100, every: 100ms }
`;

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

export interface Stage {
  readonly prometheus: Prometheus;
  readonly prometheusPort: number;
  /** Variables as a user would choose them. */
  readonly values: Readonly<Record<string, string>>;
  /** What the run served while it went on. */
  readonly scrape: string;
  readonly range: Range;
}

/** Lasts about `seconds` per run and some seconds more. */
export async function onStage(
  seconds: number,
  boards: readonly Board[],
  body: (stage: Stage) => Promise<void>,
): Promise<void> {
  await inDirectory(SCENARIO(seconds), async (directory) => {
    const [target, own] = [await freePort(), await freePort()];
    cpSync('deploy/prometheus', join(directory, 'prometheus'), { recursive: true });
    const config = join(directory, 'prometheus', 'prometheus.yml');
    writeFileSync(
      config,
      readFileSync(config, 'utf8').replaceAll('_interval: 5s', `_interval: ${SCRAPE_SECONDS * 1000}ms`),
    );
    writeFileSync(join(directory, 'prometheus', 'targets.yml'), `- targets: ['127.0.0.1:${target}']\n`);
    const data = join(directory, 'data');
    mkdirSync(data);
    const server = spawn(
      'prometheus',
      [`--config.file=${config}`, `--storage.tsdb.path=${data}`, `--web.listen-address=127.0.0.1:${own}`],
      { stdio: 'ignore' },
    );
    try {
      const prometheus = new Prometheus(own);
      /** Runs to the end. @returns what it served last while its workers were at work, and when. */
      const runOnce = async (variant: string): Promise<{ scrape: string; lastAt: number }> => {
        const args = ['run', 'scenario.yaml', '--variant', variant, '--workers', '2', '--metrics-port', `${target}`];
        const run = new LiveRun(directory, args);
        let [scrape, lastAt, ended] = ['', 0, false];
        void run.ended.then(() => (ended = true));
        while (!ended) {
          const text = await fetch(`http://127.0.0.1:${target}/metrics`).then(
            (response) => response.text(),
            () => '',
          );
          if (text.includes('pinstorm_workers{state="alive"} 2')) [scrape, lastAt] = [text, Date.now() / 1000];
          await pause(200);
        }
        const { code, stderr } = await run.ended;
        // One of its thresholds cannot hold.
        assert.ok(code === EXIT.threshold || code === EXIT.saturated, `ended with ${code}: ${stderr}`);
        assert.notEqual(scrape, '', stderr);
        return { scrape, lastAt };
      };
      const startedAt = Date.now() / 1000;
      await runOnce('C');
      const { scrape, lastAt } = await runOnce('D');
      const range: Range = { from: startedAt, to: lastAt, step: 1, scrapeInterval: SCRAPE_SECONDS };
      const compare = boards.find(({ uid }) => uid === 'pinstorm-compare')!;
      const values: Record<string, string> = { op: '.+' };
      for (const variable of compare.templating.list) {
        if (variable.type === 'datasource' || variable.name === 'op') continue;
        const found = await choices(variable, prometheus, values, range);
        const pick =
          variable.name === 'baseline'
            ? found.at(-1)
            : (found.find(([, value]) => value === variable.current?.value) ?? found[0]);
        if (pick === undefined) throw new Error(`nothing to choose for ${variable.name}`);
        values[variable.name] = pick[1];
      }
      values['within'] = '0.001024';
      await body({ prometheus, prometheusPort: own, values, scrape, range });
    } finally {
      server.kill('SIGKILL');
      await once(server, 'close');
    }
  });
}
