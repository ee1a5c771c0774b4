/** What cannot be done from one thread of one process, or must not be done to a host, is refused with file and line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXIT, UserError } from '../../src/base/errors.ts';
import type { Host } from '../../src/kernel/host.ts';
import { checkPossible } from '../../src/kernel/possible.ts';
import { parseSequence } from '../../src/transcript/transcript.ts';
import { claimed, OWN_MACHINE } from './claimed.ts';

const HOST: Host = { ...OWN_MACHINE, memlockBytes: 65536n, capIpcLock: false, freeHugePages: 1, ownMachine: false };
const START = {
  format: 1,
  iommu: 'type1v2',
  memlock_bytes: 65536,
  cap_ipc_lock: false,
  dma_entry_limit: 65535,
  buffer: { bytes: 1048576, backing: 'anon4k' },
};
const MUNLOCK = { op: 'munlock', actor: 'main', offset: 0, bytes: 4096 };

function check(start: object, ops: readonly object[], host = HOST, groups = 1): void {
  const text = [{ ...START, ...start }, ...ops.map((op) => ({ actor: 'main', ...op }))].map((l) => JSON.stringify(l));
  checkPossible(parseSequence(text.join('\n'), 'a.jsonl'), claimed(host, groups));
}

function refused(at: string, start: object, ops: readonly object[], host = HOST): void {
  assert.throws(
    () => check(start, ops, host),
    (error) => {
      assert.ok(error instanceof UserError, String(error));
      assert.equal(error.exitCode, EXIT.invalid);
      assert.equal(error.message.slice(0, at.length), at);
      assert.notEqual(error.hint ?? '', '');
      return true;
    },
  );
}

test('what can be done may stand', () => {
  check({}, [MUNLOCK, { op: 'open' }, { op: 'close', which: 'all' }, { op: 'drop_cap' }]);
  check({ containers: 2 }, [{ op: 'open', container: 1 }], HOST, 2);
  // What the kernel refuses by its arguments.
  check({}, [
    { op: 'munmap', offset: 4096, bytes: Number.MAX_SAFE_INTEGER },
    { op: 'madvise', offset: 2 ** 47, bytes: 4096, advice: 'dontneed' },
    { op: 'map', iova: 0, vaddr: 2 ** 50, bytes: 4096, prot: 'rw' },
  ]);
});

test('processes and threads are refused, with file and line', () => {
  for (const op of ['spawn', 'spawn_vm'])
    refused(`a.jsonl:3: ${op}: no process can be forked from here`, {}, [MUNLOCK, { op, child: 'c' }]);
  refused('a.jsonl:2: spawn_thread: a recording is made by one thread', {}, [{ op: 'spawn_thread', child: 't' }]);
  refused('a.jsonl:2: exec: it would replace', {}, [{ op: 'exec' }]);
  refused('a.jsonl:2: kill:', {}, [{ op: 'kill' }]);
  refused('a.jsonl:2: exit:', {}, [{ op: 'exit', scope: 'thread' }]);
});

test('nothing of the host is set, and no limit raised', () => {
  refused('a.jsonl:1: it needs dma_entry_limit=8, and this host has 65535', { dma_entry_limit: 8 }, []);
  refused('a.jsonl:2: set_dma_entry_limit: it is a parameter of the whole host', {}, [
    { op: 'set_dma_entry_limit', value: 4 },
  ]);
  refused('a.jsonl:1: a locked-memory limit of 65537 bytes is above the 65536', { memlock_bytes: 65537 }, []);
  refused('a.jsonl:1: no locked-memory limit is above', { memlock_bytes: 'unlimited' }, []);
  refused('a.jsonl:2: setrlimit: a locked-memory limit of 131072 bytes', {}, [
    { op: 'setrlimit', memlock_bytes: 131072 },
  ]);
  refused('a.jsonl:1: it starts with CAP_IPC_LOCK, which this process lacks', { cap_ipc_lock: true }, []);
  check(
    { dma_entry_limit: 8, memlock_bytes: 'unlimited', cap_ipc_lock: true },
    [{ op: 'set_dma_entry_limit', value: 4 }],
    OWN_MACHINE,
  );
});

test('memory stays within what the user gave, and huge pages within what there are', () => {
  const buffer = (bytes: number, backing = 'anon4k'): object => ({ buffer: { bytes, backing } });
  check(buffer(64 * 2 ** 20), []);
  refused('a.jsonl:1: it may take 64.0MiB of memory, and --memory leaves 64.0MiB', buffer(64 * 2 ** 20 + 4096), []);
  refused('a.jsonl:1: it may take 80.0MiB of memory', buffer(40 * 2 ** 20, 'memfd'), []);
  refused('a.jsonl:1: a buffer of 2.0GiB', buffer(2 ** 31), []);
  check(buffer(2 * 2 ** 20, 'hugetlb2m'), []);
  refused('a.jsonl:1: it needs 2 huge pages, and 1 are free', buffer(4 * 2 ** 20, 'hugetlb2m'), []);
  refused('a.jsonl:1: it needs transparent huge pages', buffer(4 * 2 ** 20, 'thp'), [], { ...HOST, thp: false });
  refused('a.jsonl:1: it needs 2 groups, and 1 is named', { containers: 2 }, []);
  refused('a.jsonl:2: open: container 1 needs a group of its own', {}, [{ op: 'open', container: 1 }]);
});

test('no call reaches memory of pinstorm itself', () => {
  const huge = `"bytes":${2n ** 64n - 2n ** 40n - 8192n}`;
  const far = { offset: 16 * 2 ** 20, bytes: 4096 };
  refused('a.jsonl:2: munmap: offset 16777216 with 4096 bytes may reach memory', {}, [{ op: 'munmap', ...far }]);
  refused('a.jsonl:2: mlock: offset', {}, [{ op: 'mlock', ...far }]);
  refused('a.jsonl:2: mprotect: offset', {}, [{ op: 'mprotect', ...far, prot: 'none' }]);
  refused('a.jsonl:2: mmap: offset', {}, [{ op: 'mmap', ...far, backing: 'anon4k' }]);
  refused('a.jsonl:2: map: its address may be memory', {}, [
    { op: 'map', iova: 0, vaddr: 4194304, bytes: 4096, prot: 'rw' },
  ]);
  refused(
    'a.jsonl:1: offset',
    { buffer: { bytes: 1048576, backing: 'anon4k', parts: [{ ...far, backing: 'hole' }] } },
    [],
  );
  // It goes on over the areas of node behind the buffer, and does not wrap.
  const line = JSON.stringify({ op: 'madvise', actor: 'main', offset: 0, bytes: 1, advice: 'dontneed' });
  const text = `${JSON.stringify(START)}\n${line.replace('"bytes":1', huge)}`;
  assert.throws(() => checkPossible(parseSequence(text, 'a.jsonl'), claimed(HOST, 1)), /a\.jsonl:2: madvise: offset 0/);
});
