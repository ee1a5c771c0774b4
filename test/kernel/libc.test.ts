/** The signatures of src/kernel/libc.ts, on the kernel that runs the tests: no device is needed. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { errnoName } from '../../src/base/errno.ts';
import {
  ADVICE,
  koffiLibc,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_PRIVATE,
  MAP_SHARED,
  MLOCK_ONFAULT,
  O_RDONLY,
  PROT,
} from '../../src/kernel/libc.ts';
import { ProcessStatus } from '../../src/kernel/status.ts';
import { VFIO } from '../../src/kernel/vfio.ts';

const AT = 1n << 40n;
const PAGES = 16n;
const BYTES = PAGES * 4096n;
const libc = koffiLibc();
const directory = mkdtempSync(join(tmpdir(), 'pinstorm-libc-'));
after(() => rmSync(directory, { recursive: true }));

test('memory is mapped where it is said, locked and counted, and given back', () => {
  const status = new ProcessStatus(libc);
  const anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  assert.equal(libc.pageBytes(), 4096);
  assert.equal(libc.mmap(AT, BYTES, PROT.rw, anonymous, -1, 0n), 0);
  assert.equal(errnoName(libc.mmap(AT, BYTES, PROT.rw, anonymous, -1, 0n)), 'EEXIST');
  assert.equal(libc.madvise(AT, BYTES, ADVICE.populate_write), 0);
  const before = status.vmLckKb();
  assert.equal(libc.mlock(AT, 4096n), 0);
  assert.equal(libc.mlock2(AT + 4096n, 4096n, MLOCK_ONFAULT), 0);
  assert.equal(status.vmLckKb() - before, 8n);
  assert.equal(libc.munlock(AT, 8192n), 0);
  assert.equal(status.vmLckKb(), before);
  assert.equal(libc.mprotect(AT, 4096n, PROT.none), 0);
  assert.equal(errnoName(libc.mprotect(AT + 1n, 4096n, PROT.r)), 'EINVAL');
  assert.equal(libc.munmap(AT, BYTES), 0);
  assert.equal(errnoName(libc.mlock(AT, 4096n)), 'ENOMEM');
  // Arguments of 64 bit arrive whole.
  assert.equal(errnoName(libc.munmap((1n << 64n) - 4096n, 4096n)), 'EINVAL');
  assert.equal(
    errnoName(libc.mmap(1n << 63n, BYTES, PROT.rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0n)),
    'ENOMEM',
  );
  status.close();
});

test('files: a memfd, a lock that another descriptor holds, errors as they are', () => {
  const memfd = libc.memfdCreate('pinstorm');
  assert.ok(memfd > 2);
  assert.equal(libc.ftruncate(memfd, BYTES), 0);
  assert.equal(libc.mmap(AT, BYTES, PROT.rw, MAP_SHARED | MAP_FIXED_NOREPLACE, memfd, 4096n), 0);
  assert.equal(libc.mmap(AT, BYTES, PROT.rw, MAP_SHARED | MAP_FIXED, memfd, 8192n), 0);
  assert.equal(libc.munmap(AT, BYTES), 0);
  assert.equal(libc.close(memfd), 0);
  const path = join(directory, 'lock');
  const other = openSync(path, 'w');
  const held = libc.open(path, O_RDONLY);
  assert.equal(libc.lockFile(held), 0);
  const second = libc.open(path, O_RDONLY);
  assert.equal(errnoName(libc.lockFile(second)), 'EAGAIN');
  for (const fd of [held, second]) assert.equal(libc.close(fd), 0);
  closeSync(other);
  assert.equal(errnoName(libc.open(join(directory, 'none'), O_RDONLY)), 'ENOENT');
  assert.equal(errnoName(libc.close(-1)), 'EBADF');
  assert.equal(errnoName(libc.ioctl(-1, VFIO.iommuMapDma, new Uint8Array(32))), 'EBADF');
  assert.equal(errnoName(libc.ioctlValue(-1, VFIO.setIommu, 3)), 'EBADF');
  assert.deepEqual([0, 5, -4095].map(errnoName), ['OK', 'OK', 'E4095']);
});

test('the limit is read, lowered and raised again below the hard limit; the capability is dropped and taken back', () => {
  const limit = libc.memlock(null);
  assert.ok(typeof limit !== 'number');
  assert.ok(typeof libc.memlock({ soft: 4096n, hard: limit.hard }) !== 'number');
  assert.deepEqual(libc.memlock(limit), { soft: 4096n, hard: limit.hard });
  assert.deepEqual(libc.memlock(null), limit);
  assert.equal(libc.setCapIpcLock(false), 0);
  const taken = libc.setCapIpcLock(true);
  // Permitted to root alone.
  assert.ok(taken === 0 || errnoName(taken) === 'EPERM', errnoName(taken));
});
