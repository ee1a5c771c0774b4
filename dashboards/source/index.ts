/** All boards, by the name of their file in dashboards/. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { accounting } from './accounting.ts';
import { build } from './board.ts';
import { compare } from './compare.ts';
import { latency } from './latency.ts';
import { overview } from './overview.ts';
import { workers } from './workers.ts';

const BOARDS = { overview, latency, accounting, workers, compare };

/** The boards as Grafana provisions them. */
export const dashboards = (): Record<string, Dashboard> =>
  Object.fromEntries(Object.entries(BOARDS).map(([name, board]) => [name, build(board)]));
