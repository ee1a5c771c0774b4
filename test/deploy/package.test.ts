// slow: installs the package
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

test('the package works for an ordinary user in an empty directory, and brings what the help names', () => {
  const { status, stdout, stderr } = spawnSync('test/deploy/try-package', { encoding: 'utf8' });
  assert.equal(status, 0, `test/deploy/try-package failed:\n${stdout}\n${stderr}`);
  assert.match(stdout, /^\d+\.\d+\.\d+\nScenarios, /);
  assert.match(stdout, /^ {2}VERDICT\n {4}pass, exit status 0$/m);
  assert.match(stdout, /^[1-9]\d\d passed, 0 failed$/m);
});
