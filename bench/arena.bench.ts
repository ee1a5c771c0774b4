/**
 * How many guests an arena holds: 10 000 guests with 100 mappings each, built and mapped through the model's own paths,
 * and what they cost in memory. Writes bench/results/arena.json.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { Direct } from '../src/engine/direct.ts';
import { buildGuest } from '../src/engine/guest.ts';
import { BUFFER_PAGE } from '../src/engine/machine.ts';
import type { GuestPlan } from '../src/engine/plan.ts';
import { Arena, capacityFor } from '../src/model/arena.ts';
import { MAP_ARGSZ } from '../src/model/ioctl-args.ts';
import { resolveVariant } from '../src/model/kernels/index.ts';
import { STRUCT_NAMES, STRUCTS } from '../src/model/layout.ts';
import { containerOf } from '../src/model/paths/files.ts';
import { vfioDmaDoMap } from '../src/model/paths/map.ts';

const GUESTS = 10_000;
const MAPPINGS = 100;
const PAGES = 512;

function measure(id: string): Record<string, unknown> {
  const rssBefore = process.memoryUsage.rss();
  const arena = Arena.create(
    capacityFor({
      guests: GUESTS,
      actorsPerGuest: 2,
      processesPerGuest: 1,
      mappingsPerGuest: MAPPINGS,
      segmentsPerGuest: 4,
    }),
    true,
  );
  const direct = new Direct(arena, resolveVariant(id));
  const start = process.hrtime.bigint();
  for (let index = 0; index < GUESTS; index += 1) {
    const plan: GuestPlan = {
      index,
      class: 'bench',
      seed: index,
      startNs: 0,
      durationNs: null,
      memory: { bytes: PAGES * 4096, backing: 'thp', contiguityPages: 512, populated: true },
      memlockBytes: null,
      capIpcLock: false,
      iommu: 'type1v2',
      containers: 1,
      actors: [],
    };
    const guest = buildGuest(arena, direct.addressSpace, plan, () => 0);
    const k = direct.as(guest.actors[0]?.task ?? 0);
    for (let n = 0; n < MAPPINGS; n += 1) {
      const ret = direct.run(
        vfioDmaDoMap(k, containerOf(k, 0), {
          argsz: MAP_ARGSZ,
          flags: 3,
          vaddr: BigInt(BUFFER_PAGE) * 4096n,
          iova: BigInt(n * PAGES * 2) * 4096n,
          size: BigInt(PAGES) * 4096n,
        }),
      );
      if (ret !== 0) throw new Error(`map failed: ${ret}`);
    }
  }
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const used = STRUCT_NAMES.reduce((n, name) => n + arena.live(name) * STRUCTS[name].WORDS * 4, 0);
  return {
    variant: id,
    guests: GUESTS,
    mappingsPerGuest: MAPPINGS,
    mappings: arena.live('dma'),
    arenaBytes: arena.buffer.byteLength,
    usedBytesPerGuest: Math.round(used / GUESTS),
    reservedBytesPerGuest: Math.round(arena.buffer.byteLength / GUESTS),
    residentBytesPerGuest: Math.round((process.memoryUsage.rss() - rssBefore) / GUESTS),
    mapsPerSecond: Math.round((GUESTS * MAPPINGS) / seconds),
  };
}

const rows = ['E', 'H', 'I'].map(measure);
for (const row of rows) process.stdout.write(`${JSON.stringify(row)}\n`);
mkdirSync('bench/results', { recursive: true });
const machine = { cpus: os.cpus().length, model: os.cpus()[0]?.model ?? 'unknown', node: process.version };
writeFileSync('bench/results/arena.json', `${JSON.stringify({ machine, rows }, null, 2)}\n`);
