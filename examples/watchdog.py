"""A robot that stops when it cannot see: a lidar that stalls, a watchdog that hears of it, wheels that obey.

    lidar 50 Hz --ranges--> planner --speeds--> wheels
                   |                              ^
                   `- stale for 150 ms? --> watchdog --orders--'      stop; and after half a second without fault, go on

Nobody asks the lidar whether it is well: the channel says `stale_after`, and the clock of the pipeline, which nobody
has declared, tells the watchdog. It waits for the half second by a deadline, and calls that off when the lidar stalls
again.

    watchdog.py                  about five seconds in real time, in processes
    watchdog.py --virtual        the same in virtual time, at once and exactly
    watchdog.py --loop trio
"""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import anyio
import msgspec
from msgspec import Struct

from geartrain import (
    Appointment,
    Context,
    Daemon,
    Deadlines,
    Pipeline,
    Planes,
    ReceiveStream,
    SendStream,
    SimClock,
    daemon,
    run,
)
from geartrain.errors import EndOfStream
from geartrain.recipes import select

Loop = Literal["asyncio", "trio"]

PERIOD_S = 0.02
STALE_AFTER_S = 0.15
CALM_S = 0.5

# Before which reading the mirror of the lidar is stuck, and for how long; the second time while nobody trusts it yet.
STALLS_S = {50: 0.8, 60: 0.3}
READINGS = 150


class Order(Struct):
    """What the watchdog says to the wheels."""

    go: bool
    because: str


class Moment(Struct):
    """When the wheels began to turn at another speed, in seconds since they first did, and why."""

    at_s: float
    speed: float
    because: str


# -- the daemons ----------------------------------------------------------------------------------------------------


@daemon
async def lidar(ctx: Context, ranges: SendStream[float], readings: int) -> None:
    for number in range(readings):
        await ctx.clock.sleep(PERIOD_S + STALLS_S.get(number, 0))
        await ranges.send(2.0)


@daemon
async def planner(ctx: Context, ranges: ReceiveStream[float], speeds: SendStream[float]) -> None:
    """As fast as there is room. It does not notice that there is nothing new to see."""
    async for metres in ranges:
        await speeds.send(metres / 2)


class Watchdog(Daemon):
    """Stops the wheels at once; lets them go on when all was well for a while."""

    def __init__(self, planes: Planes, deadlines: Deadlines, orders: SendStream[Order]) -> None:
        self.planes = planes
        self.deadlines = deadlines
        self.orders = orders
        self.calm: Appointment | None = None

    async def run(self, ctx: Context) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.go_on)
            async for change in self.planes:
                if change.stale:
                    await self.stop(f"nothing on {change.channel} for {change.age_ns / 1e9:.2f} s")
                else:
                    self.calm = await self.deadlines.schedule_after(CALM_S, name="calm")
            tasks.cancel_scope.cancel()

    async def stop(self, because: str) -> None:
        await self.orders.send(Order(go=False, because=because))
        if self.calm is not None:
            await self.deadlines.cancel(self.calm)

    async def go_on(self) -> None:
        async for _ in self.deadlines:
            await self.orders.send(Order(go=True, because=f"all was well for {CALM_S:g} s"))


@daemon
async def wheels(ctx: Context, orders: ReceiveStream[Order], speeds: ReceiveStream[float], trace: Path) -> None:
    """Turn as fast as the planner says, if the watchdog lets them. Each change is written down."""
    inputs: list[ReceiveStream[Any]] = [orders, speeds]
    wanted, order = 0.0, Order(go=True, because="the planner sees")
    began_s: float | None = None
    turning = 0.0
    with trace.open("ab") as file:
        while True:
            try:
                _, news = await select(*inputs)
            except EndOfStream:
                return
            if isinstance(news, Order):
                order = news
            else:
                wanted = news
            began_s = ctx.clock.now() if began_s is None else began_s
            if turning != (turning := wanted if order.go else 0.0):
                moment = Moment(round(ctx.clock.now() - began_s, 3), turning, order.because)
                file.write(msgspec.json.encode(moment) + b"\n")


# -- the pipeline, and what came of it --------------------------------------------------------------------------------


def pipeline(trace: Path, loop: Loop, readings: int) -> Pipeline:
    p = Pipeline("robot", backend=loop)
    p.add(lidar, config={"readings": readings})
    p.add(planner)
    dog = p.add(Watchdog, name="watchdog")
    p.add(wheels, config={"trace": trace})
    p.connect("lidar.ranges", "planner.ranges", stale_after=STALE_AFTER_S)
    p.connect("planner.speeds", "wheels.speeds", policy="latest")
    p.connect(dog.orders, "wheels.orders")
    return p


def moments(loop: Loop = "asyncio", readings: int = READINGS, *, virtual: bool = True) -> list[Moment]:
    """What the wheels have done."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        if virtual:
            run(pipeline(trace, loop, readings), in_process=True, clock=SimClock())
        else:
            run(pipeline(trace, loop, readings))
        return [msgspec.json.decode(line, type=Moment) for line in trace.read_bytes().splitlines()]


def summary(seen: Sequence[Moment]) -> str:
    lines = [f"{moment.at_s:5.2f} s  {moment.speed:g} m/s  {moment.because}" for moment in seen]
    stops = [moment for moment in seen if not moment.speed]
    still_s = sum(after.at_s - stop.at_s for stop, after in pairwise(seen) if not stop.speed)
    return "\n".join([*lines, f"It stopped {len(stops)} time(s), and stood still for {still_s:.2f} s."])


def main() -> None:
    parser = argparse.ArgumentParser(description="A robot that stops when it cannot see.")
    parser.add_argument("--virtual", action="store_true", help="in one process and in virtual time")
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--readings", type=int, default=READINGS, help="how many, 50 in a second")
    said = parser.parse_args()
    # That a channel is stale is told by the summary.
    logging.getLogger("geartrain").setLevel(logging.ERROR)
    print(summary(moments(said.loop, said.readings, virtual=said.virtual)))


if __name__ == "__main__":
    main()
