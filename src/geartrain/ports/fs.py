"""The few things a journal does to the files of its folder, as one door: a test can fail each, or cut the power.

All names are of files in the folder. What goes wrong is an `OSError`; `write` writes everything or raises.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from geartrain.errors import JournalInUse, NotOnThisSystem


class Fs(Protocol):
    """The promise."""

    def prepare(self) -> None:
        """See that the folder is there, and stays."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def open(self, name: str, *, fresh: bool = False) -> int:
        """A descriptor to write with. `fresh`: of an empty file."""

    def write(self, file: int, data: bytes, at: int) -> None: ...

    def sync(self, file: int) -> None:
        """What was written to this file stays."""

    def rename(self, name: str, to: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def sync_folder(self) -> None:
        """What was renamed stays renamed."""

    def close(self, file: int) -> None: ...

    def lock(self, name: str) -> int:
        """Hold this file until it is closed, or the process ends. Raises `JournalInUse` if another one holds it."""


class RealFs:
    """A folder of the file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def prepare(self) -> None:
        if self.folder.is_dir():
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self.folder.parent)

    def names(self) -> list[str]:
        return os.listdir(self.folder)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def open(self, name: str, *, fresh: bool = False) -> int:
        return os.open(self.folder / name, os.O_RDWR | (os.O_CREAT | os.O_TRUNC if fresh else 0), 0o600)

    def write(self, file: int, data: bytes, at: int) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(file, left, at)
            left, at = left[written:], at + written

    def sync(self, file: int) -> None:
        _sync(file)

    def rename(self, name: str, to: str) -> None:
        os.replace(self.folder / name, self.folder / to)

    def remove(self, name: str) -> None:
        os.unlink(self.folder / name)

    def sync_folder(self) -> None:
        _sync_folder(self.folder)

    def close(self, file: int) -> None:
        os.close(file)

    def lock(self, name: str) -> int:
        path = self.folder / name
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _hold(file, self.folder)
                if _still_there(file, path):
                    _sign(file)
                    return file
            except BaseException:
                os.close(file)
                raise
            # Somebody took the file away between our opening and our holding it: that one locks nobody out.
            os.close(file)


def _hold(file: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError as missing:
        raise NotOnThisSystem("a journal in files needs flock, which this system does not have") from missing
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(file, 32, 0).strip()
        raise JournalInUse(str(folder), int(text) if text.isdigit() else None) from None


def _still_there(file: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)


def _sign(file: int) -> None:
    """Say who holds it, for people: a full disk does not keep us from holding."""
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


_sync = getattr(os, "fdatasync", os.fsync)
