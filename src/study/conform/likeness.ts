/** Which variants answer as a kernel did, in everything that was recorded on it. */
import { plural } from '../../base/plural.ts';
import { oneLine } from '../../base/printable.ts';
import type { Variant } from '../../model/env.ts';
import { VARIANTS } from '../../model/kernels/index.ts';
import type { Transcript } from '../../transcript/transcript.ts';
import { type Difference, replay } from './replay.ts';

interface Kernel {
  readonly transcripts: Transcript[];
  /** Variants that have differed nowhere so far. */
  alike: readonly Variant[];
}

export class Likeness {
  readonly #kernels = new Map<string, Kernel>();

  /** @param known what was found out before: a variant, and where it differs first. */
  add(transcript: Transcript, known?: { readonly variant: Variant; readonly difference: Difference | null }): void {
    const { kernel: release } = transcript.header;
    const kernel = this.#kernels.get(release) ?? { transcripts: [], alike: VARIANTS };
    this.#kernels.set(release, kernel);
    kernel.transcripts.push(transcript);
    kernel.alike = kernel.alike.filter(
      (variant) => (variant === known?.variant ? known.difference : replay(transcript, variant)) === null,
    );
  }

  /** A line for each kernel. */
  describe(): string {
    return [...this.#kernels].map(([release, kernel]) => `${oneLine(release)} behaves like ${like(kernel)}\n`).join('');
  }
}

function like({ transcripts, alike }: Kernel): string {
  const all = transcripts.length;
  const of = plural(all, 'sequence');
  if (alike.length > 0) return `${alike.map(({ id }) => id).join(', ')} in ${all === 1 ? '' : 'all '}${of}`;
  const counts = VARIANTS.map(({ id }, i) => {
    const same = transcripts.filter((transcript) => replay(transcript, VARIANTS[i] as Variant) === null);
    return { id, same: same.length };
  });
  const most = Math.max(...counts.map(({ same }) => same));
  const nearest = counts.filter(({ same }) => same === most).map(({ id }) => id);
  return `no variant; ${nearest.join(', ')} in ${most} of ${of}`;
}
