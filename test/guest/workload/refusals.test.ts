/**
 * Scenarios that can only fail are refused, each with its place and its fix; their neighbours that can work are not.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UserError } from '../../../src/base/errors.ts';
import { VARIANTS } from '../../../src/model/kernels/index.ts';
import { REGISTRY } from '../../../src/run/registry.ts';
import { validateScenario } from '../../../src/scenario/validate.ts';

type Actor = Readonly<Record<string, unknown>>;

/** What a scenario of one class of guests is refused for under a variant; '' when it is not. */
function refusal(variant: string, guest: Actor, actors: readonly Actor[], top: Actor = {}): string {
  const scenario = {
    name: 'test',
    variant,
    ...top,
    guests: [
      {
        class: 'vm',
        memory: { size: '4MiB' },
        ...guest,
        actors: actors.map((actor, i) => ({ name: `a${i}`, ...actor })),
      },
    ],
  };
  try {
    validateScenario('test.yaml', JSON.stringify(scenario), REGISTRY);
    return '';
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    assert.equal(error.exitCode, 104);
    assert.match(error.message, /^test\.yaml:\d+:\d+: /m);
    return error.message;
  }
}

const boot = (options: Actor = {}): Actor => ({ workload: 'boot', options });
const MDEV = { mdev: 'beside' };

interface Row {
  readonly what: string;
  readonly variant?: string;
  readonly guest?: Actor;
  readonly actors: readonly Actor[];
  readonly top?: Actor;
  /** Path, message and fix; left out: it is accepted. */
  readonly says?: RegExp;
}

