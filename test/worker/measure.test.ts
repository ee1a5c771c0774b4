// needs: redis-server
/** What a machine can bear is measured: guests that do a hundred times as much leave room for fewer. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { measureCapacity } from '../../src/emulator/measure.ts';
import { REGISTRY } from '../../src/run/registry.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { validateScenario } from '../../src/scenario/validate.ts';

/** Guests whose only thread maps and unmaps, and thinks in between. */
const MAPPERS = (think: string): string => `
name: mappers
pace: 1
guests:
  - class: mapper
    count: 6
    memory: { size: 16MiB, backing: anon4k }
    cap_ipc_lock: true
    duration: 5s
    actors:
      - name: mapper
        task: main
        workload: map-unmap
        options: { pages: 64 pages, slots: 4 }
        arrival: { kind: closed, think: ${think} }
`;

it('a worker measures how many guests it can emulate in time', async () => {
  const capacityOf = (text: string): Promise<number> =>
    measureCapacity(planRun(validateScenario('s.yaml', text, REGISTRY), REGISTRY), 2);
  const busy = await capacityOf(MAPPERS('2ms'));
  const calm = await capacityOf(MAPPERS('200ms'));
  assert.ok(busy >= 1 && calm >= 5 * busy, `busy guests: ${busy}, calm ones: ${calm}`);
  assert.equal(await capacityOf(MAPPERS('2ms').replace('pace: 1', 'pace: 0')), 10_000);
});
