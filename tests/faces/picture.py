"""Takes docs/vision.png: `examples/vision.py --observe` on the page of its observer, soon after its detector has died.

    python -m tests.faces.picture

A picture of a page has few colours but for the edges of its letters, so the 256 most frequent ones are enough, and it
becomes a third as large.
"""

import argparse
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from geartrain.faces.web_address import Bind, listening
from tests.faces.browser import Browser, browser

ROOT = Path(__file__).parent.parent.parent
PLACE = ROOT / "docs" / "vision.png"
MOST_BYTES = 150_000

WIDTH, HEIGHT = 1360, 900
# How long it is looked at, and how long after a death the picture is taken.
SEEN_S, AFTER_S = 45.0, 4.0

_MAGIC = b"\x89PNG\r\n\x1a\n"


def take(path: Path) -> None:
    with listening(Bind("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="gt-") as folder:
        places = {"XDG_RUNTIME_DIR": folder, "XDG_STATE_HOME": folder}
        script = f"""if 1:
            import contextlib, vision
            with contextlib.suppress(KeyboardInterrupt):
                vision.main(12_000, 1000, "127.0.0.1:{port}")"""
        command = (sys.executable, "-c", script)
        with subprocess.Popen(command, cwd=ROOT / "examples", env=os.environ | places) as run:
            try:
                with browser() as page:
                    _take(page, f"http://127.0.0.1:{port}", path)
            finally:
                run.send_signal(signal.SIGINT)


def _take(page: Browser, url: str, path: Path) -> None:
    page.size(WIDTH, HEIGHT)
    page.prefer("light")
    while not _is_there(page, url):
        time.sleep(0.1)
    time.sleep(SEEN_S)
    page.wait("return document.querySelector('#fault-list').innerText.includes('PROCESS_DEAD')", within_s=50)
    time.sleep(AFTER_S)
    page.picture(path, whole=True)
    path.write_bytes(in_256_colours(path.read_bytes()))


def _is_there(page: Browser, url: str) -> bool:
    try:
        page.go(url)
    except AssertionError:
        return False
    return bool(page.wait("return document.querySelector('#daemon-table tbody tr')"))


# -- fewer colours ----------------------------------------------------------------------------------------------------


def in_256_colours(png: bytes) -> bytes:
    """The same picture, of 8 bits RGB, with a palette."""
    width, height, rows = _decoded(png)
    counts = Counter(row[at : at + 3] for row in rows for at in range(0, len(row), 3))
    palette = [colour for colour, _ in counts.most_common(256)]
    number = {colour: palette.index(min(palette, key=lambda other: _far(colour, other))) for colour in counts}
    data = b"".join(b"\0" + bytes(number[row[at : at + 3]] for at in range(0, len(row), 3)) for row in rows)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", head), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    return _MAGIC + b"".join(struct.pack(">I", len(body)) + kind + body + _crc(kind + body) for kind, body in parts)


def _far(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _crc(body: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(body))


def _decoded(png: bytes) -> tuple[int, int, list[bytes]]:
    parts = list(_parts(png))
    width, height, depth, colours, *_ = struct.unpack(">IIBBBBB", parts[0][1])
    assert (depth, colours) == (8, 2), "not a picture of 8 bits RGB"
    data = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    size, rows, above = width * 3, list[bytes](), bytes(width * 3)
    for start in range(0, len(data), size + 1):
        above = _unfiltered(data[start], data[start + 1 : start + 1 + size], above)
        rows.append(above)
    return width, height, rows


def _parts(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_MAGIC)
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += 12 + size


def _unfiltered(kind: int, row: bytes, above: bytes) -> bytes:
    """A row as it was before the filters of PNG: each byte is told by those to the left, above, and between."""
    found = bytearray(row)
    for at in range(len(row)):
        left = found[at - 3] if at >= 3 else 0
        corner = above[at - 3] if at >= 3 else 0
        guess = (0, left, above[at], (left + above[at]) // 2, _nearest(left, above[at], corner))[kind]
        found[at] = (row[at] + guess) & 255
    return bytes(found)


def _nearest(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes the picture of the page.")
    parser.add_argument("path", nargs="?", type=Path, default=PLACE)
    path = parser.parse_args().path
    take(path)
    size = path.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{path} has {size} bytes, more than {MOST_BYTES}")


if __name__ == "__main__":
    main()
