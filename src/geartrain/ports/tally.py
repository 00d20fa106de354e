"""A word that outlives the process that counts in it: how many items a writer has accepted, life after life.

    | magic | lives | epoch, accepted | epoch, accepted | ...        a file of one page, mapped; the last is the present

Written before `send` returns. Where the file is in memory and somebody else holds it open, a process may be killed
between any two instructions, and the count is still exact.
"""

import mmap
import os
from pathlib import Path

from geartrain.errors import BadValue
from geartrain.rules.frames import Life

_MAGIC = int.from_bytes(b"gt-tally", "little")
_WORDS = mmap.PAGESIZE // 8
_LIVES_AT = 2
# So many lives are told to the reader; older ones it has long heard of.
_MOST = (_WORDS - _LIVES_AT) // 2


class Tally:
    """The counter of one writer, in a file. Opening it begins a new life."""

    def __init__(self, path: Path, epoch: int) -> None:
        self._words = _mapped(path)
        if self._words[0] not in (0, _MAGIC):
            raise BadValue(f"{path} is no counter of geartrain's; name a file that does not exist yet, or is empty")
        lives = _lives(self._words)
        self.lives = tuple(lives)
        self._begin([*lives, Life(max(epoch, lives[-1].epoch + 1) if lives else epoch, 0)][-_MOST:])

    @property
    def epoch(self) -> int:
        """The present life: later than all before, whatever a clock says."""
        return self._words[self._at - 1]

    @property
    def word(self) -> "memoryview[int]":
        """Where the owner writes how many it has accepted."""
        return self._words[self._at : self._at + 1]

    def _begin(self, lives: list[Life]) -> None:
        for place, life in enumerate(lives):
            self._words[_LIVES_AT + 2 * place] = life.epoch
            self._words[_LIVES_AT + 2 * place + 1] = life.accepted
        self._words[1] = len(lives)
        self._words[0] = _MAGIC
        self._at = _LIVES_AT + 2 * len(lives) - 1


def lives_in(path: Path) -> tuple[Life, ...]:
    """What a counter says, for somebody who only looks: of a writer that never lived, nothing."""
    try:
        words = memoryview(path.read_bytes()).cast("Q")
    except (OSError, TypeError):
        return ()
    return tuple(_lives(words)) if len(words) >= _WORDS and words[0] == _MAGIC else ()


def _lives(words: "memoryview[int]") -> list[Life]:
    count = min(words[1], _MOST)
    places = range(_LIVES_AT, _LIVES_AT + 2 * count, 2)
    return [Life(words[place], words[place + 1]) for place in places]


def _mapped(path: Path) -> "memoryview[int]":
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadValue(f"the counter {path} cannot be opened: {error.strerror}") from error
    try:
        if os.fstat(file).st_size < mmap.PAGESIZE:
            os.ftruncate(file, mmap.PAGESIZE)
        return memoryview(mmap.mmap(file, mmap.PAGESIZE)).cast("Q")
    finally:
        os.close(file)
