// Adds to package-lock.json the optional packages for other platforms that `npm install` left out, which it does where
// the registry in use does not serve them; `npm ci` refuses a lock without them. They have no integrity hash, because
// nobody downloaded them. Run it after adding a dependency with platform binaries: `node .ci/complete-lock.mjs`.
import fs from 'node:fs';

const OSES = ['android', 'darwin', 'freebsd', 'linux', 'openharmony', 'win32'];
const lock = JSON.parse(fs.readFileSync('package-lock.json', 'utf8'));
const packages = lock.packages;
for (const [key, entry] of Object.entries(packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const at = `node_modules/${name}`;
    if (packages[at] ?? packages[`${key}/${at}`]) continue;
    const parts = name.split('/').pop().split('-');
    const os = OSES.find((o) => parts.includes(o));
    if (os === undefined)
      throw new Error(`${name}: cannot tell its platform from its name; add it to the lock by hand`);
    const [cpu, abi] = parts.slice(parts.indexOf(os) + 1);
    const libc = os !== 'linux' || abi === undefined ? undefined : abi.startsWith('musl') ? 'musl' : 'glibc';
    packages[at] = {
      version,
      cpu: [cpu],
      ...(entry.dev ? { dev: true } : {}),
      ...(libc ? { libc: [libc] } : {}),
      optional: true,
      os: [os],
    };
    console.log(`added ${name}@${version}`);
  }
}
lock.packages = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
fs.writeFileSync('package-lock.json', `${JSON.stringify(lock, null, 2)}\n`);
