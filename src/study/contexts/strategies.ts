/** The contexts that call VFIO, and the ways to find out whose memory it is about. */
import type { Variant } from '../../model/env.ts';
import { A } from '../../model/kernels/a-3.6.ts';
import { B } from '../../model/kernels/b-4.10-rc1.ts';
import { C } from '../../model/kernels/c-proposed-flag.ts';
import { CURRENT_IS_TASK } from '../../model/kernels/current-is-task.ts';
import { D } from '../../model/kernels/d-4.10.ts';
import { G } from '../../model/kernels/g-5.12.ts';
import { H } from '../../model/kernels/h-6.3.ts';
import { I_MM } from '../../model/kernels/i-iommufd.ts';

export interface Strategy {
  readonly id: string;
  /** How it finds mm, limit and capability. */
  readonly what: string;
  readonly variant: Variant;
}

export const STRATEGIES: readonly Strategy[] = [
  { id: 'S0', what: 'always current (3.6 - 4.9)', variant: A },
  { id: 'S1', what: 'always get_task_mm(dma->task) (4.10-rc1)', variant: B },
  { id: 'S2', what: 'a flag from the caller (first version of the patch)', variant: C },
  { id: 'S3', what: 'current == dma->task (proposed in its review)', variant: CURRENT_IS_TASK },
  { id: 'S4', what: 'task->mm == current->mm (4.10 - 4.17)', variant: D },
  { id: 'S5', what: 'async flag, leader, stored capability (4.18 - 6.2)', variant: G },
  { id: 'S6', what: 'stored mm and async flag (6.3 on)', variant: H },
  { id: 'S7', what: 'source_mm == current->mm, all stored (iommufd)', variant: I_MM },
];

/** What is done in a context. */
export type Act = 'map' | 'unmap' | 'pin' | 'attach' | 'close';

export interface CallingContext {
  readonly id: string;
  /** For people, short. */
  readonly what: string;
  readonly act: Act;
  /** What is done under a strategy without mdev pins, where the question still makes sense. */
  readonly actOf?: Readonly<Record<string, Act>>;
}

/** iommufd's drivers pin by the routine that fills a domain, so there attaching one stands for the pin. */
const PIN = { act: 'pin', actOf: { S7: 'attach' } } as const;

export const CONTEXTS: readonly CallingContext[] = [
  { id: '1', what: 'mapping thread, MAP', act: 'map' },
  { id: '2', what: 'sibling, UNMAP', act: 'unmap' },
  { id: '2b', what: 'vCPU thread, pin', ...PIN },
  { id: '2b own', what: 'mapping vCPU, pin', ...PIN },
  { id: '3', what: 'kernel thread, pin', act: 'pin', actOf: { S0: 'close', S7: 'attach' } },
  { id: '4', what: 'kthread with mm, pin', act: 'pin', actOf: { S0: 'map', S7: 'attach' } },
  { id: '5', what: 'interrupt, pin', act: 'pin', actOf: { S0: 'map', S7: 'attach' } },
  { id: '6', what: 'other process, MAP', act: 'map' },
  { id: '6b', what: 'other process, UNMAP', act: 'unmap' },
  { id: '6b close', what: 'other process, close', act: 'close' },
  { id: '6c', what: 'other process attach', act: 'attach' },
  { id: '7', what: "owner exec'ed, UNMAP", act: 'unmap' },
  { id: '8', what: 'dead mapper, UNMAP', act: 'unmap' },
  { id: '8 pin', what: 'dead mapper, pin', ...PIN },
  { id: '8 close', what: 'dead mapper, close', act: 'close' },
  { id: '8 leader', what: 'dead leader, UNMAP', act: 'unmap' },
  { id: '9', what: 'CLONE_VM child, pin', act: 'pin', actOf: { S0: 'map', S7: 'attach' } },
];
