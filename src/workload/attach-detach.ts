/**
 * A device comes and goes: a group behind an IOMMU joins a container and leaves it again. With an mdev-only container every
 * attach pins and charges all that is mapped, and every detach puts it back.
 */
import { z } from 'zod';
import { zDuration } from '../base/zod-units.ts';
import type { Actor } from '../engine/actor.ts';
import {
  FILES_MAX,
  filesOf,
  GROUPS_MAX,
  MDEV_GROUP,
  openGroup,
  setContainer,
  unsetContainer,
} from '../model/paths/files.ts';
import { workload } from './workload.ts';

/** A group descriptor of the process that nobody else uses: the container's own ones come first. -1 if all are taken. */
function freeGroup(actor: Actor): number {
  const { containers, mdev, actors } = actor.guest;
  const own = (i: number): boolean =>
    i < FILES_MAX ? i < containers : mdev !== undefined && i - MDEV_GROUP < containers;
  const free = Array.from({ length: GROUPS_MAX }, (_, i) => i).filter((i) => !own(i));
  return free[actors.filter((a) => a.workload === 'attach-detach').indexOf(actor.plan)] ?? -1;
}

export const attachDetach = workload({
  name: 'attach-detach',
  summary: 'a group behind an IOMMU joins a container and leaves it, over and over',
  options: z.strictObject({
    hold: zDuration().prefault('1ms').describe('how long the group stays'),
    other_iommu: z
      .boolean()
      .default(false)
      .describe('its IOMMU differs from that of the other groups, so it gets a domain of its own'),
    container: z.int().min(0).max(15).default(0).describe('index of the container'),
  }),
  needs: () => ({ mappings: 0, segments: 4, externalPages: 0 }),
  *run(actor, o) {
    const group = freeGroup(actor);
    if (group < 0) {
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
