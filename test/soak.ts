/**
 * How much is drawn. `npm test` takes as much as a change needs to show a mistake; `npm run test:soak`, which has
 * hours, takes what statistics need.
 */
const SOAK = process.env['PINSTORM_SOAK'] !== undefined;

export const soaked = <T>(usual: T, soak: T): T => (SOAK ? soak : usual);
