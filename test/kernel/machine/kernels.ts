/** Debian's packages, fetched once into a cache outside the checkout and unpacked there. Works without root. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Unpacked } from './image.ts';

const CACHE = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'pinstorm', 'debian');

/** Packages that depend on the newest kernel of a series: superseded ones leave the archive. */
export const KERNELS: readonly { readonly series: string; readonly meta: string }[] = [
  { series: '6.1', meta: 'linux-image-cloud-amd64' },
  { series: '6.12', meta: 'linux-image-6.12-cloud-amd64' },
];

/** A package that cannot be had here; the message says how. */
export class NotHereError extends Error {
  override readonly name = 'NotHereError';
}

/** @throws NotHereError */
export function kernelOf(meta: string): Unpacked {
  const listed = spawnSync('apt-cache', ['depends', '--important', meta], { encoding: 'utf8' });
  const name = /Depends: (linux-image-\S+)/.exec(listed.stdout ?? '')?.[1];
  if (name === undefined) throw new NotHereError(`apt knows no package ${meta}: sudo apt-get update`);
  const folder = unpacked(name);
  const release = name.slice('linux-image-'.length);
  return { vmlinuz: join(folder, 'boot', `vmlinuz-${release}`), modules: join(folder, 'lib', 'modules', release) };
}

/** @throws NotHereError */
export const busyboxFile = (): string => join(unpacked('busybox-static'), 'bin', 'busybox');

function unpacked(name: string): string {
  const folder = join(CACHE, name);
  if (existsSync(folder)) return folder;
  mkdirSync(CACHE, { recursive: true });
  const making = mkdtempSync(join(CACHE, '.making-'));
  try {
    const { stderr } = spawnSync('apt-get', ['download', '-qq', name], { cwd: making, encoding: 'utf8' });
    const archive = readdirSync(making).find((file) => file.endsWith('.deb'));
    if (archive === undefined) throw new NotHereError(`${name} cannot be fetched: ${stderr.trim().split('\n').at(-1)}`);
    execFileSync('dpkg-deb', ['-x', join(making, archive), join(making, 'x')]);
    renameSync(join(making, 'x'), folder);
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
  return folder;
}
