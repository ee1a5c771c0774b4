/**
 * The file system of the emulated machine: a newc archive with node, pinstorm as it is built, busybox, the VFIO modules
 * of a kernel and what the test wants done. No program of the system is needed to write it, nor root.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

const DIRECTORY = 0o04_0755;
const PROGRAM = 0o10_0755;
const CHARACTER_DEVICE = 0o02_0600;

/** An archive in the format of `cpio -H newc`; directories are made as they are needed. */
export class Archive {
  readonly #chunks: Buffer[] = [];
  readonly #directories = new Set(['.']);
  #inode = 1;

  directory(path: string): void {
    if (this.#directories.has(path)) return;
    this.directory(dirname(path));
    this.#directories.add(path);
    this.#entry(path, DIRECTORY, Buffer.alloc(0), 0, 0);
  }

  file(path: string, data: Buffer | string): void {
    this.directory(dirname(path));
    this.#entry(path, PROGRAM, Buffer.from(data), 0, 0);
  }

  /** A file as it is here, or a folder with all below it. */
  copy(from: string, to: string): void {
    if (!statSync(from).isDirectory()) return this.file(to, readFileSync(from));
    for (const name of readdirSync(from)) this.copy(join(from, name), join(to, name));
  }

  device(path: string, major: number, minor: number): void {
    this.directory(dirname(path));
    this.#entry(path, CHARACTER_DEVICE, Buffer.alloc(0), major, minor);
  }

  bytes(): Buffer {
    this.#entry('TRAILER!!!', 0, Buffer.alloc(0), 0, 0);
    return Buffer.concat(this.#chunks);
  }

  #entry(name: string, mode: number, data: Buffer, major: number, minor: number): void {
    // inode, mode, uid, gid, links, mtime, size, device (2), device it stands for (2), size of the name, checksum
    const fields = [this.#inode++, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length + 1, 0];
    const header = `070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}${name}\0`;
    for (const part of [Buffer.from(header, 'latin1'), data]) this.#chunks.push(part, Buffer.alloc(-part.length & 3));
  }
}

/** What pinstorm needs to record and to conform, of node_modules. */
const PACKAGES = ['commander', 'fastest-levenshtein', 'koffi', '@koromix/koffi-linux-x64', 'yaml'];

export interface Unpacked {
  /** The file of the kernel. */
  readonly vmlinuz: string;
  /** The folder of its modules. */
  readonly modules: string;
}

/** In the order in which they must be loaded; some kernels have not all of them. */
const MODULES = ['irqbypass', 'vfio', 'vfio_virqfd', 'vfio_iommu_type1', 'vfio-pci-core', 'vfio-pci'];

/** @param files what else there is, by its path; `init` is run first. */
export function machineImage(
  kernel: Unpacked,
  busybox: string,
  files: Readonly<Record<string, string>>,
): { readonly image: Buffer; readonly release: string } {
  const archive = new Archive();
  for (const folder of ['proc', 'sys', 'dev', 'tmp', 'etc', 'usr/bin']) archive.directory(folder);
  archive.device('dev/console', 5, 1);
  archive.device('dev/null', 1, 3);
  const node = realpathSync(process.execPath);
  archive.copy(node, 'bin/node');
  archive.copy(busybox, 'bin/busybox');
  for (const library of librariesOf(node)) archive.copy(realpathSync(library), library.slice(1));
  for (const name of ['package.json', 'dist/src', 'recordings']) archive.copy(name, join('pinstorm', name));
  for (const name of PACKAGES) archive.copy(join('node_modules', name), join('pinstorm/node_modules', name));
  const release = basename(kernel.modules);
  addModules(archive, kernel.modules, release);
  for (const [path, text] of Object.entries(files)) archive.file(path, text);
  return { image: archive.bytes(), release };
}

function librariesOf(program: string): string[] {
  const listed = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...listed.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] as string);
}

/** Unpacked, with the list that modprobe reads: each depends on those before it. */
function addModules(archive: Archive, folder: string, release: string): void {
  const there = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const present = MODULES.flatMap((name) => {
    const file = there.find((path) => [`${name}.ko`, `${name}.ko.xz`].includes(basename(path)));
    return file === undefined ? [] : [{ name, path: join(folder, file) }];
  });
  for (const { name, path } of present) {
    const maxBuffer = 2 ** 26;
    const data = path.endsWith('.xz') ? execFileSync('xz', ['-dc', path], { maxBuffer }) : readFileSync(path);
    archive.file(`lib/modules/${release}/${name}.ko`, data);
  }
  const rows = present.map(({ name }, i) => {
    const earlier = present.slice(0, i).toReversed();
    return `${name}.ko:${earlier.map((module) => ` ${module.name}.ko`).join('')}\n`;
  });
  archive.file(`lib/modules/${release}/modules.dep`, rows.join(''));
}
