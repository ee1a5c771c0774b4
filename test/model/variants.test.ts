import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { resolveVariant, variantNote, UnknownVariantError, VARIANTS } from '../../src/model/kernels/index.ts';
import { map, World } from './world.ts';

describe('names of variants', () => {
  const named: readonly (readonly [name: string, id: string])[] = [
    ['E', 'E'],
    ['e2', 'E2'],
    ['j-CAS', 'J-cas'],
    ['3.6', 'A'],
    ['3.19', 'A'],
    ['4.0', 'A'],
    ['linux-4.8', 'A'],
    ['4.9.337', 'A'],
    ['4.10-rc1', 'B'],
    ['v4.10-rc1', 'B'],
    ['4.10-rc2', 'D'],
    ['4.10', 'D'],
    ['4.10.0', 'D'],
    ['Linux 4.10', 'D'],
    ['4.10.16', 'D'],
    ['4.10.17', '4.10.17'],
    ['4.11', 'D'],
    ['4.11.12', 'D'],
    ['4.12-rc1', 'E'],
    ['4.12', 'E'],
    ['4.17', 'E'],
    ['4.14', 'E'],
    ['4.14.114', 'E'],
    ['4.14.115', '4.14.115'],
    ['4.14.336', '4.14.115'],
    ['4.15', 'E'],
    ['4.18', '4.18'],
    ['4.19', '4.18'],
    ['4.19.37', '4.18'],
    ['4.19.38', 'E2'],
    ['4.19.325', 'E2'],
    ['4.20.17', '4.18'],
    ['5.0', '4.18'],
    ['5.0.10', '4.18'],
    ['5.0.11', 'E2'],
    ['5.1-rc3', '4.18'],
    ['5.1-rc4', 'E2'],
    ['5.1', 'E2'],
    ['5.2', 'E2'],
    ['5.8', 'F'],
    ['5.9', '5.10'],
    ['5.10.200', '5.10'],
    ['5.11.22', '5.10'],
    ['5.12', 'G'],
    ['5.15.0-91-generic', 'G'],
    ['6.0', 'G'],
    ['6.1', '6.1'],
    ['6.1.192', '6.1'],
    ['6.1.0-18-amd64', '6.1'],
    ['kernel-6.2', 'G'],
    ['6.3-rc1', 'H'],
    ['6.3', 'H'],
    ['6.12.117', 'H'],
    ['6.17.9', 'H'],
    ['5.3', '5.3'],
    ['5.3.18', '5.3'],
    ['5.4', 'F'],
    ['6.18', 'H2'],
    ['6.19-rc3', 'H2'],
    ['7.9', 'H2'],
    ['8.0', 'H2'],
    ['7.1', 'H2'],
  ];
  for (const [name, id] of named) it(`${name} is ${id}`, () => assert.equal(resolveVariant(name).id, id));

  it('every version from 3.6 to 7.1 has a variant, and they only move forward', () => {
    const versions = [
      ...Array.from({ length: 14 }, (_, n) => `3.${n + 6}`),
      ...Array.from({ length: 21 }, (_, n) => `4.${n}`),
      ...Array.from({ length: 20 }, (_, n) => `5.${n}`),
      ...Array.from({ length: 20 }, (_, n) => `6.${n}`),
      '7.0',
      '7.1',
    ];
    const order = ['A', 'B', 'C', 'D', 'E', '4.18', 'E2', '5.3', 'F', '5.10', 'G', 'H', 'H2'];
    let at = 0;
    for (const version of versions) {
      const { id } = resolveVariant(version);
      if (id === '6.1') continue;
      assert.ok(order.indexOf(id) >= at, `${version} is ${id}`);
      at = order.indexOf(id);
    }
    assert.equal(at, order.length - 1);
  });

  const unknown: readonly (readonly [name: string, message: RegExp])[] = [
    ['E3', /unknown variant 'E3'; did you mean 'E.?'\? There are A, B, /],
    ['banana', /unknown variant 'banana'\. There are A, B, /],
    ['', /unknown variant ''/],
    ['4', /unknown variant '4'/],
    ['4.x', /unknown variant '4.x'/],
    ['4.10rc1', /unknown variant/],
    ['-1.2', /./],
    ['2.6.32', /no variant models kernel 2\.6\.32: the oldest is A \(3\.6 - 4\.9\)/],
    ['linux-3.5', /the oldest is A/],
    ['4.21', /there is no kernel 4\.21: after 4\.20 came 5\.0/],
    ['v6.20', /after 6\.19 came 7\.0/],
    ['7.31', /there is no kernel 7\.31 yet: the newest the model knows is 7\.1/],
    ['9.9', /there is no kernel 9\.9 yet/],
  ];
  for (const [name, message] of unknown) {
    it(`'${name}' is refused with advice`, () => {
      assert.throws(
        () => resolveVariant(name),
        (error) =>
          error instanceof UnknownVariantError && message.test(error.message) && /pinstorm variants/.test(error.hint),
      );
    });
  }

  it('a kernel newer than the model is taken as the newest, with a note', () => {
    for (const name of ['7.2', 'linux-7.9', '8.1-rc1']) {
      assert.equal(resolveVariant(name).id, 'H2');
      const note = `kernel ${name} is newer than the model, which knows Linux up to 7.1: taken as H2 (6.18 - 7.1)`;
      assert.equal(variantNote(name), note);
    }
    for (const name of ['7.1', '7.1.5', '6.19-rc3', '4.10', 'H2', '5.10', 'iommufd', 'banana'])
      assert.equal(variantNote(name), null, name);
  });

  it('ids differ, and each says in one line what it is', () => {
    assert.equal(new Set(VARIANTS.map((v) => v.id.toLowerCase())).size, VARIANTS.length);
    for (const v of VARIANTS) assert.match(v.identity, /^[^\n]{10,130}$/, v.id);
  });
});

describe('a variant spread from another', () => {
  for (const v of VARIANTS.filter((variant) => variant.iommufd === null)) {
    it(`${v.id} with an acctPin of its own charges by it`, () => {
      const charged: number[] = [];
      // oxlint-disable-next-line require-yield
      const own = function* (_k: unknown, _call: unknown, npage: number) {
        charged.push(npage);
        return 0;
      };
      const w = new World({ ...v, acctPin: own }, { limitPages: 64 });
      w.actor(0, function* (k) {
        yield* map(k, 0, 0, 4);
      });
      w.runInOrder();
      assert.deepEqual(charged, [1, 1, 1, 1]);
      assert.equal(w.lockedVm, 0n);
    });
  }
});
