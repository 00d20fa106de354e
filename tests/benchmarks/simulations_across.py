"""One process of a figure about virtual time over many processes.

    python simulations_across.py 2 asyncio 1.0     microsteps per second of two processes, both active in each of them

A ring of daemons, one in each process: in every microstep each is told something, and tells the next.
"""

import sys
import time

import anyio

from geartrain import Context, Supervisor
from geartrain.engine.simulated_many import simulate_in_many
from geartrain.engine.simulated_node import Outpost
from geartrain.rules.grants import Brief

STEPS = 1_000


async def ring(outpost: Outpost, processes: int, steps: int) -> float:
    """Microsteps per second, as this process has seen them."""
    here = int(outpost.process)
    before, after = str((here - 1) % processes), str((here + 1) % processes)

    async def member(_: Context) -> None:
        inp = outpost.reading_end(f"to-{here}", 8, writer=before, process=before)
        out = outpost.writing_end(f"to-{after}", 8, reader=after, process=after)
        for number in range(steps):
            await out.send(number)
            await inp.receive()

    async with Supervisor(clock=outpost.clock) as sup:
        sup.spawn(member, name=outpost.process)
        began_s = time.perf_counter()
        await outpost.clock.run()
        took_s = time.perf_counter() - began_s
    return outpost.clock.instant[1] / took_s


async def once(processes: int, loop: str) -> float:
    briefs = [
        Brief(
            process=str(number),
            main="simulations_across:ring",
            arguments=(processes, STEPS),
            backend=loop,
            path=tuple(sys.path),
        )
        for number in range(processes)
    ]
    became = await simulate_in_many(briefs)
    return min(float(its.result) for its in became.values())


def best(processes: int, loop: str, seconds: float) -> float:
    over_s = time.perf_counter() + seconds
    found = 0.0
    while found == 0 or time.perf_counter() < over_s:
        found = max(found, anyio.run(once, processes, loop))
    return found


if __name__ == "__main__":
    print(best(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
