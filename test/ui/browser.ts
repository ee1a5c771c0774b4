/** A real Chromium for tests of the pages. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';

/** Names Chromium goes by on the PATH. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

function executable(): string {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    for (const name of NAMES) {
      try {
        accessSync(join(directory, name), constants.X_OK);
        return join(directory, name);
      } catch {
        continue;
      }
    }
  }
  throw new Error('no chromium on the PATH; on Debian: apt-get install -y chromium');
}

/** Starts a browser, gives it to `work`, and ends it whatever happens. */
export async function withBrowser<T>(work: (browser: Browser) => Promise<T>): Promise<T> {
  const browser = await puppeteer.launch({
    executablePath: executable(),
    // Chromium's own sandbox does not start for root, and these are only our own pages.
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
  try {
    return await work(browser);
  } finally {
    await browser.close();
  }
}

export interface PageLook {
  readonly width?: number;
  readonly theme?: 'light' | 'dark';
}

/**
 * Opens a page of pinstorm and waits until it is drawn. Whatever it writes to its console fails the test in the end.
 */
export async function openPage(
  browser: Browser,
  url: string,
  look: PageLook = {},
): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('requestfailed', (request) => complaints.push(`failed: ${request.url()}`));
  await page.setViewport({ width: look.width ?? 1280, height: 900 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: look.theme ?? 'light' }]);
  await page.goto(url);
  await page.waitForSelector('html[data-drawn]');
  return { page, complaints };
}
