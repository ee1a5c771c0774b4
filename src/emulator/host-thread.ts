/** A thread of the virtual driver: each Piscina task is one emulated host. */
import type { HostResult, HostTask } from './host-result.ts';
import { simulateHost } from './host-run.ts';

/** The task Piscina runs. */
export function run(task: HostTask): HostResult {
  return simulateHost(task);
}
