"""Daemons with deadlines, for pipelines of tests: they run in processes of their own, and write down what came."""

import os
import random

import anyio

from geartrain import Context, Daemon, Deadlines, Fired, Planes, ReceiveStream, SendStream
from tests.walks.calling import Book
from tests.walks.parts import misbehave


class Setter(Daemon):
    """Sets so many deadlines, `gap_s` apart, and one periodic; writes down each that comes, until it has had all.

    It says in its ledger when it begins, so that a test knows when to do something to the clock.
    """

    def __init__(self, deadlines: Deadlines, ledger: str, total: int, gap_s: float) -> None:
        self.deadlines = deadlines
        self.ledger = Book(ledger)
        self.total = total
        self.gap_s = gap_s

    async def run(self, ctx: Context) -> None:
        began_ns = ctx.clock.now_ns()
        for number in range(self.total):
            await self.deadlines.schedule_at(began_ns + int((number + 1) * self.gap_s * 1e9), name=str(number))
        doomed = await self.deadlines.schedule_after(self.total * self.gap_s, name="cancelled")
        ticks = await self.deadlines.schedule_every(self.gap_s, name="tick")
        await self.deadlines.cancel(doomed)
        self.ledger.write("begins")
        left = self.total
        slots = 0
        async for fired in self.deadlines:
            assert fired.fired_ns >= fired.due_ns
            if fired.number == ticks.number:
                slots += 1 + fired.missed
            else:
                left -= 1
                self.ledger.write(fired.name, fired.late_ns // 1_000_000)
            if left == 0 and slots >= self.total:
                break
        stats = self.deadlines.deadline_stats()
        self.ledger.write("slots", slots)
        self.ledger.write("stats", stats.scheduled, stats.cancelled, stats.pending, stats.repeated)


class Mortal(Daemon):
    """Its first life sets deadlines and dies; the next one writes down what comes until its own."""

    def __init__(self, deadlines: Deadlines, ledger: str, does: str) -> None:
        self.deadlines = deadlines
        self.is_first = not os.path.exists(ledger)
        self.ledger = Book(ledger)
        self.does = does

    async def run(self, ctx: Context) -> None:
        if self.is_first:
            for number in range(5):
                await self.deadlines.schedule_after(30, name=f"first {number}")
            await self.deadlines.schedule_after(0.02, name="soon")
            async for _ in self.deadlines:
                misbehave(self.does)
        await self.deadlines.schedule_after(0.02, name="second")
        async for fired in self.deadlines:
            self.ledger.write("fired", fired.name)
            if fired.name == "second":
                break


class Sensor(Daemon):
    """Sends a number through each output all the time; but after the fifth it stands still until a file is there."""

    def __init__(self, outs: list[SendStream[int]], goes_on: str) -> None:
        self.outs = outs
        self.goes_on = goes_on

    async def run(self, ctx: Context) -> None:
        number = 0
        while not ctx.stopping:
            for out in self.outs:
                await out.send(number)
            number += 1
            await anyio.sleep(0.005)
            while number == 5 and not await anyio.Path(self.goes_on).exists():
                await anyio.sleep(0.002)


class Taker(Daemon):
    """Takes what comes."""

    def __init__(self, numbers: ReceiveStream[int]) -> None:
        self.numbers = numbers

    async def run(self, ctx: Context) -> None:
        async for _ in self.numbers:
            pass


class Watchdog(Daemon):
    """Writes down which channels go stale and are fresh again."""

    def __init__(self, planes: Planes, ledger: str) -> None:
        self.planes = planes
        self.ledger = Book(ledger)

    async def run(self, ctx: Context) -> None:
        async for change in self.planes:
            self.ledger.write("stale" if change.stale else "fresh", change.channel)


class Gambler(Daemon):
    """Sets deadlines at random and writes down what it set and what came; killed, its next life begins from nothing."""

    def __init__(self, deadlines: Deadlines, ledger: str, for_s: float) -> None:
        self.deadlines = deadlines
        self.ledger = Book(ledger)
        self.for_s = for_s
        self.left = 0

    async def run(self, ctx: Context) -> None:
        until_s = ctx.clock.now() + self.for_s
        while ctx.clock.now() < until_s:
            for _ in range(random.randrange(30)):
                made = await self.deadlines.schedule_after(random.choice([0, 0.01, 0.1, 0.5, 1]), name=str(os.getpid()))
                self.ledger.write("set", os.getpid(), made.number)
                self.left += 1
            await ctx.clock.sleep(0.01)
            while self.deadlines.has_item():
                self.take(self.deadlines.receive_nowait())
        while self.left:
            self.take(await self.deadlines.receive())
        self.ledger.write("done", os.getpid())

    def take(self, fired: Fired) -> None:
        assert fired.name == str(os.getpid())
        self.ledger.write("came", os.getpid(), fired.number)
        self.left -= 1
