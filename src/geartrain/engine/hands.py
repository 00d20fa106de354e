"""The hands of a daemon in the middle: its inputs are stable when what came of them is. `rules/custody.py` decides.

    inputs    took, released  --->  custody  --->  settled        inputs are told, and tell their writers
    outputs   progressed      --->

What is sent while a repeated item is in hand is marked as a repeat too. So a chain of processes loses nothing when one
is killed, and every repeat is known as one.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

from geartrain.errors import NotInUse
from geartrain.rules.custody import Custody
from geartrain.rules.pipeline import Mark


class KeptInput(Protocol):
    """An input that lets another decide when an item is stable."""

    @property
    def mark(self) -> Mark: ...

    @property
    def is_manual(self) -> bool: ...

    def keep_with(
        self, took: Callable[[Mark], None], released: Callable[[Mark], None], *, if_needed: bool = False
    ) -> None:
        """From now on say which item was taken, and up to where the daemon wants none any more, and wait for `settle`.

        `if_needed`: not where nothing can be lost by it.
        """

    def settle(self, upto: Mark, *, at_once: bool) -> None:
        """Up to here nothing will be needed again; the writer hears of it at once, or soon."""


class KeptOutput(Protocol):
    """An output whose reader decides by its progress what may be forgotten before it."""

    @property
    def accepted(self) -> int: ...

    @property
    def safe(self) -> int:
        """Up to here nothing can be lost any more."""

    def mark_repeats(self, repeats: bool) -> None:
        """From now on what is sent is marked as a repeat, or not any more."""

    def watch(self, progressed: Callable[[], None]) -> None:
        """Call this whenever `safe` may have grown."""


class Hands:
    """What a daemon has taken from its inputs and not yet handed on for good into its outputs."""

    def __init__(self, inputs: Sequence[KeptInput], outputs: Sequence[KeptOutput]) -> None:
        self._custody = Custody()
        self._inputs = inputs
        self._outputs = outputs
        self._keeps_all = False
        # Who has no outputs is done with what it has asked past; its inputs know that alone, and cheaper.
        if outputs:
            self._keep(if_needed=True)

    def _keep(self, *, if_needed: bool) -> None:
        for place, end in enumerate(self._inputs):
            end.keep_with(partial(self._took, place), partial(self._released, place), if_needed=if_needed)
        for out in self._outputs:
            out.watch(self._review)

    @asynccontextmanager
    async def step(self) -> AsyncIterator[None]:
        """All that is received inside becomes stable together. Left by an error or a cancellation, nothing does."""
        if self._custody.in_step:
            raise NotInUse("a step is open in this daemon already; end it before the next, for one step is one whole")
        if not self._keeps_all:
            self._keeps_all = True
            self._keep(if_needed=False)
        before = [end.mark for end in self._inputs]
        self._custody.begin_step()
        try:
            yield
        except BaseException:
            self._custody.abandon_step()
            raise
        received = {
            place: end.mark for place, end in enumerate(self._inputs) if end.mark != before[place] and not end.is_manual
        }
        self._custody.end_step(received, self._sent())
        self._look()

    def _took(self, place: int, mark: Mark) -> None:
        self._custody.took(place, mark)
        self._mark_repeats()

    def _released(self, place: int, upto: Mark) -> None:
        self._custody.released(place, upto, self._sent())
        self._look()

    def _sent(self) -> list[int]:
        return [out.accepted for out in self._outputs]

    def _look(self) -> None:
        self._mark_repeats()
        self._review()

    def _mark_repeats(self) -> None:
        repeats = self._custody.repeats
        for out in self._outputs:
            out.mark_repeats(repeats)

    def _review(self) -> None:
        if not self._custody.waits:
            return
        done = list(self._custody.settled([out.safe for out in self._outputs]))
        for place, upto in done:
            # What becomes stable together is said together, so that hardly any death comes between.
            self._inputs[place].settle(upto, at_once=len(done) > 1)
