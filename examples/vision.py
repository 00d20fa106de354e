"""Four daemons in four processes; one of them dies now and then, and not a frame is lost.

camera  --frames-->  detector  --objects-->  tracker  --tracks-->  album
                     (dies at every 20th frame)

python examples/vision.py
"""

import os
import tempfile
import time
from pathlib import Path

import anyio
import msgspec
from msgspec import Struct

from geartrain import Context, Daemon, Pipeline, ReceiveStream, RestartPolicy, SendStream, run

FRAMES = 60


class Frame(Struct):
    number: int
    pixels: bytes


class Seen(Struct):
    frame: int
    where: int


class Page(Struct):
    """What the album has of one frame, and whether it comes of work done again."""

    frame: int
    where: int
    repeated: bool


class Camera(Daemon):
    def __init__(self, frames: SendStream[Frame], total: int) -> None:
        self.frames = frames
        self.total = total

    async def run(self, ctx: Context) -> None:
        for number in range(self.total):
            await self.frames.send(Frame(number, bytes(1000)))
            await anyio.sleep(0.01)


class Detector(Daemon):
    def __init__(self, frames: ReceiveStream[Frame], objects: SendStream[Seen]) -> None:
        self.frames = frames
        self.objects = objects

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            if frame.number % 20 == 19 and not self.frames.mark.redelivered:
                os._exit(1)  # as a library does that finds its memory broken
            await self.objects.send(Seen(frame.number, frame.number * 7 % 40))


class Tracker(Daemon):
    def __init__(self, objects: ReceiveStream[Seen], tracks: SendStream[Seen]) -> None:
        self.objects = objects
        self.tracks = tracks

    async def run(self, ctx: Context) -> None:
        async for seen in self.objects:
            await self.tracks.send(seen)


class Album(Daemon):
    """Writes what arrives into a file, a line each."""

    def __init__(self, tracks: ReceiveStream[Seen], path: Path) -> None:
        self.tracks = tracks
        self.path = path

    async def run(self, ctx: Context) -> None:
        with self.path.open("ab") as file:
            async for seen in self.tracks:
                page = Page(seen.frame, seen.where, self.tracks.mark.redelivered)
                file.write(msgspec.json.encode(page) + b"\n")


def pipeline(album: Path) -> Pipeline:
    p = Pipeline("vision")
    camera = p.add(Camera, name="camera", config={"total": FRAMES})
    again = RestartPolicy(base=0.05, max_retries=5, within=30)
    detector = p.add(Detector, name="detector", on_error="restart", restart=again)
    tracker = p.add(Tracker, name="tracker")
    pages = p.add(Album, name="album", config={"path": album})
    p.connect(camera.frames, detector.frames, maxsize=8)
    p.connect(detector.objects, tracker.objects, maxsize=8)
    p.connect(tracker.tracks, pages.tracks, maxsize=8)
    return p


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "album"
        began = time.monotonic()
        run(pipeline(path))
        took_s = time.monotonic() - began
        lines = path.read_bytes().splitlines()
    pages = [msgspec.json.decode(line, type=Page) for line in lines]
    once = [page.frame for page in pages if not page.repeated]
    print(f"{FRAMES} frames went through 4 processes in {took_s:.1f} s; the detector died {FRAMES // 20} times.")
    print(f"{FRAMES - len({page.frame for page in pages})} were lost.")
    in_order = "yes" if once == sorted(set(once)) else "NO"
    print(f"{len(pages) - len(once)} came of work done again, and say so; without them the order is exact: {in_order}")


if __name__ == "__main__":
    main()
