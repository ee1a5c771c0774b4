// needs: chromium
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Page } from 'puppeteer-core';
import { buildResults } from '../../src/report/build.ts';
import { renderExperiment } from '../../src/report/html/experiment.ts';
import { reportOf } from '../../src/report/html/report.ts';
import { junitXml } from '../../src/report/junit.ts';
import { sampleDirectory, type SampleTexts } from '../report/directory.ts';
import { comparison, sweep } from '../report/experiments.ts';
import { failing } from '../report/sample.ts';
import { soaked } from '../soak.ts';
import { findings, overflow } from './axe.ts';
import { openPage, withBrowser, type PageLook } from './browser.ts';

const root = mkdtempSync(join(tmpdir(), 'pinstorm-report-ui-'));
after(() => rmSync(root, { recursive: true }));

const EVIL = '</script><script>globalThis.pwned = 1</script><img src=x onerror="globalThis.pwned = 1">]]>\u0001\ud800';

/** The report of a made-up run: its address. */
function reportFile(texts: SampleTexts = {}, finished = true): string {
  const { directory, whole } = sampleDirectory(root, texts);
  const outcome = failing();
  if (finished)
    directory.finish(
      buildResults({ ...outcome, run: { ...outcome.run, name: texts.name ?? 'ui' }, snapshot: whole }),
      '',
    );
  const file = join(directory.path, 'report.html');
  writeFileSync(file, reportOf(directory.path));
  return `file://${file}`;
}

const ALL_LOOKS: readonly PageLook[] = [
  { theme: 'light', width: 1280 },
  { theme: 'dark', width: 400 },
  { theme: 'dark', width: 1280 },
  { theme: 'light', width: 400 },
];
/** Both themes and both widths, once. */
const LOOKS = soaked(ALL_LOOKS.slice(0, 2), ALL_LOOKS);

test('the report in Chromium', async (t) => {
  await withBrowser(async (browser) => {
    const url = reportFile();
    for (const look of LOOKS) {
      await t.test(
        `${look.theme} at ${look.width} px: nothing serious found by axe, no sideways scrolling, all drawn`,
        async () => {
          const { page, complaints } = await openPage(browser, url, look);
          assert.deepEqual(await findings(page), []);
          assert.equal(await overflow(page), 0);
          assert.equal(await page.$eval('html', (e) => e.dataset['theme']), look.theme);
          const drawn = await page.$$eval(
            '[data-chart] canvas',
            (all) => all.filter((c) => c.width > 0 && !c.hidden).length,
          );
          assert.ok(drawn >= 10, `${drawn} canvases`);
          assert.equal(await page.$$eval('.empty', (all) => all.length), 0);
          assert.deepEqual(complaints, []);
          await page.close();
        },
      );
    }

    await t.test('the table of the guests is sorted and filtered by keyboard alone', async () => {
      const { page } = await openPage(browser, url);
      const column = (n: number): Promise<string[]> =>
        page.$$eval(`[data-chart="guests"] tbody tr > :nth-child(${n})`, (all) => all.map((e) => e.textContent ?? ''));
      assert.deepEqual(await column(1), ['0', '1', '2', '3', '4', '5', '6', '7']);
      assert.equal((await column(11))[5], '-1', 'an account below zero is shown as what it means');
      await page.focus('[data-chart="guests"] th:nth-child(9) button');
      await page.keyboard.press('Enter');
      assert.deepEqual(await column(9), ['1 000', '900', '800', '700', '600', '500', '400', '0'], 'the largest first');
      assert.equal(await sorted(page), 'Operations descending');
      await page.keyboard.press('Enter');
      assert.equal(await sorted(page), 'Operations ascending');
      await page.focus('[data-chart="guests"] input');
      await page.keyboard.type('EFAULT');
      assert.deepEqual(await column(1), ['3']);
      assert.match(
        await page.$eval('[data-chart="guests"] [role="status"]', (e) => e.textContent ?? ''),
        /1 of 1 found among 8 guests/,
      );
      await page.focus('[data-chart="guests"] select');
      await page.keyboard.type('not ended');
      assert.deepEqual(await column(1), []);
      await page.close();
    });

    await t.test(
      'a chart is read with the arrow keys, its table opened, its lines hidden, the theme switched',
      async () => {
        const { page } = await openPage(browser, url);
        await page.focus('[data-chart="latency"] .plot');
        await page.keyboard.press('ArrowRight');
        const first = await page.$eval('[data-chart="latency"] [aria-live]', (e) => e.textContent ?? '');
        assert.match(first, /^0\.5 s: p50 intended \d/);
        await page.keyboard.press('End');
        assert.match(
          await page.$eval('[data-chart="latency"] [aria-live]', (e) => e.textContent ?? ''),
          /^4\.5 s: p50/,
        );
        await page.focus('[data-chart="latency"] summary');
        await page.keyboard.press('Enter');
        await page.waitForSelector('[data-chart="latency"] details td');
        assert.equal(await page.$$eval('[data-chart="latency"] tbody tr', (all) => all.length), 5);
        await page.focus('[data-chart="latency"] .legend button');
        await page.keyboard.press('Space');
        assert.equal(
          await page.$eval('[data-chart="latency"] .legend button', (e) => e.getAttribute('aria-pressed')),
          'false',
        );
        await page.focus('[data-chart="heatmap"] .plot');
        await page.keyboard.press('ArrowRight');
        assert.match(
          await page.$eval('[data-chart="heatmap"] .readout', (e) => e.textContent ?? ''),
          /^1 s to 2 s, .*: \d+ samples$/,
        );
        await page.focus('#theme');
        await page.keyboard.press('Enter');
        assert.equal(await page.$eval('html', (e) => e.dataset['theme']), 'dark');
        await page.close();
      },
    );

    await t.test('what a run directory holds runs no script and becomes no element', async () => {
      const evil = reportFile({ name: EVIL, guestClass: EVIL, error: EVIL, history: EVIL, scenario: EVIL });
      const { page, complaints } = await openPage(browser, evil);
      assert.equal(await page.evaluate(() => (globalThis as { pwned?: number }).pwned), undefined);
      assert.equal(await page.$$eval('img', (all) => all.length), 0);
      assert.ok((await page.title()).startsWith('</script><script>globalThis.pwned'));
      assert.deepEqual(complaints, []);
      assert.equal(await overflow(page), 0);
      await page.close();
    });

    await t.test('of a run that never ended it says so first', async () => {
      const { page } = await openPage(browser, reportFile({}, false), { width: 400 });
      const text = await page.$eval('#verdict', (e) => e.textContent ?? '');
      assert.match(text, /did not end/);
      assert.deepEqual(await findings(page), []);
      await page.close();
    });

    await t.test('it prints: light, without controls, in a handful of pages', async () => {
      const { page } = await openPage(browser, url, { theme: 'dark' });
      const pdf = Buffer.from(await page.pdf({ format: 'A4' })).toString('latin1');
      const pages = pdf.match(/\/Type\s*\/Page\b(?!s)/g)?.length ?? 0;
      assert.ok(pages >= 2 && pages <= 14, `${pages} pages`);
      assert.equal(await page.$eval('html', (e) => e.dataset['theme']), 'dark', 'back to what it was');
      await page.emulateMediaType('print');
      assert.equal(await (await page.$('#theme'))?.isVisible(), false);
      await page.close();
    });

    for (const [name, experiment] of Object.entries({ comparison: comparison(), sweep: sweep() })) {
      const file = join(root, `${name}.html`);
      writeFileSync(file, renderExperiment(experiment));
      for (const look of soaked(ALL_LOOKS.slice(2), ALL_LOOKS)) {
        await t.test(
          `a ${name}, ${look.theme} at ${look.width} px: nothing serious, no sideways scrolling`,
          async () => {
            const { page, complaints } = await openPage(browser, `file://${file}`, look);
            assert.deepEqual(await findings(page), []);
            assert.equal(await overflow(page), 0);
            assert.equal((await page.$$('[data-chart="sweep"] canvas')).length, name === 'sweep' ? 1 : 0);
            assert.deepEqual(complaints, []);
            await page.close();
          },
        );
      }
    }

    await t.test('JUnit XML is read by a real parser, whatever is in it', async () => {
      const page = await browser.newPage();
      const outcome = failing();
      const accounting = {
        ...outcome.accounting,
        violations: [{ invariant: EVIL, count: 2, expected: false, history: EVIL }],
      };
      const results = buildResults({ ...outcome, run: { ...outcome.run, name: EVIL }, accounting });
      const read = (await page.evaluate(`(${READ_JUNIT})(${JSON.stringify(junitXml(results))})`)) as JunitRead;
      assert.equal(read.error, null);
      assert.deepEqual(read.suites, ['thresholds', 'invariants', 'run']);
      assert.deepEqual([read.cases, read.failed.length], [read.tests, read.failures]);
      assert.deepEqual(read.failed, [
        'op_duration{op:map} max < 10us',
        'op_duration{op:mlock} avg < 1ms',
        EVIL.replaceAll('\u0001', '\ufffd').replaceAll('\ud800', '\ufffd'),
        'verdict',
      ]);
      await page.close();
    });
  });
});

