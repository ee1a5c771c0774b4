/**
 * Files made from the program, kept in the repository and compared by tests. PINSTORM_UPDATE=1 writes them anew; the
 * change then shows in the diff.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { format, resolveConfig } from 'prettier';

/** Fails when the file is not what `content` formats to. Tests run at the top of the project. */
export async function assertGenerated(file: string, content: string): Promise<void> {
  const expected = await format(content, { ...(await resolveConfig(file)), filepath: file });
  if (process.env['PINSTORM_UPDATE'] === '1') {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, expected);
  }
  let found = '';
  try {
    found = readFileSync(file, 'utf8');
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOENT');
  }
  assert.equal(found, expected, `${file} is stale: run PINSTORM_UPDATE=1 test/run scenario/, and look at the diff`);
}
