import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { commandPages } from './command-docs.ts';
import { COMMANDS } from '../../src/cli/commands/index.ts';
import { listFiles } from '../tidy/source.ts';

test('docs/commands says what the commands say of themselves', async () => {
  const pages = await commandPages();
  assert.deepEqual(readdirSync('docs/commands').toSorted(), [...pages.keys()].toSorted(), 'Fix: npm run docs');
  for (const [name, text] of pages) {
    assert.equal(
      readFileSync(`docs/commands/${name}`, 'utf8'),
      text,
      `docs/commands/${name} is stale. Fix: npm run docs`,
    );
  }
});

const markdown = listFiles('.').filter((f) => f.endsWith('.md'));

test('links between our pages lead somewhere', () => {
  const broken = markdown.flatMap((file) => {
    const targets = [...readFileSync(file, 'utf8').matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map((m) => m[1] ?? '');
    const local = targets.filter((target) => !/^[a-z]+:/.test(target));
    return local.filter((t) => !existsSync(path.join(path.dirname(file), t))).map((t) => `${file} -> ${t}`);
  });
  assert.deepEqual(broken, []);
});

test('the README and the pages name only commands, scripts and files that exist', () => {
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> };
  const wrong = markdown
    .filter((f) => f !== 'CHANGELOG.md')
    .flatMap((file) => {
      const blocks = [...readFileSync(file, 'utf8').matchAll(/^```(?:sh|console)\n(.*?)^```/gms)].map(
        (m) => m[1] ?? '',
      );
      return blocks.flatMap((block) => {
        const commands = [...block.matchAll(/\bpinstorm ([a-z]+)\b/g)]
          .map((m) => m[1] ?? '')
          .filter((c) => c !== 'help' && !(c in COMMANDS));
        const npm = [...block.matchAll(/\bnpm run ([\w:]+)/g)].map((m) => m[1] ?? '').filter((s) => !(s in scripts));
        const files = [...block.matchAll(/\b(?:dist\/)?(?:scenarios|test|bin|docs|deploy)\/[\w./-]+/g)]
          .map((m) => m[0])
          .filter((f) => !existsSync(f));
        return [...commands, ...npm, ...files].map((what) => `${file}: ${what}`);
      });
    });
  assert.deepEqual(wrong, []);
});