interface JunitRead {
  readonly error: string | null;
  readonly tests: number;
  readonly failures: number;
  readonly cases: number;
  readonly failed: readonly string[];
  readonly suites: readonly string[];
}

/** What a parser finds in JUnit XML; runs in the page. */
const READ_JUNIT = `(xml) => {
  const parsed = new DOMParser().parseFromString(xml, 'application/xml');
  const cases = [...parsed.querySelectorAll('testcase')];
  const names = (all) => all.map((one) => one.getAttribute('name'));
  return {
    error: parsed.querySelector('parsererror')?.textContent ?? null,
    tests: Number(parsed.documentElement.getAttribute('tests')),
    failures: Number(parsed.documentElement.getAttribute('failures')),
    cases: cases.length,
    failed: names(cases.filter((one) => one.querySelector('failure') !== null)),
    suites: names([...parsed.querySelectorAll('testsuite')]),
  };
}`;

const sorted = (page: Page): Promise<string> =>
  page.$eval(
    '[data-chart="guests"] th[aria-sort]',
    (e) => `${e.textContent ?? ''} ${e.getAttribute('aria-sort') ?? ''}`,
  );

test('the picture in the documentation is a real one, and small', () => {
  const picture = readFileSync('docs/images/report.png');
  assert.equal(picture.subarray(1, 4).toString(), 'PNG');
  assert.ok(picture.length < 200_000, `${picture.length} bytes`);
});

test('the judge of accessibility finds what is planted', async () => {
  await withBrowser(async (browser) => {
    const page = await browser.newPage();
    await page.setContent(
      '<html lang="en"><title>t</title><main><button></button><p style="color:#ccc">pale</p></main>',
    );
    const found = await findings(page);
    assert.ok(
      found.some((line) => line.startsWith('button-name')) && found.some((line) => line.startsWith('color-contrast')),
    );
    await page.close();
  });
});
