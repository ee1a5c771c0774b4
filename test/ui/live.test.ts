// needs: chromium redis-server
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import { until } from '../coordinator/until.ts';
import { CONTENTION, inDirectory, LiveRun } from '../worker/live-run.ts';
import { findings, overflow } from './axe.ts';
import { openPage, withBrowser } from './browser.ts';

/** The status of a request, with whatever headers. */
function ask(url: string, method: string, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    request(url, { method, headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    })
      .on('error', reject)
      .end();
  });
}

test('the live page shows a run while it goes, and stops it', async () => {
  await inDirectory(CONTENTION(360_000), async (directory) => {
    // As fast as it goes: then no machine is too slow for it, and being stopped is all there is to report.
    const run = new LiveRun(directory, ['run', 'scenario.yaml', '--ui', '--pace', '0']);
    const url = await addressOf(run);
    await withBrowser(async (browser) => {
      const { page, complaints } = await openPage(browser, url, { width: 400, theme: 'dark' });
      const operations = async (): Promise<number> => {
        const text = await page.$$eval('.tile dd', ([tile]) => tile?.firstChild?.textContent ?? '');
        return Number.parseFloat(text) * (text.endsWith('k') ? 1000 : 1) || 0;
      };
      await until('operations are shown', async () => (await operations()) > 0);
      const first = await operations();
      await until(`more operations than ${first}`, async () => (await operations()) > first);
      await until('a chart is drawn', async () => (await page.$$('[data-chart="throughput"] canvas')).length > 0);
      assert.deepEqual(await findings(page), []);
      assert.equal(await overflow(page), 0);

      // Only the page itself may stop the run, and it answers to its own name only.
      const { host } = new URL(url);
      assert.equal(await ask(`${url}stop`, 'POST'), 403);
      assert.equal(await ask(`${url}stop`, 'POST', { 'x-pinstorm-token': 'A'.repeat(32) }), 403);
      assert.equal(await ask(url, 'GET', { host: 'evil.example' }), 421);
      assert.equal(await ask(`${url}stop`, 'GET'), 404);
      assert.equal(await ask(`${url}elsewhere`, 'GET'), 404);
      const token = await page.$eval('#data', (e) => (JSON.parse(e.textContent ?? '') as { token: string }).token);
      const foreign = { 'x-pinstorm-token': token, origin: 'http://evil.example' };
      assert.equal(await ask(`${url}stop`, 'POST', foreign), 403);
      assert.equal(await ask(`${url}stop`, 'POST', { ...foreign, origin: 'null' }), 403);
      assert.equal(
        await ask(`http://${host}/stop`, 'POST', { ...foreign, origin: `http://${host}`, host: 'evil.example' }),
        421,
      );
      assert.equal(run.process.exitCode, null, 'none of these stopped it');

      await page.focus('#tab-charts');
      for (const [tab, text] of [
        ['guests', 'running'],
        ['account', 'deferred updates'],
        ['workers', 'alive'],
        ['events', 'worker joined'],
      ] as const) {
        await page.keyboard.press('ArrowRight');
        await until(`${text} in the tab ${tab}`, async () => {
          const shown = await page.$eval(`#panel-${tab}`, (e) =>
            (e as { hidden?: boolean }).hidden === true ? '' : (e.textContent ?? ''),
          );
          return shown.toLowerCase().includes(text);
        });
      }
      assert.deepEqual(await findings(page), []);

      await page.focus('#stop');
      await page.keyboard.press('Enter');
      await page.waitForSelector('dialog[open]');
      assert.deepEqual(await findings(page), []);
      await page.focus('#really-stop');
      await page.keyboard.press('Enter');
      const { code, stderr } = await run.ended;
      assert.equal(code, 105, stderr);
      await until(
        'the end is shown',
        async () => (await page.$eval('#state', (e) => e.textContent)) === 'ended: inconclusive',
      );
      assert.match(await page.$eval('#run', (e) => e.textContent ?? ''), /stopped by the user.*report\.html/s);
      assert.deepEqual(complaints, []);
    });
  });
});

test('a port that is taken is one clear message', async () => {
  await inDirectory(CONTENTION(1), async (directory) => {
    const first = new LiveRun(directory, ['run', 'scenario.yaml', '--ui']);
    const { port } = new URL(await addressOf(first));
    const second = await new LiveRun(directory, ['run', 'scenario.yaml', '--ui-port', port]).ended;
    assert.equal(second.code, 104);
    assert.match(
      second.stderr,
      new RegExp(`port ${port} is in use by another program\\nhint: choose another with --ui-port N`),
    );
    const { code, stderr } = await first.ended;
    assert.ok(code === 0 || code === 114, stderr);
  });
});

/** Where a run serves its page. */
async function addressOf(run: LiveRun): Promise<string> {
  const said = (): string | undefined => /the run is shown at (http:\/\/127\.0\.0\.1:\d+\/)/.exec(run.stderr)?.[1];
  await until('the run says where its page is', () => said() !== undefined);
  return said() ?? '';
}
