import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { REGISTRY } from '../../src/run/registry.ts';
import { originsOf, withDefaults } from '../../src/scenario/origins.ts';
import { parseSet } from '../../src/scenario/overrides.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { resolveScenario, validateScenario } from '../../src/scenario/validate.ts';
import { parsedFile } from './read.ts';

const files = readdirSync('scenarios').map((name) => join('scenarios', name));

for (const file of files.filter((name) => name.endsWith('.yaml'))) {
  test(`${file} with every default written out is the same plan, and leaves nothing to a default`, () => {
    const resolved = resolveScenario(parsedFile(file), REGISTRY, [parseSet('seed=9')!]);
    const text = stringify(withDefaults(resolved, REGISTRY));
    const again = validateScenario('scenario.yaml', text, REGISTRY);
    assert.equal(planRun(again, REGISTRY).hash, planRun(resolved, REGISTRY).hash, text);
    assert.deepEqual(
      originsOf(again, REGISTRY).filter(({ origin }) => origin === 'default'),
      [],
    );
    assert.equal(again.scenario.seed, 9, 'what a flag set is in it');
  });
}
