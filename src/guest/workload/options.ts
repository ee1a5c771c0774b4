/** The options of the workloads, for all that reads them. */
import { z } from 'zod';
import { zBytes, zDuration, zPages } from '../../base/zod-units.ts';
import type { Workload } from './workload.ts';

const KINDS = { z, zBytes, zDuration, zPages };

/** What a workload makes the schema of its options of. */
export type OptionKinds = typeof KINDS;

const schemas = new Map<Workload, ReturnType<Workload['options']>>();

/** The schema of a workload's options: text with units in, numbers in base units out. */
export function optionsOf(workload: Workload): ReturnType<Workload['options']> {
  let schema = schemas.get(workload);
  if (schema === undefined) schemas.set(workload, (schema = workload.options(KINDS)));
  return schema;
}
