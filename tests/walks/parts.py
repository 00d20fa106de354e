"""Daemons for pipelines of tests: they run in processes of their own, and import this file there."""

import os
import signal
import sys
import time
from pathlib import Path

import anyio
import anyio.lowlevel
from msgspec import Struct

from geartrain import Context, Daemon, ReceiveStream, SendStream, daemon


class Frame(Struct):
    number: int


class Source(Daemon):
    """Sends 0, 1, 2 ... and returns."""

    def __init__(self, out: SendStream[Frame], total: int, pause_s: float = 0) -> None:
        self.out = out
        self.total = total
        self.pause_s = pause_s

    async def run(self, ctx: Context) -> None:
        for number in range(self.total):
            await self.out.send(Frame(number))
            if self.pause_s:
                await anyio.sleep(self.pause_s)


class Middle(Daemon):
    """Hands on what it gets; at one item it does what it is told, the first time it meets it."""

    def __init__(self, frames: ReceiveStream[Frame], out: SendStream[Frame], at: int = -1, does: str = "raise") -> None:
        self.frames = frames
        self.out = out
        self.at = at
        self.does = does

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            if frame.number == self.at and not self.frames.mark.redelivered:
                misbehave(self.does)
            await self.out.send(frame)


def misbehave(how: str) -> None:
    match how:
        case "raise":
            raise OSError("the lens is dirty")
        case "exit":
            sys.exit(5)
        case "vanish":
            os._exit(6)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)


class Sink(Daemon):
    """Writes each item with its mark into a file, which outlives it; at its end it does what it is told."""

    def __init__(self, frames: ReceiveStream[Frame], ledger: str, at_its_end: str = "") -> None:
        self.frames = frames
        self.ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.at_its_end = at_its_end

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            os.write(self.ledger, f"{frame.number} {int(self.frames.mark.redelivered)}\n".encode())

    async def on_stop(self, ctx: Context) -> None:
        misbehave(self.at_its_end)


class Tidy(Daemon):
    """Waits for ever, and leaves a file when it is stopped."""

    def __init__(self, note: str) -> None:
        self.note = note

    async def run(self, ctx: Context) -> None:
        await anyio.sleep_forever()

    async def on_stop(self, ctx: Context) -> None:
        await anyio.lowlevel.checkpoint()
        await anyio.Path(self.note).write_text("tidy")


@daemon
async def loud(ctx: Context) -> None:
    raise ValueError("x" * 2_000_000)


@daemon
async def sleeper(ctx: Context, out: SendStream[Frame], how: str, at: int = 3) -> None:
    """Sends a few, and then its loop stands still, the first time."""
    for number in range(10):
        if number == at and is_first_time(Path("stuck")):
            stand_still(how)
        await out.send(Frame(number))


def is_first_time(note: Path) -> bool:
    try:
        note.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def stand_still(how: str) -> None:
    match how:
        case "spins":
            while True:
                pass
        case "sleeps":
            time.sleep(60)
        case "stops":
            os.kill(os.getpid(), signal.SIGSTOP)


class Slow(Daemon):
    """Its `on_start` takes for ever, the first time."""

    def __init__(self, note: str) -> None:
        self.note = note

    async def on_start(self, ctx: Context) -> None:
        if is_first_time(Path(self.note)):
            await anyio.sleep_forever()

    async def run(self, ctx: Context) -> None: ...


class TellsItsPid(Daemon):
    """Adds its process to a file as it starts, and hands nothing on."""

    def __init__(self, frames: ReceiveStream[Frame], note: str) -> None:
        self.frames = frames
        self.note = note

    async def on_start(self, ctx: Context) -> None:
        async with await anyio.open_file(self.note, "a") as file:
            await file.write(f"{os.getpid()}\n")

    async def run(self, ctx: Context) -> None:
        async for _ in self.frames:
            pass


@daemon
async def forever(ctx: Context, out: SendStream[Frame]) -> None:
    """Sends, and looks whether it should stop."""
    number = 0
    while not ctx.stopping:
        await out.send(Frame(number))
        number += 1
        await anyio.sleep(0.001)


@daemon
async def deaf(ctx: Context, out: SendStream[Frame]) -> None:
    """Sends once, and never looks whether it should stop."""
    await out.send(Frame(0))
    await anyio.sleep_forever()
