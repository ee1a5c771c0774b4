/** The registry of this program: what a scenario may really name. */
import { PAGE_BYTES } from '../base/units.ts';
import { ramBelow, ramPages } from '../guest/workload/guest-memory.ts';
import { type Workload, WORKLOADS } from '../guest/workload/index.ts';
import { optionsOf } from '../guest/workload/options.ts';
import { refusalsOf } from '../guest/workload/refusals.ts';
import { OPS, OUTCOMES } from '../metrics/ops.ts';
import { conditionOf, expectedOutcomes, opsOfThreshold, parseThreshold } from '../metrics/threshold.ts';
import { FAULT_SITES, MODEL_COUNTERS } from '../model/env.ts';
import { resolveVariant, variantNote, VARIANTS } from '../model/kernels/index.ts';
import { INVARIANTS } from '../model/oracle.ts';
import { shippedProfiles } from '../scenario/profiles.ts';
import type { Registry, WorkloadInfo } from '../scenario/registry.ts';

type Peak = NonNullable<WorkloadInfo['peakPages']>;

const option = (options: Parameters<Peak>[0], key: string): number => Number(options[key]);

/** What the workloads that lock memory hold at most. */
const PEAK_PAGES: ReadonlyMap<string, Peak> = new Map<string, Peak>([
  ['huge-guest', (o) => ramBelow(Math.floor(option(o, 'total') / PAGE_BYTES))],
  ['boot', (_, memory) => ramPages(memory.bytes / PAGE_BYTES)],
  ['map-unmap', (o) => option(o, 'pages') * option(o, 'slots')],
  ['mdev-pin', (o) => Math.min(option(o, 'window'), option(o, 'pages') * (option(o, 'calls') + 1))],
  [
    'parallel-pin',
    (o, memory) => {
      const pages = memory.bytes / PAGE_BYTES;
      const piece = option(o, 'piece') / PAGE_BYTES;
      let sumPages = 0;
      for (let at = option(o, 'part') * piece; at < pages; at += option(o, 'of') * piece)
        sumPages += Math.min(piece, pages - at);
      return sumPages;
    },
  ],
  ['hotplug', (o) => (option(o, 'size') / PAGE_BYTES) * option(o, 'modules')],
  ['virtio-mem', (o) => (option(o, 'block') / PAGE_BYTES) * option(o, 'blocks')],
  ['vaddr-update', (o, memory) => (o['map'] === true ? ramPages(memory.bytes / PAGE_BYTES) : 0)],
  ['mlock-loop', (o) => option(o, 'pages')],
]);

function describeWorkload(workload: Workload): WorkloadInfo {
  const { name, summary, ops, draws } = workload;
  const peakPages = PEAK_PAGES.get(name);
  const info = { name, summary, options: optionsOf(workload), ops, ...(draws === undefined ? {} : { draws }) };
  return peakPages === undefined ? info : { ...info, peakPages };
}

export const REGISTRY: Registry = {
  resolveVariant: (name) => resolveVariant(name).id,
  variantNote,
  variants: VARIANTS.map((variant) => variant.id),
  profiles: shippedProfiles(),
  workloads: new Map([...WORKLOADS].map(([name, workload]) => [name, describeWorkload(workload)])),
  invariants: INVARIANTS,
  faultSites: FAULT_SITES,
  refusals: (guest, variant) => refusalsOf(guest, resolveVariant(variant)),
  errors: new Map([
    ...OUTCOMES.filter((name) => !['ok', 'other_error', 'interrupted'].includes(name)).map(
      (name) => [name.toUpperCase(), name] as const,
    ),
    ['EINTR', 'interrupted'],
    ['other_error', 'other_error'],
  ]),
  ops: OPS.filter((op) => op !== 'null'),
  limits: (variant) => resolveVariant(variant).iommufd?.account !== 'none',
  limitsUsers: (variant) => resolveVariant(variant).iommufd?.account === 'creator',
  defers: (variant) => resolveVariant(variant).deferring,
  checkThreshold(metric, expression, stages) {
    const threshold = parseThreshold(metric, expression, MODEL_COUNTERS, stages);
    const { mayBeEmpty } = threshold;
    const condition = conditionOf(threshold);
    const errors = /^\s*op_errors\b/.test(metric) && threshold.stage === null;
    return {
      ops: opsOfThreshold(threshold),
      errors,
      mayBeEmpty,
      needs: condition === 'deferred update' ? 'defers an update' : condition === 'trylock' ? 'tries a lock' : null,
      wallClock: condition === 'wall clock',
      expected: expectedOutcomes(threshold),
    };
  },
};
