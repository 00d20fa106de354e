"""Daemons to be looked at: those of `examples/vision.py`, with a detector that is slow as long as there is a file."""

import sys
import time
from pathlib import Path

import anyio
from msgspec import Struct

from geartrain import Context, Daemon, ReceiveStream, SendStream


class Frame(Struct):
    number: int
    pixels: bytes


class Seen(Struct):
    frame: int
    where: int


class Camera(Daemon):
    """Fifty frames a second, and each of them costs it some work."""

    def __init__(self, frames: SendStream[Frame]) -> None:
        self.frames = frames

    async def run(self, ctx: Context) -> None:
        number = 0
        async for _ in ctx.clock.every(0.02):
            until = time.monotonic() + 0.001 + number % 7 * 0.0002
            while time.monotonic() < until:
                pass
            await self.frames.send(Frame(number, bytes(1000)))
            number += 1


class Detector(Daemon):
    def __init__(self, frames: ReceiveStream[Frame], objects: SendStream[Seen], slow: Path) -> None:
        self.frames = frames
        self.objects = objects
        self.slow = slow

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            is_slow = self.slow.exists()
            if is_slow and frame.number % 10 == 0:
                sys.stderr.write(f"frame {frame.number} takes long\n")
            await anyio.sleep(0.04 if is_slow else 0.004)
            await self.objects.send(Seen(frame.number, frame.number * 7 % 40))
            if frame.number % 25 == 0:
                sys.stdout.write(f"frame {frame.number}: something at {frame.number * 7 % 40}\n")
                sys.stdout.flush()


class Tracker(Daemon):
    def __init__(self, objects: ReceiveStream[Seen], tracks: SendStream[Seen]) -> None:
        self.objects = objects
        self.tracks = tracks

    async def run(self, ctx: Context) -> None:
        async for seen in self.objects:
            await self.tracks.send(seen)


class Album(Daemon):
    def __init__(self, tracks: ReceiveStream[Seen]) -> None:
        self.tracks = tracks

    async def run(self, ctx: Context) -> None:
        async for _ in self.tracks:
            pass
