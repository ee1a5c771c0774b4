/** The percentile distribution of a latency as text: what HdrHistogram's plotters read. */
import type { JsHistogram } from 'hdr-histogram-js';
import { toHistogram } from '../metrics/histogram.ts';
import { seriesInfo } from '../metrics/ops.ts';
import type { RunContents } from './contents.ts';

/** Lines per halving of the distance to 100 %, as HdrHistogram's own tools have it. */
const TICKS_PER_HALF_DISTANCE = 5;

/** `SERIES.hgrm` and its text, values in nanoseconds, for every series with samples. */
export function hgrmFiles({ whole, scale }: RunContents): { readonly name: string; readonly text: string }[] {
  return [...whole]
    .filter(([, cells]) => cells.some((n) => n > 0))
    .map(([id, cells]) => {
      const histogram: JsHistogram = toHistogram(scale, cells);
      const text = histogram.outputPercentileDistribution(TICKS_PER_HALF_DISTANCE, 1);
      return { name: `${seriesInfo(id).name}.hgrm`, text: text.endsWith('\n') ? text : `${text}\n` };
    });
}
