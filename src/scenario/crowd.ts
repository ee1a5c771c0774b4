/** How many threads one emulated host of a simulation can have, and how many hosts a scenario needs for its guests. */
import { HOST_THREADS_MAX } from '../engine/virtual/host.ts';
import type { GuestClass } from './schema.ts';

type Guests = readonly Pick<GuestClass, 'count' | 'actors'>[];

/** Threads of a guest: its actors, and the first thread of its process where no actor is it. */
function threadsOf({ actors }: Guests[number]): number {
  const own = actors.reduce((sum, { count }) => sum + count, 0);
  return actors.some(({ task, chance }) => task === 'main' && chance === 1) ? own : own + 1;
}

/** Threads on the fullest of so many hosts, to which guests are dealt out in turn. */
function mostThreads(guests: Guests, hosts: number): number {
  const threads = new Float64Array(hosts);
  let first = 0;
  for (const guest of guests) {
    const each = threadsOf(guest);
    const rest = guest.count % hosts;
    for (let host = 0; host < hosts; host += 1) {
      const turn = (host - (first % hosts) + hosts) % hosts;
      threads[host] = (threads[host] as number) + each * (Math.floor(guest.count / hosts) + (turn < rest ? 1 : 0));
    }
    first += guest.count;
  }
  return threads.reduce((most, n) => Math.max(most, n), 0);
}

/** What is wrong when one of the hosts has more threads than a host can have; null where all fit. */
export function crowdedHost(guests: Guests, hosts: number): { readonly message: string; readonly hint: string } | null {
  const most = mostThreads(guests, hosts);
  if (most <= HOST_THREADS_MAX) return null;
  const fewer = 'use fewer actors in each guest';
  const message = `${most} threads on one emulated host are too many; the maximum is ${HOST_THREADS_MAX}`;
  if (guests.some((guest) => threadsOf(guest) > HOST_THREADS_MAX)) return { message, hint: fewer };
  const total = guests.reduce((sum, guest) => sum + guest.count * threadsOf(guest), 0);
  let wanted = Math.ceil(total / HOST_THREADS_MAX);
  while (wanted < HOSTS_MAX && mostThreads(guests, wanted) > HOST_THREADS_MAX) wanted += 1;
  const fits = mostThreads(guests, wanted) <= HOST_THREADS_MAX;
  return { message, hint: fits ? `write host: { count: ${wanted} }, or use fewer guests` : fewer };
}

/** Hosts a scenario can have. */
const HOSTS_MAX = 10_000;
