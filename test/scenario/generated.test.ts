import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { REGISTRY } from '../../src/run/registry.ts';
import { scenarioJsonSchema } from '../../src/scenario/json-schema.ts';
import { planRun } from '../../src/scenario/plan.ts';
import { resolveScenario } from '../../src/scenario/validate.ts';
import { assertGenerated } from '../generated.ts';
import { parsedFile } from './read.ts';
import { referenceText } from './reference.ts';

test('schema/scenario.schema.json is what the program checks', async () => {
  await assertGenerated('schema/scenario.schema.json', JSON.stringify(scenarioJsonSchema(REGISTRY)));
});

test('docs/scenario.md is what the program checks', async () => {
  await assertGenerated('docs/scenario.md', referenceText(REGISTRY));
});

const SHIPPED = readdirSync('scenarios').filter((name) => name.endsWith('.yaml'));

test('scenarios are shipped', () => {
  for (const name of ['accounting-stress.yaml', 'boot-storm.yaml', 'huge-guest.yaml'])
    assert.ok(SHIPPED.includes(name), name);
});

for (const name of SHIPPED) {
  test(`scenarios/${name} is valid under every variant, carries its schema line and its own name`, () => {
    const file = `scenarios/${name}`;
    assert.match(
      readFileSync(file, 'utf8'),
      /^# yaml-language-server: \$schema=\.\.\/schema\/scenario\.schema\.json\n/,
    );
    for (const variant of REGISTRY.variants) {
      const origin = { kind: 'flag', text: `--variant ${variant}` } as const;
      const resolved = resolveScenario(parsedFile(file), REGISTRY, [{ path: 'variant', value: variant, origin }]);
      assert.equal(`${resolved.scenario.name}.yaml`, name);
      assert.equal(planRun(resolved, REGISTRY).variant, variant);
    }
  });
}
