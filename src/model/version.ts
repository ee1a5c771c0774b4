/**
 * The version of the model's steps. A recorded schedule is a list of choices at steps, so any change of which steps a
 * path takes, or in which order, changes what it means. test/engine/explore/tokens.test.ts replays recorded schedules
 * and fails when they no longer fit: then raise this number and record them again.
 */
export const MODEL_VERSION = 3;
