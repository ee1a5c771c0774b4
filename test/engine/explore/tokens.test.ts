/**
 * Recorded schedules (recorded.txt) keep their meaning: each token replays to the failure it was recorded for, by
 * exactly the same steps. When a change of the model makes one fail, old tokens of users mean something else too: raise
 * MODEL_VERSION (src/model/version.ts), then record anew with PINSTORM_UPDATE=1, which does nothing as long as the
 * version stands.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { decodeToken } from '../../../src/engine/explore/codec.ts';
import { traceOf } from '../../../src/engine/explore/trace.ts';
import { resolveVariant } from '../../../src/model/kernels/index.ts';
import { MODEL_VERSION } from '../../../src/model/version.ts';
import { makerOf, programOf } from '../../../src/run/explore-program.ts';
import { historyFiles, runRow, tokenOf } from '../../../src/run/known-defects.ts';

const FILE = 'test/engine/explore/recorded.txt';
const WHY = 'the steps of the model have changed: raise MODEL_VERSION and record anew (see the head of this test)';

/** The steps of a token's replay as a digest, and how it fails. */
async function replayed(word: string): Promise<{ readonly steps: string; readonly failure: string }> {
  const token = decodeToken(word);
  const program = await programOf(token);
  const trace = traceOf(makerOf(program, resolveVariant(token.variant))(program.plan), token, token.failure);
  const steps = trace.rows.map((r) => `${r.step} ${r.actor} ${r.fn} ${r.note} ${r.result}`).join('\n');
  return {
    steps: createHash('sha256').update(steps).digest('hex').slice(0, 16),
    failure: trace.failure?.kind ?? 'none',
  };
}

async function record(): Promise<string> {
  const lines: string[] = [];
  for (const file of historyFiles()) {
    const row = await runRow(file);
    for (const variant of row.failures.keys()) {
      const token = tokenOf(row, variant) ?? '';
      lines.push(`${token} ${(await replayed(token)).steps}\n`);
    }
  }
  return `model ${MODEL_VERSION}\n${lines.join('')}`;
}

if (process.env['PINSTORM_UPDATE'] === '1') {
  let recorded = '';
  try {
    recorded = readFileSync(FILE, 'utf8');
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOENT');
  }
  if (!recorded.startsWith(`model ${MODEL_VERSION}\n`)) writeFileSync(FILE, await record());
}

describe('recorded schedules', () => {
  const [head, ...lines] = readFileSync(FILE, 'utf8').trimEnd().split('\n');

  it('are of this version of the model', () => {
    assert.equal(head, `model ${MODEL_VERSION}`, 'record anew: PINSTORM_UPDATE=1 test/run schedule/tokens');
    assert.ok(lines.length > 50);
  });

  it('replay to the same failures by the same steps', async () => {
    for (const line of lines) {
      const [token = '', steps] = line.split(' ');
      const { variant, caseFile, failure } = decodeToken(token);
      assert.deepEqual(await replayed(token), { steps, failure }, `${caseFile} on ${variant}: ${WHY}`);
    }
  });
});
