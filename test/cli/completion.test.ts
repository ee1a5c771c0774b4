// needs: bash
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { COMMANDS } from '../../src/cli/commands/index.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

const script = (shell: string): string =>
  execFileSync(process.execPath, [MAIN, 'completion', shell], { encoding: 'utf8' });

/** What bash offers for the last of `words`. */
function bashOffers(words: readonly string[]): readonly string[] {
  const typed = words.map((w) => `'${w}'`).join(' ');
  const driver = `${script('bash')}
COMP_WORDS=(${typed}); COMP_CWORD=${words.length - 1}; _pinstorm; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['--norc', '-c', driver], { encoding: 'utf8' }).split('\n').filter(Boolean);
}

test('bash offers every command, the options of one, the words an argument can be', () => {
  assert.deepEqual(bashOffers(['pinstorm', '']), [...Object.keys(COMMANDS), '--help', '--version']);
  assert.deepEqual(bashOffers(['pinstorm', 'compl']), ['completion']);
  assert.deepEqual(bashOffers(['pinstorm', 'completion', '--']), ['--help']);
  assert.deepEqual(bashOffers(['pinstorm', 'completion', '']), ['bash', 'zsh', 'fish']);
});

test('bash offers names of what comes along, and variants', () => {
  assert.ok(bashOffers(['pinstorm', 'run', 'hu']).includes('huge-guest'));
  assert.deepEqual(bashOffers(['pinstorm', 'explore', 'K01']), ['K01-over-commit']);
  assert.deepEqual(bashOffers(['pinstorm', 'run', 'x', '--variant', 'E2']), ['E2']);
});

for (const shell of ['zsh', 'fish']) {
  test(`the ${shell} script names every command with its summary`, () => {
    const text = script(shell);
    for (const [name, { summary }] of Object.entries(COMMANDS)) {
      assert.ok(text.includes(name) && text.includes(summary), `${name} is missing`);
    }
  });
}
