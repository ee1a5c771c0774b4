/**
 * The chaos runner: `node dist/test/chaos/run.js --rounds N --seed S [--from K]`. Each round starts a coordinator and
 * three workers on a Redis of its own, does one failure to them at a random moment, and judges what is left. The
 * failure and the moment of round k depend on the seed and k alone. Prints a table and exits with 1 if anything was
 * wrong.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { stream } from '../../src/base/prng.ts';
import { EXIT } from '../../src/base/errors.ts';
import { FAILURES } from './failures.ts';
import { Fleet } from './fleet.ts';
import { judge, type Judgement } from './judge.ts';

const KILL_THREAD = fileURLToPath(new URL('./kill-thread.js', import.meta.url));

export interface Round extends Judgement {
  failure: string;
  /** It ended inconclusive, as this failure may, and said why. */
  inconclusive: boolean;
}

/** One round. @returns the failure and what was found. */
export async function round(seed: number, number: number): Promise<Round> {
  const random = stream(seed, `round.${number}`);
  // The first rounds do each failure once.
  const failure = FAILURES[number < FAILURES.length ? number : random.below(FAILURES.length)];
  if (failure === undefined) throw new Error('no failure');
  const afterMs = random.below(2000);
  const found: Round = { failure: failure.name, inconclusive: false, lost: 0, doubled: 0, wrong: [] };
  const workerEnv = { NODE_OPTIONS: `--import=${KILL_THREAD}` };
  try {
    await Fleet.with({ workers: 3, seconds: 2, workerEnv }, async (fleet) => {
      await fleet.event('start');
      // The moment is part of the experiment; nothing is concluded from the time that passes.
      await pause(afterMs);
      const allowed = fleet.isOver ? [] : await failure.strike(fleet, random);
      const { code, stderr, stdout } = await fleet.coordinator.ended;
      found.inconclusive = code === EXIT.inconclusive && failure.inconclusive?.test(stderr + stdout) === true;
      if (!found.inconclusive) Object.assign(found, judge(await fleet.results()));
      await fleet.gone([0, ...allowed]);
      await fleet.nothingLeft();
    });
  } catch (error) {
    found.wrong.push(error instanceof Error ? error.message : String(error));
  }
  return found;
}

const COLUMNS = ['rounds', 'inconclusive', 'lost', 'doubled', 'wrong'] as const;
type Column = (typeof COLUMNS)[number];

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { rounds: { type: 'string' }, seed: { type: 'string' }, from: { type: 'string' } },
  });
  const rounds = Number(values.rounds ?? 10);
  const seed = Number(values.seed ?? 1);
  const from = Number(values.from ?? 0);
  console.log(`seed ${seed}, rounds ${from} to ${from + rounds - 1}`);
  const table = new Map<string, Record<Column, number>>();
  let bad = 0;
  for (let number = from; number < from + rounds; number++) {
    const before = performance.now();
    const { failure, inconclusive, lost, doubled, wrong } = await round(seed, number);
    const row = table.get(failure) ?? { rounds: 0, inconclusive: 0, lost: 0, doubled: 0, wrong: 0 };
    table.set(failure, row);
    row.rounds += 1;
    row.inconclusive += Number(inconclusive);
    row.lost += lost;
    row.doubled += doubled;
    if (wrong.length > 0) row.wrong += 1;
    const well = lost + doubled + wrong.length === 0;
    const how = inconclusive ? 'inconclusive, said so' : well ? 'whole' : 'WRONG';
    console.log(`${number}  ${failure}: ${how}, ${((performance.now() - before) / 1000).toFixed(1)} s`);
    if (well) continue;
    bad += 1;
    console.log(`round ${number}, ${failure}: ${lost} lost, ${doubled} doubled; ${wrong.join('; ')}`);
    console.log(`again: node dist/test/chaos/run.js --seed ${seed} --from ${number} --rounds 1`);
  }
  const line = (...cells: (string | number)[]): string =>
    cells.map((cell, i) => (i === 0 ? String(cell).padEnd(38) : String(cell).padStart(i === 2 ? 14 : 8))).join('');
  console.log(line('failure', ...COLUMNS));
  for (const [name, row] of [...table].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    console.log(line(name, ...COLUMNS.map((column) => row[column])));
  }
  const sum = (of: Column): number => [...table.values()].reduce((total, row) => total + row[of], 0);
  console.log(line('all', ...COLUMNS.map(sum)));
  return bad === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main();
