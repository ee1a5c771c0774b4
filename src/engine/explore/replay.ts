/** Replays recorded choices; when they are used up, everybody runs on with the fewest switches. */
import { EXIT, UserError } from '../../base/errors.ts';
import type { Execution } from './execution.ts';
import { goOn, type Strategy } from './strategy.ts';

/** The model does not do what the recording says: a choice names an actor that cannot take a step. */
export class ReplayDivergedError extends UserError {
  constructor(step: number, actor: string) {
    super(
      EXIT.invalid,
      `the token does not fit this model: at step ${step} it wants ${actor} to run, which cannot take a step then`,
      'the model or the case has changed since; run pinstorm explore again for a new token',
    );
  }
}

export interface Recording {
  /** Actor ids, one per step. */
  readonly choices: readonly number[];
  readonly faults: readonly boolean[];
}

export class ReplayStrategy implements Strategy {
  readonly name = 'replay';
  #begun = false;
  #faults = 0;

  constructor(private readonly recording: Recording) {}

  begin(): boolean {
    if (this.#begun) return false;
    this.#begun = true;
    return true;
  }

  pick(x: Execution, enabled: readonly number[]): number {
    const wanted = this.recording.choices[x.depth];
    if (wanted === undefined) return goOn(x, enabled);
    if (!enabled.includes(wanted)) throw new ReplayDivergedError(x.depth, x.actors[wanted]?.name ?? `actor ${wanted}`);
    return wanted;
  }

  fault(): boolean {
    this.#faults += 1;
    return this.recording.faults[this.#faults - 1] ?? false;
  }

  bound(): string {
    return 'one recorded schedule';
  }
}
