/** Every rule of src/kernel/safety.ts, on a host made of files: what may be used, and what each refusal says. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { EXIT, UserError } from '../../src/base/errors.ts';
import { readHost } from '../../src/kernel/host.ts';
import { type Claim, claim, type Request } from '../../src/kernel/safety.ts';

const MIB = 1024 ** 2;
const USER = { uid: 1000, platform: 'linux' };
const ASKED: Request = { groups: [12], memoryBytes: 64 * MIB, asRoot: false };

let root: string;
const put = (path: string, text: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
};
const device = (group: number, address: string, driver: string | null, type = '0x020000'): void => {
  put(`/sys/kernel/iommu_groups/${group}/devices/${address}/class`, `${type}\n`);
  if (driver !== null)
    symlinkSync(`../../drivers/${driver}`, join(root, `/sys/kernel/iommu_groups/${group}/devices/${address}/driver`));
};

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'pinstorm-host-'));
  put('/proc/sys/kernel/osrelease', '6.12.117-amd64\n');
  put('/proc/meminfo', 'MemTotal: 2000000 kB\nMemAvailable: 1048576 kB\nHugePages_Free: 5\nHugepagesize: 2048 kB\n');
  put('/proc/self/status', 'Name:\tnode\nCapEff:\t0000000000004000\n');
  put('/proc/self/limits', 'Max locked memory         65536                8388608              bytes\n');
  put('/proc/self/cgroup', '0::/user.slice/shell\n');
  put('/proc/cmdline', 'quiet intel_iommu=on\n');
  put('/sys/module/vfio_iommu_type1/parameters/dma_entry_limit', '65535\n');
  put('/sys/kernel/mm/transparent_hugepage/enabled', 'always [madvise] never\n');
  put('/dev/vfio/vfio', '');
  put('/dev/vfio/12', '');
  device(12, '0000:03:00.0', 'vfio-pci');
  device(12, '0000:00:1c.0', 'pcieport', '0x060400');
});
afterEach(() => rmSync(root, { recursive: true }));

const claimOf = (asked: Partial<Request> = {}, who = USER): Claim => claim(readHost(root), { ...ASKED, ...asked }, who);

function refused(message: RegExp, hint: RegExp, asked: Partial<Request> = {}, who = USER): void {
  assert.throws(
    () => claimOf(asked, who),
    (error) => {
      assert.ok(error instanceof UserError, String(error));
      assert.equal(error.exitCode, EXIT.invalid);
      assert.match(error.message, message);
      assert.match(error.hint ?? '', hint);
      return true;
    },
  );
}

test('a host is what its files say', () => {
  const { groups, ...host } = readHost(root);
  assert.deepEqual(host, {
    release: '6.12.117-amd64',
    containerNode: 'usable',
    dmaEntryLimit: 65535,
    memoryLeftBytes: 1024 * MIB,
    freeHugePages: 5,
    thp: true,
    memlockBytes: 65536n,
    capIpcLock: true,
    ownMachine: false,
  });
  assert.deepEqual([...groups.keys()], [12]);
  assert.equal(groups.get(12)?.devices.length, 2);
});

test('a machine is one of its own when its command line says so, and its parameters may be set', () => {
  put('/proc/cmdline', 'quiet pinstorm.own_machine=1 panic=-1\n');
  assert.ok(readHost(root).ownMachine);
  rmSync(join(root, '/sys/module/vfio_iommu_type1'), { recursive: true });
  assert.ok(!readHost(root).ownMachine);
  put('/proc/cmdline', 'pinstorm.own_machine=10\n');
  assert.ok(!readHost(root).ownMachine);
});

test('a group whose device is bound to vfio-pci may be used, beside bridges and free devices', () => {
  device(12, '0000:03:00.1', null);
  const { groups, bufferBytes } = claimOf();
  assert.deepEqual(groups, [{ number: 12, device: '0000:03:00.0' }]);
  assert.equal(bufferBytes, 19 * MIB);
});

test('the user names the groups, and each once', () => {
  refused(/no --group is given/, /pinstorm never chooses one/, { groups: [] });
  refused(/--group 12 is given twice/, /each container/, { groups: [12, 12] });
  refused(/there is no IOMMU group 13/, /there are 12;/, { groups: [13] });
});

test('a group with a device that the host uses is never used', () => {
  device(12, '0000:03:00.1', 'nvme');
  refused(/group 12: 0000:03:00\.1 is bound to the driver nvme/, /device nobody needs/);
});

test('what is missing is told with the commands that give it', () => {
  rmSync(join(root, '/dev/vfio/12'));
  refused(/\/dev\/vfio\/12 does not exist/, /modprobe vfio-pci && echo vfio-pci > \S+0000:03:00\.0\/driver_override/);
  rmSync(join(root, '/sys/module/vfio_iommu_type1'), { recursive: true });
  refused(/the modules of VFIO are not loaded/, /modprobe vfio-pci && modprobe vfio_iommu_type1/);
  rmSync(join(root, '/sys/kernel/iommu_groups/12/devices/0000:03:00.0/driver'));
  refused(/group 12: no device of it is bound to vfio-pci/, /echo 0000:03:00\.0 > \/sys\/bus\/pci\/drivers_probe/);
  rmSync(join(root, '/sys/kernel/iommu_groups/12/devices/0000:03:00.0'), { recursive: true });
  refused(/no device of it is bound/, /only bridges/);
  rmSync(join(root, '/sys/kernel/iommu_groups'), { recursive: true });
  refused(/no IOMMU that is switched on/, /intel_iommu=on/);
  refused(/this is darwin/, /run pinstorm on Linux/, {}, { uid: 501, platform: 'darwin' });
});

test('root says that it knows; the limit does not hold for it', () => {
  refused(/does not hold for root/, /--as-root/, {}, { ...USER, uid: 0 });
  assert.equal(claimOf({ asRoot: true }, { ...USER, uid: 0 }).groups.length, 1);
});

test('pinned memory is at most a quarter of what the host and the control group have left', () => {
  refused(/--memory 300\.0MiB is more than a quarter of the 1\.0GiB/, /less with --memory/, { memoryBytes: 300 * MIB });
  refused(/--memory 45\.0MiB leaves nothing for buffers/, /takes 45\.0MiB/, { memoryBytes: 45 * MIB });
  put('/sys/fs/cgroup/user.slice/memory.max', `${200 * MIB}\n`);
  put('/sys/fs/cgroup/user.slice/memory.current', `${100 * MIB}\n`);
  put('/sys/fs/cgroup/user.slice/shell/memory.max', 'max\n');
  refused(/quarter of the 100\.0MiB that are left/, /less with --memory/);
  put('/sys/fs/cgroup/user.slice/memory.max', 'max\n');
  put('/proc/self/cgroup', '4:cpu,memory:/lxc/a\n');
  put('/sys/fs/cgroup/memory/lxc/a/memory.limit_in_bytes', `${120 * MIB}\n`);
  put('/sys/fs/cgroup/memory/lxc/a/memory.usage_in_bytes', '0\n');
  refused(/quarter of the 120\.0MiB that are left/, /less with --memory/);
});

test('without permission the owner of the host is told what to give', () => {
  const host = readHost(root);
  const group = { ...host.groups.get(12)!, node: 'denied' as const };
  assert.throws(
    () => claim({ ...host, groups: new Map([[12, group]]) }, ASKED, USER),
    (error: UserError) => {
      assert.match(error.message, /no permission to open \/dev\/vfio\/12$/);
      assert.match(error.hint ?? '', /as root: chown USER \/dev\/vfio\/12/);
      return true;
    },
  );
});

test('only the process that records and its command write files, and only one file starts a process', () => {
  const sources = readdirSync('src/kernel').map((name) => ({ name, text: readFileSync(`src/kernel/${name}`, 'utf8') }));
  const using = (what: RegExp): string[] => sources.filter(({ text }) => what.test(text)).map(({ name }) => name);
  assert.deepEqual(using(/\b(write|append|chmod|chown|mkdir|rename|link|unlink|symlink|truncate)\w*Sync\b/), [
    'record-child.ts',
    'record-command.ts',
  ]);
  assert.deepEqual(using(/child_process/), ['record-all.ts']);
  // Of the host: the score of the process itself, and a parameter in a machine that was booted for it.
  const child = sources.find(({ name }) => name === 'record-child.ts')?.text ?? '';
  const written = [...child.matchAll(/writeFileSync\(([^,]+),/g)].map((m) => m[1]);
  assert.deepEqual(written, ["'/proc/self/oom_score_adj'", 'ENTRY_LIMIT']);
  assert.match(child, /job\.ownMachine \? \(limit: number\): void => writeFileSync\(ENTRY_LIMIT/);
});
