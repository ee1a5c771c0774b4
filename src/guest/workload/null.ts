import type { Ctx, Path } from '../../model/env.ts';
import { S } from '../../model/steps.ts';
import { workload } from './workload.ts';

function* nothing(k: Ctx): Path<number> {
  if (k.at(S.UserWork, 0)) yield;
  return 0;
}

/** An operation that does nothing: what it costs is the harness. */
export const nullWorkload = workload({
  name: 'null',
  ops: ['null'],
  summary: 'operations that do nothing: the cost of the harness itself',
  options: ({ z }) => z.strictObject({}),
  kthread: true,
  needs: () => ({ mappings: 0, segments: 0, externalPages: 0 }),
  *run(actor) {
    while (yield* actor.iterate()) yield* actor.operate('null', nothing(actor.k));
  },
});
