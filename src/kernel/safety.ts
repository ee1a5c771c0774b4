/**
 * What must hold before anything is done to a host. Nothing is ever bound, unbound, loaded, chowned or written to sysfs
 * from here: messages say what is missing and how the owner of the host gets it.
 */
import { EXIT, UserError } from '../base/errors.ts';
import { roundedBytes } from '../base/units-text.ts';
import type { Device, Group, Host } from './host.ts';
import { CONTAINER_NODE, groupNode } from './vfio.ts';

/** What the user asked for on the command line, and nowhere else. */
export interface Request {
  readonly groups: readonly number[];
  /** What buffers and processes together may take. */
  readonly memoryBytes: number;
  readonly asRoot: boolean;
}

/** A host that may be used, as far as the user allowed it. */
export interface Claim {
  readonly host: Host;
  /** In the order the user named them: container 0 gets the first. */
  readonly groups: readonly { readonly number: number; readonly device: string }[];
  /** What buffers may take, of all that may be taken. */
  readonly bufferBytes: number;
}

/** Resident memory of a child process of node. */
export const CHILD_BYTES = 45 * 1024 ** 2;
/** Pinned memory cannot be reclaimed: of what the host and the control group have left, at most one part in four. */
const SHARE = 4;

const PAGE = 'docs/own-kernel.md has the steps';
const VFIO_PCI = 'vfio-pci';

const refuse = (message: string, hint: string): UserError => new UserError(EXIT.invalid, message, hint);

/**
 * Checks every rule that does not depend on what is to be done.
 * @param who user id and platform of this process; tests say others.
 * @throws UserError 104 with what is missing and the commands that give it
 */
export function claim(
  host: Host,
  request: Request,
  who: { readonly uid: number; readonly platform: string } = {
    uid: process.geteuid?.() ?? -1,
    platform: process.platform,
  },
): Claim {
  if (who.platform !== 'linux')
    throw refuse(
      `the real kernel is that of Linux, and this is ${who.platform}`,
      'leave --group out, or run pinstorm on Linux',
    );
  if (request.groups.length === 0) throw refuse('no --group is given', `pinstorm never chooses one; ${PAGE}`);
  const again = request.groups.find((group, i) => request.groups.indexOf(group) !== i);
  if (again !== undefined) throw refuse(`--group ${again} is given twice`, 'each container needs a group of its own');
  const groups = request.groups.map((number) => ({ number, device: usableGroup(host, number).address }));
  if (who.uid === 0 && !request.asRoot)
    throw refuse(
      'the locked-memory limit does not hold for root',
      'run it as an ordinary user who owns the group, or say --as-root: then the capability is dropped where a ' +
        'recording says so',
    );
  return { host, groups, bufferBytes: memoryBudget(host, request.memoryBytes) };
}

/** The device of a group that may be used. @throws UserError */
function usableGroup(host: Host, number: number): Device {
  if (host.groups.size === 0)
    throw refuse(
      'this host has no IOMMU that is switched on: /sys/kernel/iommu_groups is empty',
      `switch it on in the firmware and boot with intel_iommu=on (AMD: nothing more); ${PAGE}`,
    );
  const group = host.groups.get(number);
  if (group === undefined) {
    const known = [...host.groups.keys()];
    throw refuse(
      `there is no IOMMU group ${number}`,
      `there are ${known.slice(0, 20).join(', ')}${known.length > 20 ? ', ...' : ''}; ls /sys/kernel/iommu_groups/*/devices shows their devices`,
    );
  }
  const device = deviceOf(group);
  if (host.containerNode === 'missing' || host.dmaEntryLimit === null)
    throw refuse(
      'the modules of VFIO are not loaded',
      `as root: modprobe vfio-pci && modprobe vfio_iommu_type1; ${PAGE}`,
    );
  if (group.node === 'missing')
    throw refuse(`${groupNode(number)} does not exist`, `as root: ${bindLines(device.address)}; ${PAGE}`);
  const denied = [
    ...(host.containerNode === 'denied' ? [CONTAINER_NODE] : []),
    ...(group.node === 'denied' ? [groupNode(number)] : []),
  ];
  if (denied.length > 0)
    throw refuse(
      `no permission to open ${denied.join(' and ')}`,
      `as root: ${denied.map((node) => (node === CONTAINER_NODE ? `chmod 0666 ${node}` : `chown USER ${node}`)).join(' && ')}; ${PAGE}`,
    );
  return device;
}

/** The device bound to vfio-pci. Others of the group must be free or bridges: who binds a device decides. */
function deviceOf({ number, devices }: Group): Device {
  const taken = devices.find(({ driver, bridge }) => driver !== null && driver !== VFIO_PCI && !bridge);
  if (taken !== undefined)
    throw refuse(
      `group ${number}: ${taken.address} is bound to the driver ${taken.driver}, so this host uses it`,
      `name the group of a device nobody needs; if that is this one, as root: ${bindLines(taken.address)}; ${PAGE}`,
    );
  const device = devices.find(({ driver }) => driver === VFIO_PCI);
  if (device !== undefined) return device;
  const free = devices.find(({ bridge }) => !bridge);
  throw refuse(
    `group ${number}: no device of it is bound to ${VFIO_PCI}`,
    free === undefined
      ? `it has only bridges; name the group of a device nobody needs; ${PAGE}`
      : `as root: ${bindLines(free.address)}; ${PAGE}`,
  );
}

/** The commands that give a device to vfio-pci. They are told, and never run. */
function bindLines(address: string): string {
  const at = `/sys/bus/pci/devices/${address}`;
  return [
    'modprobe vfio-pci',
    `echo ${VFIO_PCI} > ${at}/driver_override`,
    `if [ -e ${at}/driver ]; then echo ${address} > ${at}/driver/unbind; fi`,
    `echo ${address} > /sys/bus/pci/drivers_probe`,
  ].join(' && ');
}

/** @returns bytes that buffers may take. @throws UserError */
function memoryBudget(host: Host, memoryBytes: number): number {
  const left = host.memoryLeftBytes;
  const most = Math.floor(left / SHARE);
  if (memoryBytes > most)
    throw refuse(
      `--memory ${roundedBytes(memoryBytes)} is more than a quarter of the ${roundedBytes(left)} that are left here`,
      'pinned memory cannot be reclaimed: say less with --memory, or free memory first',
    );
  if (memoryBytes <= CHILD_BYTES)
    throw refuse(
      `--memory ${roundedBytes(memoryBytes)} leaves nothing for buffers`,
      `the process that maps takes ${roundedBytes(CHILD_BYTES)} of it`,
    );
  return memoryBytes - CHILD_BYTES;
}
