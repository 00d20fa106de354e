"""A disk that loses what was not synced, and fails when it is told to.

Contents are kept twice: as every process sees them, and as they lie on the disk. Between the two stand single sectors
of 512 bytes and single renames; `sync` and `sync_folder` carry them over, and a power cut any part of them.
"""

import errno
from collections.abc import Callable
from copy import deepcopy
from random import Random

from msgspec import Struct

SECTOR = 512


class Rename(Struct, frozen=True):
    """What the folder does not yet keep: a name that now leads to another file, or to none."""

    name: str
    file: "File | None"


class File:
    """One file: what is seen, what lies on the disk, and which sectors differ."""

    def __init__(self, seen: bytes = b"") -> None:
        self.seen = bytearray(seen)
        self.kept = bytearray(seen)
        self.dirty: set[int] = set()

    def write(self, data: bytes, at: int) -> None:
        end = at + len(data)
        self.seen.extend(bytes(max(0, end - len(self.seen))))
        self.seen[at:end] = data
        self.dirty.update(range(at // SECTOR, -(-end // SECTOR)))

    def sync(self) -> None:
        self.carry_over(self.dirty)
        self.dirty.clear()

    def carry_over(self, sectors: set[int]) -> None:
        for sector in sectors:
            here = slice(sector * SECTOR, (sector + 1) * SECTOR)
            piece = self.seen[here]
            self.kept.extend(bytes(max(0, here.start + len(piece) - len(self.kept))))
            self.kept[here.start : here.start + len(piece)] = piece


class PretendFs:
    """The door, on a disk in memory. `before` is told the name and number of each operation that changes something."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.seen = {name: File(data) for name, data in (files or {}).items()}
        self.kept = dict(self.seen)
        self.renames: list[Rename] = []
        self.open_files: dict[int, File] = {}
        self.numbers = 0
        self.done = 0
        self.before: Callable[[str, int], None] = lambda operation, number: None

    def __str__(self) -> str:
        return "a pretend folder"

    # -- the door -----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """It is there."""

    def names(self) -> list[str]:
        return list(self.seen)

    def read(self, name: str) -> bytes:
        if name not in self.seen:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        return bytes(self.seen[name].seen)

    def open(self, name: str, *, fresh: bool = False) -> int:
        if fresh:
            self._begins("create")
            self._now(name, File())
        return self._opened(self.seen[name])

    def write(self, file: int, data: bytes, at: int) -> None:
        try:
            self._begins("write")
        except OSError:
            self.open_files[file].write(data[: len(data) // 2], at)
            raise
        self.open_files[file].write(data, at)

    def sync(self, file: int) -> None:
        try:
            self._begins("sync")
        except OSError:
            # As on Linux: what could not be written counts as written, and no later sync tries it again.
            self.open_files[file].dirty.clear()
            raise
        self.open_files[file].sync()

    def rename(self, name: str, to: str) -> None:
        self._begins("rename")
        file = self.seen[name]
        self._now(name, None)
        self._now(to, file)

    def remove(self, name: str) -> None:
        self._begins("remove")
        self._now(name, None)

    def sync_folder(self) -> None:
        self._begins("sync_folder")
        for rename in self.renames:
            _point(self.kept, rename)
        self.renames.clear()

    def close(self, file: int) -> None:
        del self.open_files[file]

    def lock(self, name: str) -> int:
        return self._opened(File())

    # -- what a test does ---------------------------------------------------------------------------------------------

    def fail(self, at: int, *, for_ever: bool) -> None:
        """Fail the operation of this number, and perhaps all after it."""

        def before(operation: str, number: int) -> None:
            if number == at or (for_ever and number > at):
                raise OSError(errno.EIO, f"Input/output error in {operation} {number}")

        self.before = before

    def after_a_kill(self) -> "PretendFs":
        """What the next process finds: all that was seen, synced or not."""
        found = PretendFs()
        found.seen, found.kept, found.renames = deepcopy((self.seen, self.kept, self.renames))
        return found

    def after_a_power_cut(self, roll: Random | None = None) -> "PretendFs":
        """What the next boot finds: what was synced, and of the rest what the dice say. This disk stays as it is."""
        if roll is None:
            return PretendFs({name: bytes(file.kept) for name, file in self.kept.items()})
        names = dict(self.kept)
        for rename in self.renames[: roll.randint(0, len(self.renames))]:
            _point(names, rename)
        return PretendFs({name: _some_of(file, roll) for name, file in names.items()})

    def contents(self) -> dict[str, bytes]:
        return {name: bytes(file.seen) for name, file in self.seen.items()}

    def _begins(self, operation: str) -> None:
        self.done += 1
        self.before(operation, self.done)

    def _now(self, name: str, file: File | None) -> None:
        rename = Rename(name, file)
        _point(self.seen, rename)
        self.renames.append(rename)

    def _opened(self, file: File) -> int:
        self.numbers += 1
        self.open_files[self.numbers] = file
        return self.numbers


def _point(names: dict[str, File], rename: Rename) -> None:
    if rename.file is None:
        names.pop(rename.name, None)
    else:
        names[rename.name] = rename.file


def _some_of(file: File, roll: Random) -> bytes:
    cut = File(bytes(file.kept))
    cut.seen = file.seen
    chance = roll.choice((0.0, 0.2, 0.5, 0.8, 1.0))
    cut.carry_over({sector for sector in sorted(file.dirty) if roll.random() < chance})
    return bytes(cut.kept)
