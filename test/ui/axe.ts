/** Accessibility of a page as axe-core judges it. */
import axe, { type AxeResults } from 'axe-core';
import type { Page } from 'puppeteer-core';

/** What axe calls serious or critical, one line each; none is what it should be. */
export async function findings(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const { violations } = (await page.evaluate('axe.run(document)')) as AxeResults;
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, help, nodes }) => nodes.map((node) => `${id} (${help}): ${node.html.slice(0, 200)}`));
}

/** How far the page is wider than its window, pixels. */
export const overflow = (page: Page): Promise<number> =>
  page.$eval('html', (root) => root.scrollWidth - root.clientWidth);
