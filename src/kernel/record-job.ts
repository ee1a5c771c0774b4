/** What the process that records is told, and what it says. */
import type { Sequence } from '../transcript/transcript.ts';
import type { Claim } from './safety.ts';

/** What the child is told, once. */
export interface Job {
  /** Process id of the one that started it. */
  readonly parent: number;
  readonly kernel: string;
  readonly groups: Claim['groups'];
  readonly capIpcLock: boolean;
  readonly ownMachine: boolean;
  readonly memoryBytes: number;
  readonly sequences: readonly Sequence[];
}

/** What the child says. `index` counts sequences. */
export type Message =
  | { readonly kind: 'begins'; readonly index: number }
  | { readonly kind: 'recorded'; readonly index: number; readonly text: string }
  | {
      readonly kind: 'refused';
      readonly exitCode: number;
      readonly message: string;
      readonly hint: string | null;
    }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'done' };
