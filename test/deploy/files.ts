/** What lies in deploy/, parsed. */
import { readFileSync } from 'node:fs';
import { parse, parseAllDocuments } from 'yaml';

export interface Service {
  readonly image: string;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly cap_drop?: readonly string[];
  readonly user?: string;
}

export interface Compose {
  readonly services: Readonly<Record<string, Service>>;
}

/** compose.yaml, its merge keys applied, its variables replaced as compose does. */
export function composeFile(variables: Readonly<Record<string, string>>): Compose {
  const text = readFileSync('deploy/compose.yaml', 'utf8').replace(
    /\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}/g,
    (whole, name: string | undefined, kind: string | undefined, rest: string | undefined) => {
      if (whole === '$$') return '$';
      const value = variables[name ?? ''];
      if (value === undefined && kind !== '-') throw new Error(`compose.yaml needs ${name}`);
      return value ?? rest ?? '';
    },
  );
  return parse(text, { merge: true }) as Compose;
}

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: Record<string, unknown>;
}

export function manifests(file: string): Manifest[] {
  return parseAllDocuments(readFileSync(file, 'utf8')).map((document) => document.toJS() as Manifest);
}

export const KUBERNETES = ['namespace', 'redis', 'coordinator', 'worker', 'network']
  .map((name) => `deploy/kubernetes/base/${name}.yaml`)
  .concat('deploy/kubernetes/overlays/keda/autoscale.yaml');
