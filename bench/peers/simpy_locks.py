"""The peer of virtual.bench.ts: the same contended loop in SimPy. Arguments: actors, simulated ns, ns before, in and after
the lock. Prints JSON."""
import json
import sys
import time

import simpy


def actor(env, lock, done, before, hold, after):
    while True:
        yield env.timeout(before)
        with lock.request() as request:
            yield request
            yield env.timeout(hold)
        yield env.timeout(after)
        done[0] += 1


actors, until, before, hold, after = map(int, sys.argv[1:6])
env = simpy.Environment()
locks = [simpy.Resource(env) for _ in range(max(1, actors // 4))]
done = [0]
for n in range(actors):
    env.process(actor(env, locks[n % len(locks)], done, before, hold, after))
start = time.perf_counter()
env.run(until=until)
print(json.dumps({"chunks": done[0], "seconds": time.perf_counter() - start, "version": simpy.__version__}))
