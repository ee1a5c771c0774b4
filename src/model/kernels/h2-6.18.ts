/**
 * Variant H2, 6.18 and later: the limit test and the count go by contiguous run within the batch, device ranges are
 * taken in one step, wraps give EOVERFLOW. Source: drivers/vfio/vfio_iommu_type1.c, 6.19 and 7.1.
 */
import type { Ctx, Variant } from '../env.ts';
import type { ExternalRules } from '../external-rules.ts';
import { GUP_6_18 } from '../gup-rules.ts';
import { vfioPinPagesRemoteBatched } from '../paths/pin.ts';
import type { PinCall } from '../pin-call.ts';
import { H } from './h-6.3.ts';

export const H2: Variant = {
  ...H,
  id: 'H2',
  kernels: '6.18 - 7.1',
  versions: [['6.18', '7.1']],
  identity: 'H plus accounting by contiguous run, bulk unpin, huge pfnmap ranges, overflow errors',
  gup: GUP_6_18,
  external: { ...(H.external as ExternalRules), structPagesOnly: true },
  bulkUnpin: true,
  overflowErrors: true,
  pinPages: (k: Ctx, call: PinCall) => vfioPinPagesRemoteBatched(k, call, true),
};
