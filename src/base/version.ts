import { readFileSync } from 'node:fs';

const packageJson = new URL('../../../package.json', import.meta.url);

/** The version of this pinstorm, as package.json has it. Nodes of one run must agree on it. */
export const VERSION = (JSON.parse(readFileSync(packageJson, 'utf8')) as { readonly version: string }).version;
