/**
 * Waiting for conditions in tests: polls until true. Never a bare sleep. The deadline only ends a test that hangs: it
 * is far off, because a process may take half a minute to start on a busy machine.
 */
import { setTimeout as pause } from 'node:timers/promises';

export async function until(what: string, condition: () => boolean | Promise<boolean>, timeoutMs = 120_000) {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await pause(5);
  }
}

/** Whether a process exists (a zombie counts as gone). */
export async function isAlive(pid: number): Promise<boolean> {
  const { readFile } = await import('node:fs/promises');
  try {
    return !/^State:\s+Z/m.test(await readFile(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
