"""When a daemon in the middle is done with an item: it has asked past it, and all it sent meanwhile is stable.

    in  ---> 4 5 6 |                      asked past 6 when 9 had been sent into the one output, and 7 into the other
                   daemon ---> 7 8 9      so 6 is stable when 9 is,
                          ---> 6 7        and 7 is

Who said earlier that it was done with an item that is only in its own buffers would lose it when it is killed.
"""

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

# The output that cannot lose anything any more: lossy by its own wish, or its reader is gone for good.
NOTHING_TO_LOSE = 2**63


# What tells one input from another.
Input = TypeVar("Input", bound=Hashable)


class _Mark(Struct, Generic[Input]):
    """Up to `number` of this input the daemon has asked past what it had, when so much had been sent."""

    input: Input
    number: int
    sent: tuple[int, ...]


class Custody(Generic[Input]):
    """What one daemon has taken over and not yet handed on for good."""

    def __init__(self) -> None:
        self._marks: deque[_Mark[Input]] = deque()

    def asked_past(self, input: Input, number: int, sent: Sequence[int]) -> None:
        """The daemon wants more from this input; `sent` is how many items each output has accepted by now."""
        now = tuple(sent)
        last = self._marks[-1] if self._marks else None
        if last is not None and last.input == input and last.sent == now:
            last.number = number
        else:
            self._marks.append(_Mark(input, number, now))

    def settled(self, stable: Sequence[int]) -> Iterator[tuple[Input, int]]:
        """Each input of which more is stable now, and up to where. `stable` is how far each output is."""
        done: dict[Input, int] = {}
        # What was sent only grows, so the marks become true in their order.
        while self._marks and all(out >= sent for out, sent in zip(stable, self._marks[0].sent, strict=True)):
            mark = self._marks.popleft()
            done[mark.input] = mark.number
        yield from done.items()

    @property
    def waits(self) -> bool:
        """Something is not stable yet."""
        return bool(self._marks)
