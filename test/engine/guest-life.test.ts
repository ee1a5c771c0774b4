import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Direct } from '../../src/engine/direct.ts';
import { type GuestEnd, GuestLives, type LifeDriver, LiveGuest } from '../../src/engine/guest-life.ts';
import { resolveVariant } from '../../src/model/kernels/index.ts';
import { addLockedVm } from '../../src/model/locked-vm.ts';
import { doExit } from '../../src/model/paths/exit.ts';
import { World } from '../model/world.ts';

/** A driver whose clock and updates the test moves by hand. It keeps what it is told to do. */
class Hand implements LifeDriver<LiveGuest> {
  readonly world = new World('D', { tasks: ['main', 'child'] });
  readonly lives = new GuestLives<LiveGuest>(this.world.arena, this.world.oracle, this);
  readonly guest = new LiveGuest(this.world.arena, this.world.plan, this.world.guest);
  readonly told: string[] = [];
  clockNs = 0;
  updatesUnderWay = 0;

  constructor() {
    this.lives.begin(this.guest);
  }

  nowNs(): number {
    return this.clockNs;
  }
  atRest({ restNs }: LiveGuest): void {
    this.told.push(`at rest at ${restNs}`);
  }
  isQuiet(): boolean {
    return this.updatesUnderWay === 0;
  }
  exit({ settledNs }: LiveGuest): void {
    this.told.push(`exit at ${settledNs}`);
  }
  gone(_guest: LiveGuest, atNs: number): void {
    this.told.push(`gone at ${atNs}`);
  }
  ended(_guest: LiveGuest, state: GuestEnd, endNs: number): void {
    this.told.push(`${state} at ${endNs}`);
  }

  /** Each actor of the guest ends what it does, `atNs` and later by 10 ns each. */
  actorsEnd(atNs: number): void {
    this.guest.built.actors.forEach((_, i) => this.lives.actorEnded(this.guest, atNs + 10 * i));
  }

  actorsExit(atNs: number): void {
    const direct = new Direct(this.world.arena, resolveVariant('D'));
    for (const { task } of this.guest.built.actors) direct.run(doExit(direct.as(task)));
    this.actorsEnd(atNs);
  }

  get violated(): readonly string[] {
    return this.world.oracle.violations.map(({ invariant }) => invariant);
  }
}

describe('the life of a guest', () => {
  it('runs, settles, is judged, exits and is taken down, in this order', () => {
    const hand = new Hand();
    const { lives, guest } = hand;
    const { mms } = guest.built;
    assert.equal(mms.length, 2);
    hand.updatesUnderWay = 1;

    lives.actorEnded(guest, 100);
    assert.deepEqual([guest.stage, lives.settling(mms[0]!), hand.told], ['running', undefined, []]);
    lives.actorEnded(guest, 120);
    assert.deepEqual([guest.stage, hand.told], ['settling', ['at rest at 120']]);
    assert.deepEqual(
      mms.map((mm) => lives.settling(mm)),
      [guest, guest],
    );

    lives.settle(guest);
    assert.deepEqual([guest.stage, lives.checked], ['settling', 0], 'an update is under way: nothing can be judged');
    hand.updatesUnderWay = 0;
    hand.clockNs = 150;
    lives.settle(guest);
    assert.deepEqual([guest.stage, lives.checked], ['exiting', 2], 'each address space is judged');
    lives.settle(guest);
    assert.equal(lives.checked, 2, 'once');
    assert.equal(lives.settling(mms[0]!), undefined);

    hand.actorsExit(200);
    assert.deepEqual(lives.states(3), { pending: 3, running: 1, finished: 0, stopped: 0, failed: 0 });
    lives.end(guest, 210);
    assert.deepEqual(hand.told, ['at rest at 120', 'exit at 150', 'gone at 210', 'completed at 210']);
    assert.deepEqual(lives.states(3), { pending: 3, running: 0, finished: 1, stopped: 0, failed: 0 });
    assert.deepEqual(hand.violated, []);
    const { arena } = hand.world;
    assert.deepEqual([arena.live('mm'), arena.live('task'), arena.live('actor'), arena.live('user')], [0, 0, 0, 0]);
  });

  it('is not over before it is settled, whatever its driver says of the time', () => {
    const hand = new Hand();
    hand.actorsEnd(100);
    hand.clockNs = 50;
    hand.lives.settle(hand.guest);
    hand.actorsExit(60);
    hand.lives.end(hand.guest, 70);
    assert.deepEqual(hand.told, ['at rest at 110', 'exit at 110', 'gone at 70', 'completed at 110']);
  });

  it('ends as failed by its error, else as stopped when the run was', () => {
    for (const [error, stopped, state] of [
      [null, true, 'stopped'],
      ['no memory', false, 'failed'],
      ['no memory', true, 'failed'],
    ] as const) {
      const hand = new Hand();
      hand.guest.error = error;
      hand.actorsEnd(0);
      hand.lives.settle(hand.guest);
      hand.actorsExit(0);
      hand.lives.stopped = stopped;
      hand.lives.end(hand.guest, 10);
      assert.equal(hand.told.at(-1), `${state} at 10`);
      assert.equal(hand.lives.ended[state], 1);
    }
  });

  it('is judged by what its account says after the last update, not before', () => {
    for (const [pagesLeft, violated] of [
      [0, []],
      [1, ['balance']],
    ] as const) {
      const hand = new Hand();
      const [mm] = hand.guest.built.mms;
      addLockedVm(hand.world.arena, mm!, 8);
      hand.actorsEnd(0);
      addLockedVm(hand.world.arena, mm!, pagesLeft - 8);
      hand.lives.settle(hand.guest);
      assert.equal(hand.guest.lockedVmAfter, BigInt(pagesLeft));
      assert.deepEqual(hand.violated, violated);
    }
  });
});
