import { styleFor } from '../../report/format.ts';
import { VIOLATIONS_GAUGE } from '../../report/load.ts';
import { RunDirectory } from '../../report/run-dir.ts';
import { renderSummary } from '../../report/summary.ts';
import { finishReport } from '../finish-report.ts';
import type { RunEvent, RunSink } from '../run-event.ts';

/** Writes a run into a run directory, and its report at the end. What comes before `begun` leaves no trace. */
export class DirectorySink implements RunSink {
  readonly #root: string;
  /** Once the run has ended: where what is, why there is no report, and what else the user should know. */
  ended: (ReturnType<typeof finishReport> & Pick<RunDirectory, 'note'>) | null = null;
  #directory: RunDirectory | undefined;

  /** @param root where run directories go. */
  constructor(root: string) {
    this.#root = root;
  }

  /** The directory of the run; undefined before it begins. */
  get path(): string | undefined {
    return this.#directory?.path;
  }

  take(event: RunEvent): void {
    if (event.t === 'begun') {
      const { record, scenario, plan, written } = event;
      this.#directory = new RunDirectory(this.#root, record, scenario, plan, written ?? undefined);
    }
    const directory = this.#directory;
    if (directory === undefined) return;
    switch (event.t) {
      case 'interval': {
        const gauges: Record<string, number> = { ...event.gauges };
        for (const [name, n] of Object.entries(event.violations)) gauges[`${VIOLATIONS_GAUGE}${name}`] = n;
        directory.interval(event.endSeconds, event.delta, gauges, { ...event.guests });
        break;
      }
      case 'event':
        directory.event(event.atSeconds, event.kind, event.fields, event.replayed);
        break;
      case 'guest':
        directory.guest(event.row, event.replayed);
        break;
      case 'ended':
        directory.finish(event.results, renderSummary(event.results, styleFor({}, {})));
        this.ended = { ...finishReport(directory.path), note: directory.note };
        break;
      case 'begun':
        break;
    }
  }
}
