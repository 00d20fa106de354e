"""A sign of life that is read from outside: a word in a file that a process writes as its loop goes round.

    the process     beat = Beat(path); beat.strike() now and then
    who watches     last_beat_ns(path)               the monotonic time of the last strike, 0 before the first

A process that is stopped, or whose loop is stuck in somebody's code, strikes no more; nobody has to ask it anything.
"""

import mmap
import os
import time
from pathlib import Path

_WORD_BYTES = 8


class Beat:
    """The striking side."""

    def __init__(self, path: Path) -> None:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(file, _WORD_BYTES)
            self._word = memoryview(mmap.mmap(file, _WORD_BYTES)).cast("Q")
        finally:
            os.close(file)
        self._word[0] = 0

    def strike(self) -> None:
        self._word[0] = time.monotonic_ns()


def last_beat_ns(path: Path) -> int:
    """When it was struck last; 0 when it has not been yet, or cannot be read."""
    try:
        word = path.read_bytes()
    except OSError:
        return 0
    return int.from_bytes(word[:_WORD_BYTES], "little")
