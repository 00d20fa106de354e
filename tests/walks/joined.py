"""Daemons that hold what they take: joins, requests and answers. They run in processes of their own."""

from pathlib import Path

import anyio

from geartrain import Context, Daemon, ReceiveStream, SendStream
from geartrain.errors import EndOfStream
from geartrain.recipes import select
from geartrain.rules.pipeline import Mark
from tests.walks.parts import Frame, is_first_time, misbehave


class Counter(Daemon):
    """Sends every so manieth number from the first on, until the file `enough` is there; says what it has sent."""

    def __init__(self, out: SendStream[Frame], enough: str, sent: str, first: int = 0, step: int = 1) -> None:
        self.out = out
        self.enough = Path(enough)
        self.sent = Path(sent)
        self.first = first
        self.step = step

    async def run(self, ctx: Context) -> None:
        number = self.first
        while not self.enough.exists():
            await self.out.send(Frame(number))
            number += self.step
            await anyio.sleep(0.002)
        self.sent.write_text(f"{self.first} {number} {self.step}")


class Careless(Daemon):
    """Sends a few, which arrive, and a few more, with which it dies; in its next life it only says that it is well."""

    def __init__(self, out: SendStream[Frame], note: str) -> None:
        self.out = out
        self.note = Path(note)

    async def run(self, ctx: Context) -> None:
        if not is_first_time(self.note):
            await self.out.send(Frame(100))
            return
        for number in range(3):
            await self.out.send(Frame(number))
        await self.out.drain()
        for number in range(4):
            self.out.send_nowait(Frame(number))
        misbehave("die")


class Side:
    """One side of a join: what has come and has no partner yet, in the order of its coming."""

    def __init__(self, frames: ReceiveStream[Frame]) -> None:
        self.frames = frames
        self.open: dict[int, Mark] = {}
        self.first: int | None = None

    def took(self, number: int) -> None:
        self.first = number if self.first is None else min(self.first, number)
        self.open[number] = self.frames.mark

    def settle(self) -> None:
        """Done with is what came before the first that is open."""
        first = min(self.open.values(), default=None)
        last = self.frames.mark
        self.frames.done(last if first is None else Mark(first.epoch, first.sequence - 1))


class Join(Daemon):
    """Sends each number that has come on both sides. A window of each side is kept, for they come as they like."""

    def __init__(self, left: ReceiveStream[Frame], right: ReceiveStream[Frame], out: SendStream[Frame]) -> None:
        self.sides = (Side(left), Side(right))
        self.out = out
        self.joined = -1

    async def run(self, ctx: Context) -> None:
        left, right = self.sides
        try:
            while True:
                place, frame = await select(left.frames, right.frames)
                self.sides[place].took(frame.number)
                for number in sorted(left.open.keys() & right.open.keys()):
                    await self.out.send(Frame(number))
                    self.joined = max(self.joined, number)
                self.forget()
        except EndOfStream:
            assert not left.open
            assert not right.open

    def forget(self) -> None:
        """What is joined, and what the other side will never bring: an earlier life has joined it."""
        left, right = self.sides
        for side, other in ((left, right), (right, left)):
            gone = self.joined if other.first is None else max(self.joined, other.first - 1)
            side.open = {number: mark for number, mark in side.open.items() if number > gone}
            if side.first is not None:
                side.settle()


class Pairs(Daemon):
    """Joins two streams that are alike, one item of each at a time, in steps."""

    def __init__(self, left: ReceiveStream[Frame], right: ReceiveStream[Frame], out: SendStream[Frame]) -> None:
        self.left = left
        self.right = right
        self.out = out

    async def run(self, ctx: Context) -> None:
        try:
            while True:
                async with ctx.step():
                    left, right = await self.left.receive(), await self.right.receive()
                    # A death between two words can leave one side behind the other: it catches up.
                    while left.number != right.number:
                        if left.number < right.number:
                            left = await self.left.receive()
                        else:
                            right = await self.right.receive()
                    await self.out.send(left)
        except EndOfStream:
            return


class Asker(Daemon):
    """Asks about each frame, or about each so many times, and hands on the answer."""

    def __init__(
        self,
        frames: ReceiveStream[Frame],
        requests: SendStream[Frame],
        replies: ReceiveStream[Frame],
        out: SendStream[Frame],
        times: int = 1,
    ) -> None:
        self.times = times
        self.frames = frames
        self.requests = requests
        self.replies = replies
        self.out = out

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            for _ in range(self.times):
                await self.requests.send(frame)
            # What was asked in an earlier life is answered too, and not wanted any more.
            async for reply in self.replies:
                if reply.number == frame.number:
                    break
            await self.out.send(frame)


class Answerer(Daemon):
    """Answers every request."""

    def __init__(self, requests: ReceiveStream[Frame], replies: SendStream[Frame]) -> None:
        self.requests = requests
        self.replies = replies

    async def run(self, ctx: Context) -> None:
        async for request in self.requests:
            await self.replies.send(request)


class Poisoned(Daemon):
    """Hands on what it gets, and dies of some, each time."""

    def __init__(self, frames: ReceiveStream[Frame], out: SendStream[Frame], poison: list[int]) -> None:
        self.frames = frames
        self.out = out
        self.poison = poison

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            if frame.number in self.poison:
                misbehave("die")
            await self.out.send(frame)


async def looked_at(frame: Frame) -> Frame:
    """A job of a pool, which takes its time."""
    await anyio.sleep(0.001 * (frame.number % 5))
    return frame


async def refused_at_thirty(frame: Frame) -> Frame:
    if frame.number == 30:
        raise ValueError("thirty is too much")
    return frame
