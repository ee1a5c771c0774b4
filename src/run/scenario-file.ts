/** The scenario of a command: checked, and with what its user should know about it said on stderr. */
import { say } from '../console/output.ts';
import type { Override } from '../scenario/overrides.ts';
import type { ParsedSource } from '../scenario/source.ts';
import { type ResolvedScenario, resolveScenario } from '../scenario/validate.ts';
import { REGISTRY } from './registry.ts';

const said = new Set<string>();

/** @throws UserError (exit 104) with every fault of the scenario. */
export function scenarioOf(source: ParsedSource, overrides: readonly Override[]): ResolvedScenario {
  const resolved = resolveScenario(source, REGISTRY, overrides);
  for (const note of resolved.notes) {
    if (said.has(note)) continue;
    said.add(note);
    say(`pinstorm: note: ${note}\n`);
  }
  return resolved;
}
