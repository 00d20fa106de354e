"""Daemons that wait for each other, hang, or die again and again, so that an observer has something to see."""

import time
from pathlib import Path

import anyio

from geartrain import Caller, Calls, Context, Daemon, ReceiveStream, SendStream
from tests.walks.parts import Frame, misbehave


class Greedy(Daemon):
    """Sends all it has before it takes what comes back."""

    def __init__(self, out: SendStream[Frame], back: ReceiveStream[Frame]) -> None:
        self.out = out
        self.back = back

    async def run(self, ctx: Context) -> None:
        for number in range(100):
            await self.out.send(Frame(number))
        async for _ in self.back:
            pass


class Generous(Daemon):
    """For each item it gets it gives two."""

    def __init__(self, frames: ReceiveStream[Frame], out: SendStream[Frame]) -> None:
        self.frames = frames
        self.out = out

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            await self.out.send(frame)
            await self.out.send(frame)


class Modest(Daemon):
    """Begins when somebody else has."""

    def __init__(self, frames: ReceiveStream[Frame], out: SendStream[Frame]) -> None:
        self.frames = frames
        self.out = out

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            await self.out.send(frame)


class Seldom(Daemon):
    """Asks once, and then nothing for as long as anybody looks."""

    def __init__(self, svc: Caller[Frame, Frame]) -> None:
        self.svc = svc

    async def run(self, ctx: Context) -> None:
        await self.svc.call(Frame(1))
        await anyio.sleep_forever()


class Answers(Daemon):
    def __init__(self, calls: Calls[Frame, Frame]) -> None:
        self.calls = calls

    async def run(self, ctx: Context) -> None:
        async for call in self.calls:
            async with call:
                await call.reply(call.request)


class Lingers(Daemon):
    """In one of its cycles it stays until a file is there: its loop goes on, or stands still."""

    def __init__(self, until: str, blocks: bool = False) -> None:
        self.until = Path(until)
        self.blocks = blocks

    async def run(self, ctx: Context) -> None:
        cycle = 0
        async for _ in ctx.clock.every(0.002):
            cycle += 1
            while cycle == 20 and not self.until.exists():
                if self.blocks:
                    stand_still_a_moment()
                else:
                    await anyio.sleep(0.01)


def stand_still_a_moment() -> None:
    time.sleep(0.01)


class Stumbles(Daemon):
    """Dies in each of so many lives after some cycles."""

    def __init__(self, note: str, deaths: int, cycles: int) -> None:
        self.note = Path(note)
        self.deaths = deaths
        self.cycles = cycles

    async def run(self, ctx: Context) -> None:
        lives = len(self.note.read_bytes()) if self.note.exists() else 0
        with self.note.open("ab") as note:
            note.write(b"x")
        done = 0
        async for _ in ctx.clock.every(0.001):
            done += 1
            if done == self.cycles and lives < self.deaths:
                misbehave("die")
