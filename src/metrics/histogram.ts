/**
 * Cells as histograms of the library: for percentiles, and for files and messages in its V2 encoding. Apart from the
 * scale, because the threads that record need no library and start sooner without it.
 */
import { build, encodeIntoCompressedBase64, type JsHistogram } from 'hdr-histogram-js';
import { type HdrScale, MAX_TRACKABLE_NS } from './hdr.ts';

/** A library histogram with these counts; cells beyond the array are zero. */
export function toHistogram(scale: HdrScale, cells: Float64Array): JsHistogram {
  const histogram = build({
    bitBucketSize: 64,
    lowestDiscernibleValue: 1,
    highestTrackableValue: MAX_TRACKABLE_NS,
    numberOfSignificantValueDigits: scale.digits,
    useWebAssembly: false,
  }) as JsHistogram;
  for (let i = 0; i < cells.length; i += 1) {
    const count = cells[i] as number;
    if (count > 0) histogram.setCountAtIndex(i, count);
  }
  histogram.establishInternalTackingValues(cells.length);
  return histogram;
}

/** HdrHistogram V2, compressed, base64. */
export const encodeCells = (scale: HdrScale, cells: Float64Array): string =>
  encodeIntoCompressedBase64(toHistogram(scale, cells));
