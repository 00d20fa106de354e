"""The highest token that was seen in a region, where it outlives whoever has seen it.

    run's state/fence-workcell%2Fleft    eight bytes: the token

All processes of a run that read behind one fence share the file, so that what is too late for one is for all. A reader
that is made anew begins with what the last one has seen. It is written when a lease is seen for the first time only.
"""

import fcntl
import os
import struct
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

_TOKEN = struct.Struct("<Q")


class HighWater(Protocol):
    """It only rises."""

    def read(self) -> int: ...

    def rise_to(self, token: int) -> None: ...


class MemoryHighWater:
    """For readers that end together."""

    def __init__(self) -> None:
        self._highest = 0

    def read(self) -> int:
        return self._highest

    def rise_to(self, token: int) -> None:
        self._highest = max(self._highest, token)


class FileHighWater:
    """In a file, made when a first token is seen. It lasts as long as the run, which a crash of the machine ends."""

    def __init__(self, folder: Path, region: str) -> None:
        # A name of a file has 255 bytes; of a longer region the beginning is shown, and the rest tells it apart.
        name = quote(region, safe="")
        self._path = folder / f"fence-{name if len(name) < 200 else f'{name[:150]}-{_digest(name)}'}"
        self._fd: int | None = None

    def read(self) -> int:
        found = os.pread(self._opened(), _TOKEN.size, 0)
        return _TOKEN.unpack(found)[0] if len(found) == _TOKEN.size else 0

    def rise_to(self, token: int) -> None:
        fd = self._opened()
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if token > self.read():
                os.pwrite(fd, _TOKEN.pack(token), 0)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def _opened(self) -> int:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fd


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:32]
