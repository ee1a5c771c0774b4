"""The peer of virtual.bench.ts: the same contended loop in SimPy. Arguments: actors, simulated ns. Prints JSON."""
import json
import sys
import time

import simpy


def actor(env, lock, done):
    while True:
        yield env.timeout(15360)
        with lock.request() as request:
            yield request
            yield env.timeout(20)
        yield env.timeout(200)
        done[0] += 1


actors, until = int(sys.argv[1]), int(sys.argv[2])
env = simpy.Environment()
locks = [simpy.Resource(env) for _ in range(max(1, actors // 4))]
done = [0]
for n in range(actors):
    env.process(actor(env, locks[n % len(locks)], done))
start = time.perf_counter()
env.run(until=until)
print(json.dumps({"chunks": done[0], "seconds": time.perf_counter() - start, "version": simpy.__version__}))
