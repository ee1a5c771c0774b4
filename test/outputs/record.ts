/**
 * Records what the program prints where nothing is left to chance: simulated results of every scenario under every
 * variant, verdicts and tokens of every case, plans, and the help of every command. A change that only moves code
 * leaves all of it as it is:
 *
 *     node dist/test/outputs/record.js /tmp/before      # in a built checkout of the commit before
 *     node dist/test/outputs/record.js /tmp/after       # in one of the commit after
 *     diff -r /tmp/before /tmp/after
 */
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const [, , directory] = process.argv;
if (directory === undefined) throw new Error('usage: node dist/test/outputs/record.js DIRECTORY');
mkdirSync(directory, { recursive: true });

const MAIN = 'dist/src/cli/main.js';

function pinstorm(args: readonly string[]): Promise<string> {
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    const parts: Buffer[] = [];
    child.stdout.on('data', (part: Buffer) => parts.push(part));
    child.stderr.on('data', (part: Buffer) => parts.push(part));
    child.on('error', failed);
    child.on('close', (status) => {
      // A run directory is named after the hour, and numbered where there is one of that name.
      const text = Buffer.concat(parts)
        .toString('utf8')
        .replaceAll(/\bruns\/[^,\s]+/g, 'runs/...')
        .replaceAll(/"seconds":[\d.e-]+/g, '"seconds":...');
      // Nothing would be compared.
      if (status === 104) failed(new Error(`pinstorm ${args.join(' ')} was refused: ${text}`));
      else done(`${text}\nexit status ${status}\n`);
    });
  });
}

const yamlFiles = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => path.join(folder, name));

const commands = [...(await pinstorm(['--help'])).matchAll(/^ {2}([a-z]+) {2,}/gm)].map((match) => match[1]!);
const variants = [...(await pinstorm(['variants'])).matchAll(/^([A-Z][\w-]*)\*? /gm)].map((match) => match[1]!);
const scenarios = yamlFiles('scenarios');
const runs: readonly (readonly string[])[] = [
  ['--help'],
  ...commands.map((command) => [command, '--help']),
  ['variants'],
  ['history', '--json'],
  ...yamlFiles('cases').map((file) => ['explore', file, '--json']),
  ...scenarios.map((file) => ['plan', file]),
  ...scenarios.flatMap((file) =>
    variants.map((variant) => ['simulate', file, '--variant', variant, '--json', '--quiet']),
  ),
];

let next = 0;
async function recordFrom(): Promise<void> {
  for (let args = runs[next++]; args !== undefined; args = runs[next++]) {
    const name = args.join(' ').replaceAll(/[^\w.]+/g, '-');
    writeFileSync(path.join(directory!, `${name}.txt`), await pinstorm(args));
  }
}
await Promise.all(Array.from({ length: os.availableParallelism() }, recordFrom));
process.stdout.write(`${runs.length} outputs recorded in ${directory}\n`);
