"""One side of one figure about time: how late calls are, and what deadlines cost. Prints one number.

    python deadlines.py late   geartrain asyncio 5 50   ms of lateness at that percentile: 5,000 deadlines, a storm
    python deadlines.py late   loop      trio    5 99   the same job on the loop's own timers
    python deadlines.py every  geartrain trio    5 50   us of lateness of a 1 kHz loop at that percentile
    python deadlines.py every  loop      trio    5 50   the same loop on the loop's own sleep
    python deadlines.py insert geartrain asyncio 1 0    us for an insert and its cancel at 100,000 pending
    python deadlines.py record geartrain asyncio 1 0    ns for a sample of a histogram
    python deadlines.py idle   geartrain asyncio 2 0    how often an idle scheduler woke in that time

Whatever fires early ends the measurement: there is no figure for it.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from geartrain import (
    Channel,
    DeadlineScheduler,
    LatencyHistogram,
    ReceiveStream,
    SendStream,
    WallClock,
    mono_ns,
    open_channel,
)

DEADLINES = 5_000
LONGEST_NS = 10_000_000_000
SETTING_UP_NS = 1_000_000_000
PENDING = 100_000
BURST = 8
BURST_EVERY_S = 0.012
PERIOD_NS = 1_000_000
SEED = 7


def percentile(late_ns: list[int], percent: float) -> float:
    histogram = LatencyHistogram("lateness", capacity=len(late_ns))
    for ns in late_ns:
        histogram.record(ns)
    return histogram.percentile_ns(percent / 100)


def check_never_early(late_ns: list[int]) -> None:
    if min(late_ns) < 0:
        sys.exit(f"{sum(ns < 0 for ns in late_ns)} of {len(late_ns)} calls were early")


# -- a crowd of deadlines, and a storm of events -----------------------------------------------------------------------


class Crowd:
    """So many deadlines all the time: whoever is called has the next one somewhere in the ten seconds after."""

    def __init__(self, seconds: float, draw: random.Random) -> None:
        began_ns = mono_ns() + SETTING_UP_NS
        self._until_ns = began_ns + int(seconds * 1e9)
        self._draw = draw
        self.over = anyio.Event()
        self.late_ns: list[int] = []
        self.first_dues_ns = [began_ns + draw.randrange(LONGEST_NS) for _ in range(DEADLINES)]

    def next_after(self, due_ns: int) -> int:
        """It is called now; when it will be next."""
        now_ns = mono_ns()
        self.late_ns.append(now_ns - due_ns)
        if now_ns > self._until_ns:
            self.over.set()
        return now_ns + self._draw.randrange(LONGEST_NS)


async def late(library: str, loop: str, seconds: float, percent: float) -> float:
    draw = random.Random(SEED)
    channel: Channel[int] = open_channel(256)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(storm, channel.send, draw)
        tasks.start_soon(fold, channel.recv)
        crowd = Crowd(seconds, draw)
        await CROWDS[library, loop](crowd)
        tasks.cancel_scope.cancel()
    if library == "geartrain":
        check_never_early(crowd.late_ns)
    return percentile(crowd.late_ns, percent) / 1e6


async def storm(out: SendStream[int], draw: random.Random) -> None:
    while True:
        for _ in range(BURST):
            await out.send(draw.randrange(1000))
        await anyio.sleep(BURST_EVERY_S)


async def fold(inp: ReceiveStream[int]) -> None:
    state: dict[int, int] = {}
    async for event in inp:
        state[event] = state.get(event, 0) + 1


async def on_geartrain(crowd: Crowd) -> None:
    async with DeadlineScheduler() as deadlines:

        def call(due_ns: int) -> None:
            next_ns = crowd.next_after(due_ns)
            deadlines.schedule_at(next_ns, partial(call, next_ns))

        for due_ns in crowd.first_dues_ns:
            deadlines.schedule_at(due_ns, partial(call, due_ns))
        await crowd.over.wait()


async def on_asyncio(crowd: Crowd) -> None:
    loop = asyncio.get_running_loop()

    def call(due_ns: int) -> None:
        next_ns = crowd.next_after(due_ns)
        loop.call_at(next_ns / 1e9, call, next_ns)

    for due_ns in crowd.first_dues_ns:
        loop.call_at(due_ns / 1e9, call, due_ns)
    await crowd.over.wait()


async def on_trio(crowd: Crowd) -> None:
    """trio's own timer is a task that sleeps."""
    ahead_ns = int(anyio.current_time() * 1e9) - mono_ns()

    async def sleeper(due_ns: int) -> None:
        while True:
            await anyio.sleep_until((due_ns + ahead_ns) / 1e9)
            due_ns = crowd.next_after(due_ns)

    async with anyio.create_task_group() as tasks:
        for due_ns in crowd.first_dues_ns:
            tasks.start_soon(sleeper, due_ns)
        await crowd.over.wait()
        tasks.cancel_scope.cancel()


