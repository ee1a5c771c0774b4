/** This machine's monotonic clock, the same in all threads, ms. It never jumps. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
