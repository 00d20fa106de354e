"""One side of one figure about time: how late calls are, and what deadlines cost. Prints one number.

    python deadlines.py late   geartrain asyncio 5 50   ms of lateness at that percentile, 5,000 deadlines and a storm
    python deadlines.py late   loop      trio    5 99   the same job on the loop's own timers
    python deadlines.py every  geartrain trio    5 50   us of lateness of a 1 kHz loop at that percentile
    python deadlines.py every  loop      trio    5 50   the same loop on the loop's own sleep
    python deadlines.py insert geartrain asyncio 1 0    us for an insert and its cancel at 100,000 pending
    python deadlines.py record geartrain asyncio 1 0    ns for a sample of a histogram
    python deadlines.py idle   geartrain asyncio 2 0    how often an idle scheduler woke in that time

Whatever fires early ends the measurement: there is no figure for it.
"""

import random
import sys
import time
from collections.abc import Callable
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
PENDING = 100_000
BURST = 8
BURST_EVERY_S = 0.012
PERIOD_NS = 1_000_000
SEED = 7


def percentile(late_ns: list[int], percent: float) -> float:
    if min(late_ns) < 0:
        sys.exit(f"{sum(ns < 0 for ns in late_ns)} calls were early")
    histogram = LatencyHistogram("lateness", capacity=len(late_ns))
    for ns in late_ns:
        histogram.record(ns)
    return histogram.percentile_ns(percent / 100)


# -- a crowd of deadlines, and a storm of events -----------------------------------------------------------------------


async def late(library: str, loop: str, seconds: float, percent: float) -> float:
    """Deadlines that lie anywhere in that time, while events come in bursts and are folded."""
    draw = random.Random(SEED)
    late_ns: list[int] = []
    channel: Channel[int] = open_channel(256)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(storm, channel.send, draw)
        tasks.start_soon(fold, channel.recv)
        began_ns = mono_ns() + 50_000_000
        dues_ns = [began_ns + int(draw.random() * seconds * 1e9) for _ in range(DEADLINES)]
        await CROWDS[library, loop](dues_ns, late_ns)
        tasks.cancel_scope.cancel()
    return percentile(late_ns, percent) / 1e6


async def storm(out: SendStream[int], draw: random.Random) -> None:
    while True:
        for _ in range(BURST):
            await out.send(draw.randrange(1000))
        await anyio.sleep(BURST_EVERY_S)


async def fold(inp: ReceiveStream[int]) -> None:
    state: dict[int, int] = {}
    async for event in inp:
        state[event] = state.get(event, 0) + 1


def noting(late_ns: list[int], due_ns: int, over: anyio.Event) -> Callable[[], None]:
    def call() -> None:
        late_ns.append(mono_ns() - due_ns)
        if len(late_ns) == DEADLINES:
            over.set()

    return call


async def on_geartrain(dues_ns: list[int], late_ns: list[int]) -> None:
    over = anyio.Event()
    async with DeadlineScheduler() as deadlines:
        for due_ns in dues_ns:
            deadlines.schedule_at(due_ns, noting(late_ns, due_ns, over))
        await over.wait()


async def on_asyncio(dues_ns: list[int], late_ns: list[int]) -> None:
    import asyncio

    over = anyio.Event()
    loop = asyncio.get_running_loop()
    for due_ns in dues_ns:
        # A nanosecond more than the due time at which the callback measures: floats would be early otherwise.
        loop.call_at(due_ns / 1e9, noting(late_ns, due_ns, over))
    await over.wait()


async def on_trio(dues_ns: list[int], late_ns: list[int]) -> None:
    """trio's own timer is a task that sleeps."""
    over = anyio.Event()
    clock_ahead_ns = int(anyio.current_time() * 1e9) - mono_ns()

    async def sleeper(due_ns: int) -> None:
        await anyio.sleep_until((due_ns + clock_ahead_ns) / 1e9)
        noting(late_ns, due_ns, over)()

    async with anyio.create_task_group() as tasks:
        for due_ns in dues_ns:
            tasks.start_soon(sleeper, due_ns)
        await over.wait()


CROWDS = {
    ("geartrain", "asyncio"): on_geartrain,
    ("geartrain", "trio"): on_geartrain,
    ("loop", "asyncio"): on_asyncio,
    ("loop", "trio"): on_trio,
}


# -- one periodic loop -------------------------------------------------------------------------------------------------


async def every(library: str, loop: str, seconds: float, percent: float) -> float:
    late_ns: list[int] = []
    cycles = int(seconds * 1e9 / PERIOD_NS)
    if library == "loop":
        due_ns = mono_ns()
        for _ in range(cycles):
            due_ns += PERIOD_NS
            while (left_ns := due_ns - mono_ns()) > 0:
                await anyio.sleep(left_ns / 1e9)
            late_ns.append(mono_ns() - due_ns)
    else:
        clock = WallClock()
        async for tick in clock.every(PERIOD_NS / 1e9):
            late_ns.append(mono_ns() - round(tick * 1e9))
            if len(late_ns) == cycles:
                break
    return percentile(late_ns, percent) / 1e3


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
    samples = [int(draw.lognormvariate(11, 2)) for _ in range(10_000)]
    histogram = LatencyHistogram("samples")

    def batch() -> list[None]:
        return [histogram.record(ns) for ns in samples]  # type: ignore[func-returns-value]

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