CROWDS = {
    ("geartrain", "asyncio"): on_geartrain,
    ("geartrain", "trio"): on_geartrain,
    ("loop", "asyncio"): on_asyncio,
    ("loop", "trio"): on_trio,
}


# -- one periodic loop -------------------------------------------------------------------------------------------------


async def every(library: str, loop: str, seconds: float, percent: float) -> float:
    cycles = int(seconds * 1e9 / PERIOD_NS)
    late_ns = await (by_geartrain(cycles) if library == "geartrain" else by_the_loop(cycles))
    check_never_early(late_ns)
    return percentile(late_ns, percent) / 1e3


async def by_geartrain(cycles: int) -> list[int]:
    clock = WallClock()
    late_ns: list[int] = []
    first_ns = None
    async for tick in clock.every(PERIOD_NS / 1e9):
        due_ns = round(tick * 1e9)
        late_ns.append(mono_ns() - due_ns)
        first_ns = due_ns if first_ns is None else first_ns
        # A float may be a nanosecond off; a grid that drifts is off by more and more.
        if (due_ns - first_ns + 1) % PERIOD_NS > 2:
            sys.exit(f"the grid has drifted by {(due_ns - first_ns) % PERIOD_NS} ns after {len(late_ns)} cycles")
        if len(late_ns) == cycles:
            break
    return late_ns


async def by_the_loop(cycles: int) -> list[int]:
    """The same grid, and whoever is early sleeps again."""
    late_ns: list[int] = []
    due_ns = mono_ns()
    while len(late_ns) < cycles:
        due_ns += PERIOD_NS
        while (left_ns := due_ns - mono_ns()) > 0:
            await anyio.sleep(left_ns / 1e9)
        late_ns.append(mono_ns() - due_ns)
    return late_ns


# -- what things cost --------------------------------------------------------------------------------------------------


def nothing() -> None: ...


async def insert(library: str, loop: str, seconds: float, percent: float) -> float:
    async with DeadlineScheduler() as deadlines:
        far_ns = mono_ns() + 3600 * 10**9
        draw = random.Random(SEED)
        for _ in range(PENDING):
            deadlines.schedule_at(far_ns + draw.randrange(10**12), nothing)
        dues_ns = [far_ns + draw.randrange(10**12) for _ in range(10_000)]

        def batch() -> list[bool]:
            return [deadlines.schedule_at(due_ns, nothing).cancel() for due_ns in dues_ns]

        return per_call(batch, seconds, 1e6)
    raise AssertionError("the block passes errors on")


async def record(library: str, loop: str, seconds: float, percent: float) -> float:
    draw = random.Random(SEED)
    samples = [int(draw.lognormvariate(11, 1)) for _ in range(10_000)]
    histogram = LatencyHistogram("samples")

    def batch() -> list[int]:
        record = histogram.record
        for ns in samples:
            record(ns)
        return samples

    return per_call(batch, seconds, 1e9)


def per_call(batch: Callable[[], list[Any]], seconds: float, unit: float) -> float:
    """What one call of a batch takes, all in all."""
    batch()
    done = 0
    # Of this process only: what others take meanwhile is not what a call costs.
    began = time.process_time()
    while (took := time.process_time() - began) < seconds:
        done += len(batch())
    return took / done * unit


async def idle(library: str, loop: str, seconds: float, percent: float) -> float:
    async with DeadlineScheduler() as deadlines:
        deadlines.schedule_after(3600, nothing)
        await anyio.sleep(seconds)
    return deadlines.wake_count


WORKS = {"late": late, "every": every, "insert": insert, "record": record, "idle": idle}


def main(work: str, library: str, loop: Any, seconds: str, percent: str) -> None:
    print(anyio.run(WORKS[work], library, loop, float(seconds), float(percent), backend=loop))


if __name__ == "__main__":
    main(*sys.argv[1:])
