"""Daemons that misbehave in one of their phases, and one that tells that it has cleaned up."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.lowlevel

from geartrain import Context, Daemon, ReceiveStream, SendStream, daemon
from tests.walks.parts import Frame, Sink, is_first_time, misbehave


class Odd(Daemon):
    """Hands on what it gets. In one phase it does what it is told, the first time; in `run` at item 10."""

    def __init__(self, frames: ReceiveStream[Frame], out: SendStream[Frame], note: str, phase: str, does: str) -> None:
        self.frames = frames
        self.out = out
        self.note = Path(note)
        self.phase = phase
        self.does = does

    def _act(self, phase: str) -> None:
        if phase == self.phase and is_first_time(self.note):
            act(self.does)

    async def on_start(self, ctx: Context) -> None:
        self._act("on_start")

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            if frame.number == 10:
                self._act("run")
            await self.out.send(frame)

    async def on_stop(self, ctx: Context) -> None:
        self._act("on_stop")


def act(does: str) -> None:
    match does:
        case "group":
            raise ExceptionGroup("two at once", [OSError("the lens is dirty"), ValueError("and scratched")])
        case "leave":
            sys.exit()
        case "slip away":
            os._exit(0)
        case _:
            misbehave(does)


class TidySink(Sink):
    """Says in a file that it has cleaned up."""

    def __init__(self, frames: ReceiveStream[Frame], ledger: str, note: str) -> None:
        super().__init__(frames, ledger)
        self.note = note

    async def on_stop(self, ctx: Context) -> None:
        async with await anyio.open_file(self.note, "a") as file:
            await file.write("tidy\n")


class NeverReady(Daemon):
    """Its `on_start` fails each time, and counts."""

    def __init__(self, note: str) -> None:
        self.note = Path(note)

    async def on_start(self, ctx: Context) -> None:
        with self.note.open("a") as file:
            file.write("x")
        raise OSError(f"no such camera, said {self.note.stat().st_size} times")

    async def run(self, ctx: Context) -> None: ...


class Grandparent(Daemon):
    """Starts a process that leaves its session, and hands on what it gets."""

    def __init__(self, frames: ReceiveStream[Frame], out: SendStream[Frame]) -> None:
        self.frames = frames
        self.out = out

    async def on_start(self, ctx: Context) -> None:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)  # noqa: ASYNC220  # it waits for nothing

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            await self.out.send(frame)


@daemon
async def talker(ctx: Context, lines: int) -> None:
    """Prints more than its disk holds."""
    for number in range(lines):
        sys.stdout.write(f"{number:07}\n")
        if number % 1000 == 0:
            await anyio.lowlevel.checkpoint()
