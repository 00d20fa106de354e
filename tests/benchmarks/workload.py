"""One side of one figure, in a process of its own: prints how often per second something was done.

    python workload.py channel-64 geartrain anyio.run asyncio 0.3

The work is the same text for both libraries: only the name of what is imported differs.
"""

import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import anyio

ITEMS = 10_000
SLEEPERS = 100
ADVANCE_S = 10.0


async def per_second(batch: Callable[[], Awaitable[int]], seconds: float) -> float:
    """Do batches for that long. A batch tells how much it has done."""
    await batch()  # the interpreter specialises what it runs for the first time
    done = 0
    started = time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        done += await batch()
    return done / took


async def channel(library: ModuleType, seconds: float, *, maxsize: int) -> float:
    """One task writes, one reads; a batch is the life of one channel."""

    async def batch() -> int:
        ends = library.open_channel(maxsize)
        async with anyio.create_task_group() as group:
            group.start_soon(write, ends.send)
            group.start_soon(read, ends.recv)
        return ITEMS

    return await per_second(batch, seconds)


async def write(stream: Any) -> None:
    for number in range(ITEMS):
        await stream.send(number)
    await stream.aclose()


async def read(stream: Any) -> None:
    received = 0
    async for _ in stream:
        received += 1
    if received != ITEMS:
        sys.exit(f"{ITEMS} items were sent, and {received} received")


class Tally:
    """How often somebody woke."""

    def __init__(self) -> None:
        self.count = 0


Member = Callable[[Any, Tally], Coroutine[Any, Any, None]]


async def crowd(library: ModuleType, seconds: float, *, member: Member) -> float:
    """Many tasks wait on one virtual clock, all for the same moments."""
    clock = library.SimClock()
    woken = Tally()

    async def batch() -> int:
        before = woken.count
        await clock.advance(ADVANCE_S)
        return woken.count - before

    async with anyio.create_task_group() as group:
        for _ in range(SLEEPERS):
            group.start_soon(member, clock, woken)
        rate = await per_second(batch, seconds)
        group.cancel_scope.cancel()
    return rate


async def sleep(clock: Any, woken: Tally) -> None:
    while True:
        await clock.sleep(1.0)
        woken.count += 1


async def every(clock: Any, woken: Tally) -> None:
    async for _ in clock.every(1.0):
        woken.count += 1


async def wait_until(clock: Any, woken: Tally) -> None:
    for due in itertools.count(1.0):
        await clock.wait_until(due)
        woken.count += 1


WORKS = {
    "channel-0": partial(channel, maxsize=0),
    "channel-1": partial(channel, maxsize=1),
    "channel-64": partial(channel, maxsize=64),
    "sleep": partial(crowd, member=sleep),
    "every": partial(crowd, member=every),
    "wait_until": partial(crowd, member=wait_until),
}


def main(work: str, library_name: str, runner: str, loop: str, seconds: str) -> None:
    library = import_module(library_name)
    run = library.simulate if runner == "simulate" else anyio.run
    print(run(WORKS[work], library, float(seconds), backend=loop))


if __name__ == "__main__":
    main(*sys.argv[1:])
