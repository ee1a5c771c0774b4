/**
 * A device comes and goes: a group behind an IOMMU joins a container and leaves it again. With an mdev-only container
 * every attach pins and charges all that is mapped, and every detach puts it back.
 */
import {
  FILES_MAX,
  filesOf,
  GROUPS_MAX,
  MDEV_GROUP,
  openGroup,
  setContainer,
  unsetContainer,
} from '../../model/paths/files.ts';
import { workload } from './workload.ts';

/** The group descriptors of a process that its containers do not use. */
function freeGroups(containers: number, hasMdev: boolean): number[] {
  const own = (i: number): boolean => (i < FILES_MAX ? i < containers : hasMdev && i - MDEV_GROUP < containers);
  return Array.from({ length: GROUPS_MAX }, (_, i) => i).filter((i) => !own(i));
}

export const attachDetach = workload({
  name: 'attach-detach',
  ops: ['attach', 'detach'],
  summary: 'a group behind an IOMMU joins a container and leaves it, over and over',
  options: ({ z, zDuration }) =>
    z.strictObject({
      hold: zDuration().prefault('1ms').describe('how long the group stays'),
      other_iommu: z
        .boolean()
        .default(false)
        .describe('its IOMMU differs from that of the other groups, so it gets a domain of its own'),
      container: z.int().min(0).max(15).default(0).describe('index of the container'),
    }),
  container: 'container',
  refuse(_, { guest }) {
    const free = freeGroups(guest.containers, guest.mdev !== 'none').length;
    const wanted = guest.actors.reduce((n, { workload: name, count }) => n + (name === 'attach-detach' ? count : 0), 0);
    if (wanted <= free) return null;
    const message = `${wanted} groups come and go, and a process has descriptors for ${free} beside those of its containers`;
    return { path: ['workload'], message, hint: 'use fewer of these actors, or fewer containers' };
  },
  needs: () => ({ mappings: 0, segments: 4, externalPages: 0 }),
  *run(actor, o) {
    const { containers, mdev, actors } = actor.guest;
    const rank = actors.filter((a) => a.workload === 'attach-detach').indexOf(actor.plan);
    const group = freeGroups(containers, mdev !== undefined)[rank];
    if (group === undefined) {
      actor.k.mark('attach-detach', 'no descriptor is left for another group');
      return;
    }
    const { arena } = actor.k;
    openGroup(arena, filesOf(arena, actor.k.current), { index: group, iommuKind: o.other_iommu ? 1 : 0 });
    while (yield* actor.iterate()) {
      const ret = yield* actor.operate('attach', setContainer(actor.k, group, o.container));
      if (ret < 0) {
        actor.markFailure('attach failed', ret);
        continue;
      }
      yield* actor.pause(o.hold);
      yield* actor.operate('detach', unsetContainer(actor.k, group));
    }
  },
});
