/**
 * The system calls that run on the real kernel, through libc. The only home of koffi, which is optional: without it
 * everything but the real kernel works. A wrong signature here corrupts memory, so they all stand below one another,
 * and test/kernel tries each on a real kernel.
 */
import { createRequire } from 'node:module';
import { EXIT, UserError } from '../base/errors.ts';

/** Each call returns 0 or more, or minus the errno. Addresses and lengths are bytes. */
export interface Libc {
  open(path: string, flags: number): number;
  close(fd: number): number;
  /** Reads from the start of the file. */
  readStart(fd: number, into: Uint8Array): number;
  /** LOCK_EX and LOCK_NB: EAGAIN when another process holds it. */
  lockFile(fd: number): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  ioctlValue(fd: number, request: number, value: number): number;
  /** The address is `at` or an error: MAP_FIXED or MAP_FIXED_NOREPLACE is among the flags. */
  mmap(at: bigint, bytes: bigint, prot: number, flags: number, fd: number, offset: bigint): number;
  munmap(at: bigint, bytes: bigint): number;
  mprotect(at: bigint, bytes: bigint, prot: number): number;
  madvise(at: bigint, bytes: bigint, advice: number): number;
  mlock(at: bigint, bytes: bigint): number;
  mlock2(at: bigint, bytes: bigint, flags: number): number;
  munlock(at: bigint, bytes: bigint): number;
  memfdCreate(name: string): number;
  ftruncate(fd: number, bytes: bigint): number;
  /** RLIMIT_MEMLOCK of this process. Null leaves it as it is and only asks. */
  memlock(set: { readonly soft: bigint; readonly hard: bigint } | null): { soft: bigint; hard: bigint } | number;
  /** Whether CAP_IPC_LOCK is effective for this thread. It can be set again only while it is permitted. */
  setCapIpcLock(on: boolean): number;
  /** SIGKILL for this process when the thread that started it ends. */
  dieWithParent(): number;
  pageBytes(): number;
}

export const O_RDONLY = 0;
export const O_RDWR = 0x2;
export const O_CREAT = 0x40;
export const O_NOFOLLOW = 0x2_0000;
export const O_CLOEXEC = 0x8_0000;

export const PROT = { none: 0, r: 1, w: 2, rw: 3 } as const;
export const MAP_SHARED = 0x1;
export const MAP_PRIVATE = 0x2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_HUGETLB = 0x4_0000;
export const MAP_FIXED_NOREPLACE = 0x10_0000;

export const ADVICE = { dontneed: 4, hugepage: 14, nohugepage: 15, populate_read: 22, populate_write: 23 } as const;
export const MLOCK_ONFAULT = 1;

const LOCK_EX_NB = 2 | 4;
const RLIMIT_MEMLOCK = 8;
const CAP_IPC_LOCK = 14;
const CAPABILITY_VERSION_3 = 0x2008_0522;
const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;
/** Permissions of a file that is made. */
const MODE = 0o666;

type Foreign = (...args: readonly unknown[]) => number | bigint;

/** What we use of koffi. */
interface Koffi {
  /** Null: the libraries that node itself has loaded, glibc or musl. */
  load(library: null): { func(signature: string): Foreign };
  errno(): number;
}

/** @throws UserError 104 without koffi, or where it cannot be loaded. */
export function koffiLibc(): Libc {
  const koffi = loadKoffi();
  const library = koffi.load(null);
  /** errno is read at once: between two calls the engine may run anything. */
  const call = (signature: string): ((...args: readonly unknown[]) => number) => {
    const foreign = library.func(signature);
    return (...args) => {
      const returned = Number(foreign(...args));
      return returned < 0 ? -koffi.errno() : returned;
    };
  };
  const prlimit = call('int prlimit(int pid, int resource, const void *set, void *old)');
  const capget = call('int capget(void *header, void *data)');
  const capset = call('int capset(void *header, const void *data)');
  const mmap = call('intptr_t mmap(size_t at, size_t bytes, int prot, int flags, int fd, int64_t offset)');
  const prctl = call('int prctl(int option, unsigned long value, size_t b, size_t c, size_t d)');
  const flock = call('int flock(int fd, int operation)');
  const openFile = call('int open(const char *path, int flags, unsigned int mode)');
  const memfd = call('int memfd_create(const char *name, unsigned int flags)');
  const pread = call('intptr_t pread(int fd, void *into, size_t bytes, int64_t offset)');
  return {
    open: (path, flags) => openFile(path, flags | O_CLOEXEC, MODE),
    close: call('int close(int fd)'),
    readStart: (fd, into) => pread(fd, into, into.length, 0),
    lockFile: (fd) => flock(fd, LOCK_EX_NB),
    ioctl: call('int ioctl(int fd, unsigned long request, void *argument)'),
    ioctlValue: call('int ioctl(int fd, unsigned long request, size_t value)'),
    mmap: (...args) => Math.min(0, mmap(...args)),
    munmap: call('int munmap(size_t at, size_t bytes)'),
    mprotect: call('int mprotect(size_t at, size_t bytes, int prot)'),
    madvise: call('int madvise(size_t at, size_t bytes, int advice)'),
    mlock: call('int mlock(size_t at, size_t bytes)'),
    mlock2: call('int mlock2(size_t at, size_t bytes, unsigned int flags)'),
    munlock: call('int munlock(size_t at, size_t bytes)'),
    memfdCreate: (name) => memfd(name, 0),
    ftruncate: call('int ftruncate(int fd, int64_t bytes)'),
    memlock(set) {
      const old = new BigUint64Array(2);
      const ret = prlimit(0, RLIMIT_MEMLOCK, set === null ? null : new BigUint64Array([set.soft, set.hard]), old);
      return ret < 0 ? ret : { soft: old[0] as bigint, hard: old[1] as bigint };
    },
    setCapIpcLock(on) {
      const header = new Uint32Array([CAPABILITY_VERSION_3, 0]);
      // Effective, permitted and inheritable, the lower 32 capabilities first.
      const data = new Uint32Array(6);
      const ret = capget(header, data);
      if (ret < 0) return ret;
      const bit = 1 << CAP_IPC_LOCK;
      data[0] = on ? (data[0] as number) | bit : (data[0] as number) & ~bit;
      return capset(header, data);
    },
    dieWithParent: () => prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0),
    pageBytes: call('int getpagesize()'),
  };
}

function loadKoffi(): Koffi {
  const require = createRequire(import.meta.url);
  try {
    return require('koffi') as Koffi;
  } catch (error) {
    const why = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    throw new UserError(
      EXIT.invalid,
      `system calls need the optional package koffi, which cannot be loaded: ${why}`,
      'install pinstorm again without --omit=optional; koffi has prebuilt binaries for Linux on x64 and arm64',
    );
  }
}
