/**
 * Error numbers as Linux x86-64 has them. Kernel paths return them negated, 0 for success, exactly as the kernel's
 * functions do, so that a path reads like its model; `errnoName` turns a result into the name users know.
 */
import { constants } from 'node:os';

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const E2BIG = 7;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOTTY = 25;
export const ENOSPC = 28;
export const EOVERFLOW = 75;
export const EOPNOTSUPP = 95;
export const EALREADY = 114;

const NAMES: Readonly<Record<number, string>> = {
  0: 'OK',
  [EPERM]: 'EPERM',
  [ENOENT]: 'ENOENT',
  [ESRCH]: 'ESRCH',
  [EINTR]: 'EINTR',
  [EIO]: 'EIO',
  [E2BIG]: 'E2BIG',
  [EBADF]: 'EBADF',
  [EAGAIN]: 'EAGAIN',
  [ENOMEM]: 'ENOMEM',
  [EACCES]: 'EACCES',
  [EFAULT]: 'EFAULT',
  [EBUSY]: 'EBUSY',
  [EEXIST]: 'EEXIST',
  [ENODEV]: 'ENODEV',
  [EINVAL]: 'EINVAL',
  [ENOTTY]: 'ENOTTY',
  [ENOSPC]: 'ENOSPC',
  [EOVERFLOW]: 'EOVERFLOW',
  [EOPNOTSUPP]: 'EOPNOTSUPP',
  [EALREADY]: 'EALREADY',
};

/** Those that no path of the model returns, as this host has them. */
const HOST_NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** The symbolic name of a kernel return value: `OK` for 0 and above, `ENOMEM` for -12. */
export function errnoName(ret: number): string {
  if (ret >= 0) return 'OK';
  return NAMES[-ret] ?? HOST_NAMES.get(-ret) ?? `E${-ret}`;
}
