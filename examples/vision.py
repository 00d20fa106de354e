"""Four daemons in four processes; one of them dies now and then, and not a frame is lost.

camera  --frames-->  detector  --objects-->  tracker  --tracks-->  album
                     (dies at every 20th frame)

python examples/vision.py
python examples/vision.py --observe      two minutes of it, to be looked at: http://127.0.0.1:8080/
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from geartrain import Context, Daemon, Pipeline, ReceiveStream, RestartPolicy, SendStream, run

FRAMES = 60
DIES_EVERY = 20


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
        number = 0
        async for _ in ctx.clock.every(0.01):
            await self.frames.send(Frame(number, bytes(1000)))
            number += 1
            if number == self.total:
                return


class Detector(Daemon):
    def __init__(self, frames: ReceiveStream[Frame], objects: SendStream[Seen], dies_every: int) -> None:
        self.frames = frames
        self.objects = objects
        self.dies_every = dies_every

    async def run(self, ctx: Context) -> None:
        async for frame in self.frames:
            if (frame.number + 1) % self.dies_every == 0 and not self.frames.mark.redelivered:
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


def pipeline(album: Path, frames: int = FRAMES, dies_every: int = DIES_EVERY, observe: str | None = None) -> Pipeline:
    p = Pipeline("vision", observe=observe)
    camera = p.add(Camera, name="camera", config={"total": frames})
    again = RestartPolicy(base=0.05, max_retries=5, within=30)
    config = {"dies_every": dies_every}
    detector = p.add(Detector, name="detector", on_error="restart", restart=again, config=config)
    tracker = p.add(Tracker, name="tracker")
    pages = p.add(Album, name="album", config={"path": album})
    p.connect(camera.frames, detector.frames, maxsize=8)
    p.connect(detector.objects, tracker.objects, maxsize=8)
    p.connect(tracker.tracks, pages.tracks, maxsize=8)
    return p


def main(frames: int = FRAMES, dies_every: int = DIES_EVERY, observe: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "album"
        began = time.monotonic()
        run(pipeline(path, frames, dies_every, observe))
        took_s = time.monotonic() - began
        lines = path.read_bytes().splitlines()
    pages = [msgspec.json.decode(line, type=Page) for line in lines]
    once = [page.frame for page in pages if not page.repeated]
    died = frames // dies_every
    print(f"{frames} frames went through 4 processes in {took_s:.1f} s; the detector died {died} times.")
    print(f"{frames - len({page.frame for page in pages})} were lost.")
    in_order = "yes" if once == sorted(set(once)) else "NO"
    print(f"{len(pages) - len(once)} came of work done again, and say so; without them the order is exact: {in_order}")


if __name__ == "__main__":
    if "--observe" in sys.argv:
        main(12_000, 1000, "127.0.0.1:8080")
    else:
        main()
