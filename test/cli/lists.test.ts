/** Lists and variables on the command line: a slip of the hand is told before anything is simulated. */
import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { runCommandLine } from '../../src/cli/frame.ts';
import { stderr, stdout } from '../../src/console/output.ts';

const HUGE = 'scenarios/huge-guest.yaml';
const MDEV = [HUGE, '--set', 'mdev=beside'];

/** What a command line says on stderr, and its exit status. */
async function said(
  argv: readonly string[],
  env: Record<string, string> = {},
): Promise<[text: string, status: number]> {
  let text = '';
  const spies = [
    mock.method(stderr, 'write', (part: string) => (text += part)),
    mock.method(stdout, 'write', () => {}),
  ];
  try {
    const status = await runCommandLine(argv, env);
    return [text, status];
  } finally {
    for (const spy of spies) spy.mock.restore();
  }
}

describe('lists on the command line', () => {
  const rows: readonly (readonly [argv: readonly string[], message: RegExp])[] = [
    [['compare', HUGE, '--variants', 'D,D'], /--variants: D is given twice/],
    [['compare', HUGE, '--variants', 'E,4.10,D'], /--variants: 4\.10 and D are both variant D/],
    [['compare', HUGE, '--variants', 'D,'], /a member of the list is empty/],
    [['compare', HUGE, '--variants', 'D'], /at least two variants/],
    [['compare', HUGE, '--variants', 'D,9.9'], /--variants: there is no kernel 9\.9 yet/],
    [['compare', HUGE, '--variants', 'D,E', '--variant', 'A'], /--variant A has no effect beside --variants/],
    [['compare', HUGE, '--variants', 'D,E', '--set', 'variant=A'], /--set variant=A has no effect beside --variants/],
    [['compare', ...MDEV, '--variants', 'A,B'], /guests\[0\]\.mdev: variant A \(3\.6 - 4\.9\) has no mdev/],
    [['advise', HUGE, '--variants', 'H,6.12'], /H and 6\.12 are both variant H/],
    [['advise', HUGE, '--variants', 'H', '--variant', 'D'], /--variant D has no effect/],
    [['advise', HUGE, '--set', 'variant=D'], /--set variant=D has no effect/],
    [['advise', ...MDEV, '--variants', 'B,I'], /variant I \(.*\) has no mdev/],
    [['sweep', HUGE, '--set', 'variant=D,4.10'], /--set variant: D and 4\.10 are both variant D/],
    [['sweep', HUGE, '--set', 'host.cpus=2,4,2'], /2 is given twice/],
    [['sweep', HUGE, '--set', 'variant=D,E', '--variant', 'A'], /--variant A has no effect beside --set variant=/],
    [['sweep', HUGE, '--set', 'seed=1..3', '--seed', '7'], /--seed 7 has no effect beside --set seed=/],
    [
      ['sweep', HUGE, '--set', 'variant=D,E', '--metrics', 'map_p50'],
      /unknown metric 'map_p50'\nhint: did you mean 'map p50'\?/,
    ],
    [['sweep', ...MDEV, '--set', 'variant=B,A'], /variant A \(3\.6 - 4\.9\) has no mdev/],
    [['run', HUGE, '--threads', '1'], /--threads: expected a whole number from 2 to 256/],
    [['worker', '--redis', 'redis://x', '--threads', '1'], /--threads: expected a whole number from 2 to 256/],
  ];
  for (const [argv, message] of rows) {
    it(`pinstorm ${argv.join(' ')}`, async () => {
      const [text, status] = await said(argv);
      assert.match(text, message);
      assert.equal(status, 104);
    });
  }
});

describe('variables that no command reads', () => {
  it('are told, with the nearest that one does; the command goes on', async () => {
    const env = {
      PINSTORM_SEEED: '3',
      PINSTORM_QUITE_ANOTHER_THING: '1',
      PINSTORM_REDIS: 'redis://x',
      PINSTORM_DEBUG: '1',
      PINSTORM_REDIS_SERVICE_HOST: '10.0.0.1',
      PINSTORM_REDIS_PORT_6379_TCP_ADDR: '10.0.0.1',
    };
    const [text, status] = await said(['validate', HUGE], env);
    assert.equal(
      text,
      'pinstorm: warning: no command reads the variable PINSTORM_SEEED; did you mean PINSTORM_SEED?\n' +
        'pinstorm: warning: no command reads the variable PINSTORM_QUITE_ANOTHER_THING\n',
    );
    assert.equal(status, 0);
  });

  it('a kernel newer than the model is told on stderr', async () => {
    const [text, status] = await said(['plan', HUGE, '--variant', '7.9']);
    assert.equal(
      text,
      'pinstorm: note: kernel 7.9 is newer than the model, which knows Linux up to 7.1: taken as H2 (6.18 - 7.1)\n',
    );
    assert.equal(status, 0);
  });

  it('the fault of a version says what is wrong with it', async () => {
    for (const [name, message] of [
      ['2.6.32', /VFIO came with Linux 3\.6/],
      ['4.25', /after 4\.20 came 5\.0/],
      ['9.9', /there is no kernel 9\.9 yet/],
    ] as const) {
      const [text, status] = await said(['validate', HUGE, '--variant', name]);
      assert.match(text, message);
      assert.equal(status, 104);
    }
  });
});
