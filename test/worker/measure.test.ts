// needs: redis-server
/** What a machine can bear is measured: guests that do a hundred times as much leave room for fewer. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { measureCapacity } from '../../src/emulator/measure.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { validateScenario } from '../../src/scenario/validate.ts';
import { CONTENTION } from './live-run.ts';

it('a worker measures how many guests it can emulate in time', async () => {
  const capacityOf = (text: string): Promise<number> =>
    measureCapacity(planRun(validateScenario('s.yaml', text, REGISTRY), REGISTRY), 2);
  const busy = await capacityOf(CONTENTION(5));
  const calm = await capacityOf(CONTENTION(5).replaceAll('think: 1ms', 'think: 100ms'));
  assert.ok(busy >= 1 && calm >= 5 * busy, `busy guests: ${busy}, calm ones: ${calm}`);
  assert.equal(await capacityOf(CONTENTION(5).replace('pace: 1', 'pace: 0')), 10_000);
});
