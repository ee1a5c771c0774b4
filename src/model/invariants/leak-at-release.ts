/**
 * A released container holds no page: every reference that was taken for its mappings has been put. Its charges are the
 * balance's business, which no longer has a mapping to set against what is left of them.
 */
import type { Arena, Ref } from '../arena.ts';
import { CONTAINER } from '../layout.ts';
import type { Oracle } from '../oracle.ts';

/** Checks a container whose backend has just been released. */
export function checkReleased(a: Arena, oracle: Oracle, container: Ref): void {
  const pages = a.f64[(container + CONTAINER.ledgerPins) >> 1] as number;
  if (pages === 0) return;
  const guest = a.i32[container + CONTAINER.ledgerGuest] as number;
  const mm = a.i32[container + CONTAINER.ledgerMm] as number;
  const what = pages > 0 ? `${pages} page references were never put` : `${-pages} pages were put that nobody held`;
  oracle.reportFor('leak-at-release', guest, mm, `the container is released, ${what}`);
}
