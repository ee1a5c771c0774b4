import assert from 'node:assert/strict';
import { it } from 'node:test';
import { generic, hot } from '../../bench/contended.ts';

for (const actors of [1, 4, 5, 16, 37, 128, 300]) {
  it(`${actors} actors: the hand-written form does what the driver does, actor by actor`, () => {
    for (const untilNs of [100_000, 3_000_000]) {
      assert.deepEqual(hot({ actors, untilNs }), generic({ actors, untilNs }), `until ${untilNs} ns`);
    }
  });
}
