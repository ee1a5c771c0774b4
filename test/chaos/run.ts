/**
 * The chaos runner: `node dist/test/chaos/run.js --rounds N --seed S [--from K]`. Each round starts a coordinator and three
 * workers on a Redis of its own, does one failure to them at a random moment, and judges what is left. The failure and the
 * moment of round k depend on the seed and k alone. Prints a table and exits with 1 if anything was wrong.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { stream } from '../../src/base/prng.ts';
import { FAILURES } from './failures.ts';
import { Fleet } from './fleet.ts';
import { judge, type Judgement } from './judge.ts';

const KILL_THREAD = fileURLToPath(new URL('./kill-thread.js', import.meta.url));

/** One round. @returns the failure and what was found. */
export async function round(seed: number, number: number): Promise<{ failure: string } & Judgement> {
  const random = stream(seed, `round.${number}`);
  // The first rounds do each failure once.
  const failure = FAILURES[number < FAILURES.length ? number : random.below(FAILURES.length)];
  if (failure === undefined) throw new Error('no failure');
  const afterMs = random.below(2000);
  const found: Judgement = { lost: 0, doubled: 0, wrong: [] };
  const workerEnv = { NODE_OPTIONS: `--import=${KILL_THREAD}` };
  try {
    await Fleet.with({ seconds: 2, workerEnv }, async (fleet) => {
      await fleet.event('start');
      // The moment is part of the experiment; nothing is concluded from the time that passes.
      await pause(afterMs);
      const allowed = fleet.isOver ? [] : await failure.strike(fleet, random);
      Object.assign(found, judge(await fleet.results()));
      await fleet.gone([0, ...allowed]);
      await fleet.nothingLeft();
    });
  } catch (error) {
    found.wrong.push(error instanceof Error ? error.message : String(error));
  }
  return { failure: failure.name, ...found };
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { rounds: { type: 'string' }, seed: { type: 'string' }, from: { type: 'string' } },
  });
  const rounds = Number(values.rounds ?? 10);
  const seed = Number(values.seed ?? 1);
  const from = Number(values.from ?? 0);
  console.log(`seed ${seed}, rounds ${from} to ${from + rounds - 1}`);
  const table = new Map<string, { rounds: number; lost: number; doubled: number; wrong: number }>();
  let bad = 0;
  for (let number = from; number < from + rounds; number++) {
    const { failure, lost, doubled, wrong } = await round(seed, number);
    const row = table.get(failure) ?? { rounds: 0, lost: 0, doubled: 0, wrong: 0 };
    table.set(failure, row);
    row.rounds += 1;
    row.lost += lost;
    row.doubled += doubled;
    if (wrong.length > 0) row.wrong += 1;
    if (lost + doubled + wrong.length === 0) continue;
    bad += 1;
    console.log(`round ${number}, ${failure}: ${lost} lost, ${doubled} doubled; ${wrong.join('; ')}`);
    console.log(`again: node dist/test/chaos/run.js --seed ${seed} --from ${number} --rounds 1`);
  }
  const line = (...cells: (string | number)[]): string =>
    cells.map((cell, i) => (i === 0 ? String(cell).padEnd(40) : String(cell).padStart(9))).join('');
  console.log(line('failure', 'rounds', 'lost', 'doubled', 'wrong'));
  for (const [name, row] of [...table].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    console.log(line(name, row.rounds, row.lost, row.doubled, row.wrong));
  }
  const sum = (of: 'rounds' | 'lost' | 'doubled' | 'wrong'): number =>
    [...table.values()].reduce((total, row) => total + row[of], 0);
  console.log(line('all', sum('rounds'), sum('lost'), sum('doubled'), sum('wrong')));
  return bad === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main();
