/** What messages of workers change in the state of a run. Each message may arrive twice, and again after a resume. */
import { VERSION } from '../base/version.ts';
import type { Registration, WorkerMessage } from '../wire/messages.ts';
import type { CoordinatorListener } from './coordinator-api.ts';
import type { Decisions } from './decisions.ts';
import type { Handout } from './handout.ts';
import type { RunState } from './run-state.ts';

export class Inbox {
  constructor(
    private readonly state: RunState,
    private readonly decisions: Decisions,
    private readonly handout: Handout,
    private readonly listener: CoordinatorListener,
    /** Keeps a worker out of the run. */
    private readonly fence: (worker: string) => Promise<void>,
  ) {}

  receive(message: WorkerMessage, now: number): void {
    if (message.t === 'open') return;
    if (message.t === 'register') {
      this.#register(message, now);
      return;
    }
    const sender = this.state.sender(message.worker, now);
    if (sender === null) return;
    const { gone, phase } = this.decisions;
    switch (message.t) {
      case 'interval':
        this.state.interval(sender, message);
        break;
      case 'outcomes':
        this.#outcomes(message);
        break;
      case 'mark': {
        const { worker, guest, incarnation, label, value, seq } = message;
        if (seq <= sender.markSeq) break;
        sender.markSeq = seq;
        this.decisions.event('mark', { worker, guest, incarnation, label, value });
        break;
      }
      case 'final':
        this.state.interval(sender, message.last);
        sender.final = message;
        if (phase === 'running') {
          this.decisions.event('worker_left', { worker: message.worker });
          this.handout.shareDue = true;
        }
        break;
      case 'leave':
        gone.set(message.worker, 'it was asked to end');
        break;
      case 'trouble':
        gone.set(message.worker, message.error.split('\n', 1)[0] ?? '');
        break;
    }
  }

  #outcomes({ worker, outcomes }: Extract<WorkerMessage, { t: 'outcomes' }>): void {
    for (const outcome of outcomes) {
      // Nobody is stopped before a stop was decided.
      const plausible = outcome.state !== 'stopped' || this.decisions.stop !== undefined;
      if (!plausible) this.state.refused += 1;
      if (!plausible || !this.state.outcome(worker, outcome)) continue;
      this.listener.guest(outcome, worker, this.decisions.replaying);
      if (outcome.state === 'failed') this.decisions.event('guest_failed', { ...outcome });
    }
  }

  #register(message: Registration, now: number): void {
    const { worker, version, planHash, host, threads, capacity, clockOffsetMs } = message;
    if (version !== VERSION || planHash !== this.state.plan.hash) {
      // Its own check failed to stop it: fenced off, and the run goes on without it.
      this.state.refused += 1;
      void this.fence(worker).catch(() => {});
      return;
    }
    this.state.register(message, now);
    this.decisions.event('worker_joined', { worker, host, threads, capacity, clockOffsetMs });
    this.handout.shareDue ||= this.decisions.phase === 'running';
  }
}
