/** The options of the workloads, for all that reads them. */
import { OPTION_KINDS } from '../../base/zod-units.ts';
import type { Workload } from './workload.ts';

const schemas = new Map<Workload, ReturnType<Workload['options']>>();

/** The schema of a workload's options: text with units in, numbers in base units out. */
export function optionsOf(workload: Workload): ReturnType<Workload['options']> {
  let schema = schemas.get(workload);
  if (schema === undefined) schemas.set(workload, (schema = workload.options(OPTION_KINDS)));
  return schema;
}
