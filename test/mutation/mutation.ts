/** One planted bug: a text of a compiled file that is replaced, and the tests that must notice. */
export interface Mutation {
  /** The rule that the change breaks. */
  readonly rule: string;
  /** Below dist/src. */
  readonly file: string;
  /** Must occur exactly once. */
  readonly from: string;
  readonly to: string;
  /** Test files below dist/test that are nearest to the rule; the first that fails has caught it. */
  readonly tests: readonly string[];
}
