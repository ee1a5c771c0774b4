import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { commandPages } from './command-docs.ts';

rmSync('docs/commands', { recursive: true, force: true });
mkdirSync('docs/commands', { recursive: true });
for (const [name, text] of await commandPages()) writeFileSync(`docs/commands/${name}`, text);
