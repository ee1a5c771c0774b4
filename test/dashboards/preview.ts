/**
 * A look at the boards without a Grafana server: two real runs, Prometheus, every panel's queries, drawn in Chromium.
 * It is not Grafana and draws only what the boards use of it, so it shows whether panels have data, sense and room; how
 * Grafana draws them it cannot show.
 *
 *   npm run build && node dist/test/dashboards/preview.js DIRECTORY [SECONDS]
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from 'puppeteer-core';
import { drawBoard, WIDTH_PX } from './draw.ts';
import { readBoards } from './grafana.ts';
import { onStage } from './stage.ts';

const [directory = 'dist/preview', seconds = '20'] = process.argv.slice(2);
mkdirSync(directory, { recursive: true });
const boards = readBoards();
await onStage(Number(seconds), Object.values(boards), async ({ prometheus, values, range }) => {
  const browser = await launch({
    executablePath: execFileSync('which', ['chromium'], { encoding: 'utf8' }).trim(),
    args: ['--no-sandbox'],
  });
  try {
    const page = await browser.newPage();
    await page.setViewport({ width: WIDTH_PX, height: 900, deviceScaleFactor: 0.75 });
    for (const [name, board] of Object.entries(boards)) {
      const html = await drawBoard(board, prometheus, values, {
        ...range,
        // The Compare board is about one run over the other; the rest are about the last one.
        from: range.to - Number(seconds) - 3,
      });
      writeFileSync(join(directory, `${name}.html`), html);
      await page.setContent(html);
      await page.screenshot({ path: join(directory, `${name}.png`) as `${string}.png`, fullPage: true });
      process.stdout.write(`${directory}/${name}.png\n`);
    }
  } finally {
    await browser.close();
  }
});
