/**
 * Variant I, iommufd, 6.2 and later, beside type1 in the same kernels: one accounting action per mapped area, at the
 * expense of the user, of the mm, or of nobody. Source: drivers/iommu/iommufd/, 6.4 and 7.1.
 */
import type { Variant } from '../env.ts';
import { iommufdAddDomain, iommufdMap, iommufdRelease, iommufdRemoveDomain, iommufdUnmap } from '../paths/iommufd.ts';
import { H } from './h-6.3.ts';

export const I: Variant = {
  ...H,
  id: 'I',
  kernels: 'iommufd, 6.2 on',
  versions: [],
  identity: 'iommufd: one charge per area, by compare and exchange, to the user all its guests share; pinned_vm',
  entryLimit: false,
  iommufd: { account: 'creator', compat: false },
  mapDma: iommufdMap,
  unmapDma: iommufdUnmap,
  addDomain: iommufdAddDomain,
  removeDomain: iommufdRemoveDomain,
  release: iommufdRelease,
  // Drivers pin through an access of the IOAS, which is not modelled.
  external: null,
};

export const I_MM: Variant = {
  ...I,
  id: 'I-mm',
  identity: "iommufd with RLIMIT_MODE 1: the charge goes to the mm's locked_vm under one unkillable write lock",
  iommufd: { account: 'mm', compat: false },
};

export const I_COMPAT: Variant = {
  ...I,
  id: 'I-compat',
  identity: 'iommufd behind /dev/vfio/vfio: I-mm with the system calls of type1',
  iommufd: { account: 'mm', compat: true },
};

export const I_NONE: Variant = {
  ...I,
  id: 'I-none',
  identity: 'iommufd as a creator with CAP_IPC_LOCK has it: nothing is charged, pinned_vm still counts',
  iommufd: { account: 'none', compat: false },
};