const ROWS: readonly Row[] = [
  {
    what: 'a container that is not there',
    actors: [boot({ container: 1 })],
    says: /actors\[0\]\.options\.container: there is no container 1\n[^]*fix: write containers: 2/,
  },
  { what: 'a container that is there', guest: { containers: 2 }, actors: [boot({ container: 1 })] },
  {
    what: 'a part, which is a container',
    actors: [{ workload: 'parallel-pin', options: { of: 2, part: 1 } }],
    says: /options\.part: there is no container 1/,
  },
  {
    what: 'a part that is not there',
    guest: { containers: 3 },
    actors: [{ workload: 'parallel-pin', options: { of: 2, part: 2 } }],
    says: /options\.part: there is no part 2 of 2/,
  },
  {
    what: 'one part for two actors',
    actors: [{ workload: 'parallel-pin', count: 2 }],
    says: /part 0 is given to more than one actor/,
  },
  {
    what: 'a kernel thread that maps',
    actors: [{ ...boot(), task: 'kthread' }],
    says: /actors\[0\]\.task: a kernel thread cannot do boot[^]*null and mdev-pin/,
  },
  {
    what: 'a container that is closed under the feet of another actor',
    guest: { memory: { size: '4GiB' } },
    actors: [{ workload: 'huge-guest' }, boot()],
    says: /actors\[1\]\.options\.container: 'a0' \(huge-guest\) closes container 0[^]*write containers: 2 and container: 1/,
  },
  {
    what: 'the same for a child, which has descriptors of its own',
    guest: { memory: { size: '4GiB' } },
    actors: [{ workload: 'huge-guest' }, { ...boot(), task: 'vm_child' }],
  },
  {
    what: 'a pin without an mdev',
    actors: [{ workload: 'mdev-pin' }],
    says: /actors\[0\]\.workload: the guest has no mdev to pin for[^]*fix: write mdev: beside/,
  },
  {
    what: 'a pin in a container of version 1',
    guest: { ...MDEV, iommu: 'type1' },
    actors: [{ workload: 'mdev-pin' }],
    says: /fix: write iommu: type1v2/,
  },
  {
    what: 'a pin of what nobody maps',
    guest: MDEV,
    actors: [{ workload: 'mdev-pin', options: { map: false } }],
    says: /nothing maps the first 256 pages of RAM through container 0/,
  },
  {
    what: 'the same by a kernel thread, beside a boot that only some guests have',
    guest: MDEV,
    actors: [
      { workload: 'mdev-pin', task: 'kthread' },
      { ...boot(), chance: 0.5 },
    ],
    says: /nothing maps/,
  },
  { what: 'a pin of what a boot maps', guest: MDEV, actors: [boot(), { workload: 'mdev-pin', task: 'kthread' }] },
  {
    what: 'a pin beside an actor that takes the mapping away',
    guest: MDEV,
    actors: [{ workload: 'mdev-pin' }, { workload: 'map-unmap' }],
    says: /'a1' \(map-unmap\) maps and unmaps the same addresses/,
  },
  {
    what: 'a map of more than the memory',
    actors: [{ workload: 'map-unmap', options: { pages: '8MiB' } }],
    says: /options\.pages: 2048 pages are more than the guest's memory of 4MiB[^]*fix: write at most 4MiB/,
  },
  {
    what: 'slots beyond the addresses',
    guest: { memory: { size: '64TiB' } },
    actors: [{ workload: 'map-unmap', options: { pages: '64TiB', slots: 2 } }],
    says: /options\.slots: /,
  },
  {
    what: 'modules beyond the addresses',
    actors: [{ workload: 'hotplug', count: 1025 }],
    says: /1025 actors with hotplug[^]*the maximum is 1024/,
  },
  {
    what: 'a pool too many of the largest memory',
    guest: { memory: { size: '64TiB' } },
    actors: [{ workload: 'virtio-mem', count: 2 }],
    says: /2 actors with virtio-mem[^]*the maximum is 1/,
  },
  {
    what: 'a balloon that frees parts of huge pages',
    guest: { memory: { size: '4MiB', backing: 'hugetlb2m' } },
    actors: [{ workload: 'balloon' }],
    says: /1MiB is not a multiple of the 2MiB page of the guest's memory[^]*fix: write for example 2MiB/,
  },
  {
    what: 'blocks that are parts of huge pages',
    guest: { memory: { size: '4MiB', backing: 'hugetlb2m' } },
    actors: [{ workload: 'virtio-mem', options: { block: '64KiB' } }],
    says: /options\.block: 64KiB is not a multiple/,
  },
  {
    what: 'more groups than descriptors',
    guest: { ...MDEV, containers: 16 },
    actors: [{ workload: 'attach-detach' }],
    says: /1 groups come and go, and a process has descriptors for 0/,
  },
  {
    what: 'an update under an mdev since 6.3',
    variant: 'H',
    guest: MDEV,
    actors: [{ workload: 'vaddr-update' }],
    says: /keeps its addresses since 6\.3/,
  },
  { what: 'the same before', variant: 'G', guest: MDEV, actors: [{ workload: 'vaddr-update' }] },
  {
    what: 'an update beside mappings it knows nothing of',
    variant: 'H',
    actors: [{ workload: 'vaddr-update' }, { workload: 'hotplug' }],
    says: /'a1' \(hotplug\) has mappings in container 0/,
  },
  {
    what: 'an update of what nobody maps so',
    variant: 'H',
    actors: [boot({ piece: '1MiB' }), { workload: 'vaddr-update', options: { map: false } }],
    says: /'a0' \(boot\) has mappings in container 0/,
  },
  {
    what: 'an update of what nobody maps at all',
    variant: 'H',
    actors: [{ workload: 'vaddr-update', options: { map: false } }],
    says: /nothing maps the guest's memory in pieces of 64MiB[^]*piece: 64MiB/,
  },
  {
    what: 'an update of what a boot maps',
    variant: 'H',
    actors: [boot({ piece: '64MiB' }), { workload: 'vaddr-update', options: { map: false } }],
  },
  {
    what: 'an update by another process before 6.3',
    variant: 'G',
    actors: [boot({ piece: '64MiB' }), { workload: 'vaddr-update', task: 'child', options: { map: false } }],
    says: /actors\[1\]\.task: before 6\.3/,
  },
  {
    what: 'two updates at once',
    variant: 'H',
    actors: [{ workload: 'vaddr-update', count: 2 }],
    says: /count: 2 actors would take the same addresses away at once/,
  },
  {
    what: 'more threads than a host takes',
    guest: { count: 300_000 },
    actors: [boot()],
    says: /guests: 600000 threads on one emulated host are too many[^]*fix: write host: \{ count: 3 \}/,
  },
  { what: 'as many on three hosts', guest: { count: 300_000 }, actors: [boot()], top: { host: { count: 3 } } },
];

describe('a scenario that can only fail', () => {
  for (const { what, variant = 'E', guest = {}, actors, top, says } of ROWS) {
    it(`${what}: ${says === undefined ? 'can work' : 'is refused'}`, () => {
      const message = refusal(variant, guest, actors, top);
      if (says === undefined) assert.equal(message, '');
      else assert.match(message, says);
    });
  }

  for (const { id, external, vaddrUpdate, iommufd } of VARIANTS) {
    it(`${id}: what the variant does not have is refused by its name`, () => {
      const mdev = refusal(id, MDEV, [{ workload: 'mdev-pin' }]);
      if (external === null) assert.match(mdev, new RegExp(`mdev: variant ${id} \\(.*\\) has no mdev`));
      else assert.equal(mdev, '');
      const update = refusal(id, {}, [{ workload: 'vaddr-update' }]);
      if (vaddrUpdate && iommufd === null) assert.equal(update, '');
      else assert.match(update, new RegExp(`variant ${id} \\(.*\\) has no update of addresses`));
    });
  }
});
