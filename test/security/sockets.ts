/** What processes listen on and what their argument lists show, as the kernel tells it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** Addresses a process listens on, as `127.0.0.1:9464`; IPv6 addresses as the kernel's 32 hex digits. */
export function listening(pid: number): string[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return [];
      }
    }),
  );
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .split('\n')
      .slice(1)
      .flatMap((row) => {
        const [, local = '', , state, , , , , , inode = ''] = row.trim().split(/\s+/);
        // 0A is LISTEN.
        return state === '0A' && inodes.has(inode) ? [addressOf(local)] : [];
      }),
  );
}

function addressOf(hex: string): string {
  const [host = '', port = ''] = hex.split(':');
  // An IPv4 address is a word in the byte order of the machine, which is little-endian.
  const text = host.length === 8 ? [6, 4, 2, 0].map((at) => parseInt(host.slice(at, at + 2), 16)).join('.') : host;
  return `${text}:${parseInt(port, 16)}`;
}

/** The argument list of a process; empty when it is gone. */
export function argumentsOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}
