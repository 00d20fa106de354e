"""What the processes of a run in virtual time tell each other about it: who has started, and which daemon has ended.

As all that is said it is heard in the next microstep, by everybody in the same: in one process, too, where nobody else
is, so that a run is the same there.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from geartrain.ports.clock import SimClock
from geartrain.rules.effects import FORWARD, Effect, Item, Said

if TYPE_CHECKING:
    from geartrain.engine.simulated_node import Outpost

_STARTED = ""
# No channel has such a name.
_BOARD = "\0"


class Board:
    """`all_started` and `has_ended(daemon)` are called when everybody knows."""

    def __init__(
        self,
        clock: SimClock,
        outpost: "Outpost | None",
        all_started: Callable[[], None],
        has_ended: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._outpost = outpost
        self._all_started = all_started
        self._has_ended = has_ended
        self._order = 0
        self._where: Mapping[str, str] = {} if outpost is None else outpost.where
        self._here = "" if outpost is None else outpost.process
        self._others = sorted(set(self._where.values()) - {self._here})
        self._starting = {self._here, *self._others}
        self._living = set(self._where)
        if outpost is not None:
            outpost.on_gone = self._has_gone
            for other in self._others:
                outpost.clock.granted.listen(_BOARD + other, FORWARD, self._ear_of(other))

    def started(self) -> None:
        """All daemons here have."""
        self._say(_STARTED)

    def ended(self, daemon: str) -> None:
        self._say(daemon)

    def _say(self, word: str) -> None:
        self._order += 1
        effect = Effect(_BOARD + self._here, FORWARD, self._order, Item(self._order, word.encode()))
        self._clock.take_part()[1].post(effect, self._ear_of(self._here))
        if self._outpost is not None:
            for other in self._others:
                self._outpost.clock.granted.post_to(other, effect)

    def _ear_of(self, process: str) -> Callable[[Said], None]:
        def hear(said: Said) -> None:
            assert isinstance(said, Item)
            self._hear(process, said.payload.decode())

        return hear

    def _hear(self, process: str, word: str) -> None:
        if word != _STARTED:
            self._living.discard(word)
            self._has_ended(word)
        elif process in self._starting:
            self._starting.remove(process)
            if not self._starting:
                self._all_started()

    def _has_gone(self, process: str) -> None:
        """It was killed: nobody waits for it, nor for its daemons."""
        self._hear(process, _STARTED)
        for daemon in sorted(self._living):
            if self._where[daemon] == process:
                self._hear(process, daemon)
