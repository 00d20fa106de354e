"""When a daemon in the middle is done with an item: it wants it no more, and all it sent until then is stable.

    in  ---> 4 5 6 |                      asked past 6 when 9 had been sent into the one output, and 7 into the other
                   daemon ---> 7 8 9      so 6 is stable when 9 is,
                          ---> 6 7        and 7 is

Who said earlier that it was done with an item that is only in its own buffers would lose it when it is killed. A step
holds back what is asked past inside it, and gives it up as one when it ends.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from geartrain.rules.pipeline import Mark

# The output that cannot lose anything any more: lossy by its own wish, or its reader is gone for good.
NOTHING_TO_LOSE = 2**63


class _Release(Struct):
    """Up to these marks of its inputs the daemon wanted nothing any more, when so much had been sent."""

    upto: dict[int, Mark]
    sent: tuple[int, ...]


class Custody:
    """What one daemon has taken over and not yet handed on for good. Inputs and outputs are known by their places.

    A mark says which life of its writer it is of: the numbers of another life mean nothing in this one.
    """

    def __init__(self) -> None:
        self._releases: deque[_Release] = deque()
        # The repeat that was taken last from each input that still has one in hand.
        self._repeated: dict[int, Mark] = {}
        self._held: dict[int, Mark] | None = None

    def took(self, input: int, mark: Mark) -> None:
        """The daemon has an item of this input in hand now."""
        if mark.redelivered:
            self._repeated[input] = _bare(mark)

    @property
    def repeats(self) -> bool:
        """Whether a repeated item is in hand, so that what is sent now is a repeat too."""
        return bool(self._repeated)

    def released(self, input: int, upto: Mark, sent: Sequence[int]) -> None:
        """The daemon has asked past this item, or declared it done. `sent` is how many each output has accepted."""
        if self._held is not None:
            self._held[input] = _bare(upto)
        else:
            self._release({input: _bare(upto)}, tuple(sent))

    def _release(self, upto: Mapping[int, Mark], sent: tuple[int, ...]) -> None:
        # A release is about what was in hand then. It may name the next life of the writer already; what is taken of
        # the former one after that is a repeat all the same.
        for input, mark in upto.items():
            if input in self._repeated and self._repeated[input] <= mark:
                del self._repeated[input]
        if self._releases and self._releases[-1].sent == sent:
            self._releases[-1].upto.update(upto)
        else:
            self._releases.append(_Release(dict(upto), sent))

    # -- steps

    @property
    def in_step(self) -> bool:
        return self._held is not None

    def begin_step(self) -> None:
        self._held = {}

    def end_step(self, received: Mapping[int, Mark], sent: Sequence[int]) -> None:
        """All that was received inside is given up together, and what was asked past or declared done inside too."""
        assert self._held is not None
        upto = self._held | {input: _bare(mark) for input, mark in received.items()}
        self._held = None
        if upto:
            self._release(upto, tuple(sent))

    def abandon_step(self) -> None:
        """It has failed: nothing is given up by it."""
        self._held = None

    # -- what came of it

    def settled(self, stable: Sequence[int]) -> Iterator[tuple[int, Mark]]:
        """Each input of which more is stable now, and up to where. `stable` is how far each output is."""
        done: dict[int, Mark] = {}
        # What was sent only grows, so releases come true in their order.
        while self._releases and all(out >= sent for out, sent in zip(stable, self._releases[0].sent, strict=True)):
            done.update(self._releases.popleft().upto)
        yield from done.items()

    @property
    def waits(self) -> bool:
        """Something is not stable yet."""
        return bool(self._releases)


def _bare(mark: Mark) -> Mark:
    """A mark that can be compared: a repeat is not later than the item that it repeats."""
    return Mark(mark.epoch, mark.sequence)
