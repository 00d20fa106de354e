"""Daemons whose doings are to be seen from outside."""

import time

import anyio

from geartrain import Context, Daemon, ReceiveStream
from tests.walks.parts import Frame, misbehave


class Beating(Daemon):
    """Does nothing, again and again; in one of its cycles it does what it is told, in its first life."""

    def __init__(self, cycles: int, note: str = "", at: int = -1, does: str = "die") -> None:
        self.cycles = cycles
        self.note = note
        self.at = at
        self.does = does

    async def run(self, ctx: Context) -> None:
        done = 0
        async for _ in ctx.clock.every(0.002):
            done += 1
            if done == self.at and not await anyio.Path(self.note).exists():
                await anyio.Path(self.note).touch()
                misbehave(self.does)
            if done == self.cycles:
                return


def stand_still() -> None:
    time.sleep(1000)


class Holds(Daemon):
    """Takes items until it has this one, and then keeps it in hand: its loop goes on, or stands still."""

    def __init__(self, frames: ReceiveStream[Frame], at: int, blocks: bool = False) -> None:
        self.frames = frames
        self.at = at
        self.blocks = blocks

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            if frame.number == self.at:
                if self.blocks:
                    stand_still()
                await anyio.sleep_forever()


class Overruns(Daemon):
    """Its first cycle takes so long; those after it take nothing, and neither does what runs in their place."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s

    async def run(self, ctx: Context) -> None:
        takes_s = self.takes_s
        async for _ in ctx.clock.every(0.002):
            await anyio.sleep(takes_s)
            takes_s = 0
