// slow: explores every case, and runs it on threads
/**
 * Cases under the virtual driver and on real threads: they end as some explored interleaving does, and fail only as it
 * does.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { ENOMEM } from '../../src/base/errno.ts';
import type { Variant } from '../../src/model/env.ts';
import { resolveVariant } from '../../src/model/kernels/index.ts';
import { type CaseRun, runCase } from '../../src/run/case-run.ts';
import { loadProgram } from '../../src/run/explore-program.ts';
import { type Ended, pinstorm as runHere } from './in-process.ts';

const CASES = ['cases', 'cases/history'].flatMap((directory) =>
  readdirSync(directory)
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => `${directory}/${file}`),
);

/** Under some variants more interleavings than the comparison executes. */
const TOO_LARGE = new Set(['cases/false-refusal.yaml', 'cases/history/X09-killed-update.yaml']);

/** Nothing the driver did is beyond what exploration did. */
function agrees(run: CaseRun, file: string): void {
  const again = `pinstorm explore ${file} --variant ${run.variant.id} --driver virtual`;
  assert.ok(run.exhausted || TOO_LARGE.has(file), `${again}: the exploration was not completed`);
  for (const list of [run.outcomes, run.failures]) {
    assert.deepEqual(
      list.filter((known) => known.explored === false),
      [],
      again,
    );
  }
}

describe('the same case under other drivers', () => {
  for (const file of CASES) {
    it(`${file} in simulated time`, async () => {
      const program = await loadProgram(file);
      for (const id of ['E', 'G', 'H2', 'I-mm']) {
        const variant = resolveVariant(id);
        if (program.plan.mdev !== 'none' && variant.external === null) continue;
        agrees(await runCase(program, variant, 'virtual', { executions: 40, seed: 1 }), file);
      }
    });
  }

  for (const [file, id] of [
    ['cases/over-commit.yaml', 'D'],
    ['cases/over-commit.yaml', 'E'],
    ['cases/false-refusal.yaml', 'H2'],
    ['cases/history/K10-node-leak.yaml', 'G'],
    ['cases/history/K13-exec-underflow.yaml', 'D'],
    ['cases/history/X02-thread-death.yaml', 'B'],
    ['cases/history/X05-unlocked-test.yaml', 'A'],
    ['cases/history/X06-killed-unmap.yaml', 'E'],
  ] as const) {
    it(`${file} on threads, variant ${id}`, async () => {
      const run = await runCase(await loadProgram(file), resolveVariant(id), 'wall', { executions: 25, seed: 1 });
      assert.equal(run.executions, 25);
      agrees(run, file);
    });
  }

  it('deferred updates and known defects show in simulated time too', async () => {
    const program = await loadProgram('cases/over-commit.yaml');
    const run = await runCase(program, resolveVariant('D'), 'virtual', { executions: 300, seed: 1 });
    agrees(run, 'cases/over-commit.yaml');
    assert.deepEqual(run.failures.map((f) => f.failure.kind).toSorted(), ['limit-bypass', 'outcome']);
    assert.deepEqual(await runCase(program, resolveVariant('D'), 'virtual', { executions: 300, seed: 1 }), run);
  });

  it('an outcome that exploration does not know is seen', async () => {
    const H = resolveVariant('H');
    /** Refuses where a step may cover many pages, so not under explore. */
    const twoFaced: Variant = {
      ...H,
      *pinPages(k, call) {
        return k.pagesPerStep === 1 ? yield* H.pinPages(k, call) : -ENOMEM;
      },
    };
    const run = await runCase(await loadProgram('cases/history/K13-exec-underflow.yaml'), twoFaced, 'virtual', {
      executions: 3,
      seed: 1,
    });
    assert.deepEqual(
      run.outcomes.map((o) => [o.times, o.explored]),
      [[3, false]],
    );
  });

  it('run and simulate take a case; what only a scenario has is refused', async () => {
    const pinstorm = (...args: string[]): Promise<Ended> => runHere(args);
    const valid = await pinstorm('validate', ...CASES);
    assert.equal(valid.status, 0, valid.err);
    assert.match(valid.out, /^cases\/over-commit\.yaml: OK, a case of 2 actors, variant E$/m);
    const simulated = await pinstorm('simulate', 'cases/over-commit.yaml', '--variant', 'D', '--json');
    assert.equal(simulated.status, 112, simulated.err);
    const document = JSON.parse(simulated.out) as { driver: string; outcomes: { explored: boolean }[] };
    assert.equal(document.driver, 'virtual');
    assert.ok(document.outcomes.length === 2 && document.outcomes.every((o) => o.explored));
    const live = await pinstorm('run', 'cases/over-commit.yaml');
    assert.equal(live.status, 0, live.err);
    assert.match(live.out, /wall driver, seed 1\nverdict: bounded by 200 executions/);
    for (const line of live.out.split('\n')) assert.ok(line.length <= 100, line);
    assert.equal((await pinstorm('simulate', 'cases/over-commit.yaml', '--pace', '2')).status, 104);
    assert.equal((await pinstorm('explore', 'scenarios/boot-storm.yaml', '--driver', 'wall')).status, 104);
  });
});
