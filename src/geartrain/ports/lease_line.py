"""Who waits for a lease while nobody is there who could keep a queue: a file for each, in the order of their numbers.

    .geartrain/leases/line/00000000000000000007     held by flock as long as its process lives and waits

Whoever looks or takes a place holds the journal, so that order is the order of asking. A file that nobody holds was
left by a process that has died, and is taken away; one whose time is over is of a process that stands still, and
counts no more.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from geartrain.errors import PlaceRefused
from geartrain.ports.clock import mono_ns
from geartrain.rules.lease_words import Claim

LINE_FOLDER = "line"


class Waits(Struct, frozen=True, kw_only=True):
    """What somebody waits for, and until when."""

    claims: tuple[Claim, ...]
    label: str
    until_ns: int


class PlaceInLine:
    """One's own place. `leave` it whatever comes."""

    def __init__(self, folder: Path, waits: Waits) -> None:
        line = folder / LINE_FOLDER
        try:
            line.mkdir(mode=0o700, exist_ok=True)
            self.number = max((number for number, _ in _files(line)), default=0) + 1
            self._path = line / f"{self.number:020d}"
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise PlaceRefused(f"nobody can wait in {line}: {error.strerror}; ask without --wait") from error
        try:
            _hold(self._file)
            os.write(self._file, msgspec.json.encode(waits))
        except OSError as error:
            self.leave()
            raise PlaceRefused(f"nobody can wait in {line}: {error.strerror}; ask without --wait") from error

    def leave(self) -> None:
        with suppress(OSError):
            self._path.unlink()
        os.close(self._file)


def waiting(folder: Path, before: int | None = None) -> Iterator[Waits]:
    """Who waits, the first first; with a number, only those before it."""
    for number, path in _files(folder / LINE_FOLDER):
        if before is not None and number >= before:
            return
        waits = _read(path)
        if waits is not None and waits.until_ns > mono_ns():
            yield waits


def _hold(file: int) -> None:
    # Imported here: a command line is also looked at where there is no flock, and a journal is refused there in words.
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _files(line: Path) -> list[tuple[int, Path]]:
    try:
        names = os.listdir(line)
    except FileNotFoundError:
        return []
    return sorted((int(name), line / name) for name in names if name.isdigit())


def _read(path: Path) -> Waits | None:
    """None of one that has gone, or that nobody holds."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        _hold(file)
    except BlockingIOError:
        try:
            return msgspec.json.decode(os.pread(file, 1 << 20, 0), type=Waits)
        except msgspec.MsgspecError:
            return None
    else:
        with suppress(OSError):
            path.unlink()
        return None
    finally:
        os.close(file)
