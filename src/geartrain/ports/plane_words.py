"""A plane that any process can judge: a few words in a file, written where items arrive.

    | magic | ticks | last tick | budget | regressions | over |        mapped, of monotonic nanoseconds

    where items arrive    words = PlaneWords.mapped(path, "frames", budget_ns); words.tick()
    who judges            the same words, or plane_in(path, ...) for a look at them

The words outlive who writes them: a plane whose process has died goes stale like any other. Within one process, and in
virtual time, they are in memory.
"""

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from geartrain.errors import BadValue
from geartrain.rules.planes import PlaneSnapshot, snapshot

_MAGIC = int.from_bytes(b"gt-plane", "little")
_WORDS = 6
_TICKS, _LAST, _BUDGET, _REGRESSIONS, _OVER = range(1, _WORDS)


class PlaneWords:
    """One plane. Ticked by one process at a time, asked by any."""

    def __init__(self, name: str, words: "memoryview[int]", now_ns: Callable[[], int], *, is_shared: bool) -> None:
        self.name = name
        # Whether another process may tick it, so that nobody is told when.
        self.is_shared = is_shared
        self.ticked: Callable[[], None] | None = None
        self.ended: Callable[[], None] | None = None
        self._words = words
        self._now_ns = now_ns

    @classmethod
    def mapped(cls, path: Path, name: str, budget_ns: int) -> Self:
        """In a file, which is made if there is none."""
        words = _mapped(path)
        if words[0] not in (0, _MAGIC):
            raise BadValue(f"{path} is no plane of geartrain's; name a file that does not exist yet, or is empty")
        words[_BUDGET] = budget_ns
        words[0] = _MAGIC
        return cls(name, words, time.monotonic_ns, is_shared=True)

    @classmethod
    def in_memory(cls, name: str, budget_ns: int, now_ns: Callable[[], int] = time.monotonic_ns) -> Self:
        words = memoryview(bytearray(8 * _WORDS)).cast("q")
        words[_BUDGET] = budget_ns
        return cls(name, words, now_ns, is_shared=False)

    def __repr__(self) -> str:
        return f"<plane {self.name!r}, {self._words[_TICKS]} ticks>"

    def tick(self) -> None:
        """Something has come."""
        words, now_ns = self._words, self._now_ns()
        if now_ns < words[_LAST]:
            words[_REGRESSIONS] += 1
        else:
            words[_LAST] = now_ns
        words[_TICKS] += 1
        words[_OVER] = 0
        if self.ticked is not None:
            self.ticked()

    def end(self) -> None:
        """Nothing will come any more, and nobody waits for it: from now on it is not stale."""
        self._words[_OVER] = 1
        if self.ended is not None:
            self.ended()

    @property
    def is_over(self) -> bool:
        return self._words[_OVER] != 0

    @property
    def budget_ns(self) -> int:
        return self._words[_BUDGET]

    def snapshot(self, now_ns: int) -> PlaneSnapshot:
        return _judged(self.name, self._words, now_ns)


def plane_in(path: Path, name: str) -> PlaneSnapshot | None:
    """How a plane is now, for somebody who only looks. None where nothing could have come yet."""
    try:
        words = memoryview(path.read_bytes()).cast("q")
    except (OSError, TypeError):
        return None
    return _judged(name, words, time.monotonic_ns()) if len(words) >= _WORDS and words[0] == _MAGIC else None


def _judged(name: str, words: "memoryview[int]", now_ns: int) -> PlaneSnapshot:
    # Read before the time is compared: a tick in between makes it younger, never older.
    return snapshot(
        name=name,
        seq=words[_TICKS],
        last_ns=words[_LAST],
        budget_ns=words[_BUDGET],
        regressions=words[_REGRESSIONS],
        now_ns=now_ns,
        is_over=words[_OVER] != 0,
    )


def _mapped(path: Path) -> "memoryview[int]":
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BadValue(f"the plane {path} cannot be opened: {error.strerror}") from error
    try:
        if os.fstat(file).st_size < 8 * _WORDS:
            os.ftruncate(file, 8 * _WORDS)
        return memoryview(mmap.mmap(file, 8 * _WORDS)).cast("q")
    finally:
        os.close(file)
