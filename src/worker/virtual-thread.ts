/** A thread of the virtual driver: each Piscina task is one emulated host. */
import { simulateHost, type HostResult, type HostTask } from './virtual-run.ts';

/** The task Piscina runs. */
export function run(task: HostTask): HostResult {
  return simulateHost(task);
}
