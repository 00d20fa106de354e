"""The microsteps of one process among many: when it has nothing to do at (t, k), it asks what comes next.

    Microsteps     nobody may go on in (t, k)  ->  takes (t, k+1), or the next timer
    Granted        the same                    ->  ask(Report)  ->  Order, and what the others have said

What is said to another process is put by here until it is reported. What others have said is heard together with what
was said within the process, in one order.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from geartrain.rules.barrier import NEVER, Arrive, Go, Order, Report, Tell, Vain
from geartrain.rules.deadlock import Waiting
from geartrain.rules.effects import Effect
from geartrain.rules.microsteps import LIMIT, THE_LOOP, Apply, Microsteps
from geartrain.rules.timestep import Drive, Timeline, Waiter


class Granted(Struct, frozen=True):
    """An order, what others have said, and who of them has gone and will never say anything again."""

    order: Order
    heard: Sequence[Effect] = ()
    gone: Sequence[str] = ()


class Outside(Protocol):
    """Where a process asks. It waits there, as nothing is left for it to do."""

    def ask(self, report: Report, said: dict[str, list[Effect]]) -> Granted: ...

    def waits(self) -> tuple[Sequence[Waiting], Sequence[str]]:
        """All waits of the daemons here, and those of them that live."""

    def has_gone(self, process: str) -> None:
        """What its ends will never say is to be heard now."""


class GrantedMicrosteps(Microsteps):
    """Who runs next in this process, as far as it has been granted."""

    def __init__(self, timeline: Timeline, outside: Outside, limit: int = LIMIT) -> None:
        super().__init__(timeline, limit)
        # How things stood everywhere when the driver last arrived.
        self.in_vain: tuple[Waiting, ...] = ()
        self.is_idle = False
        self._outside = outside
        self._said: dict[str, list[Effect]] = {}
        self._ears: dict[tuple[str, int], Apply] = {}
        self._horizon_ns = timeline.now_ns
        self._has_begun = False
        self._tells = False

    def listen(self, channel: str, direction: int, apply: Apply) -> None:
        """Who hears what another process says over this channel."""
        self._ears[channel, direction] = apply

    def post_to(self, process: str, effect: Effect) -> None:
        """Put by what an end has said, to be heard in another process in the next microstep."""
        self._said.setdefault(process, []).append(effect)

    def drive(self, timeline: Timeline, until_ns: int | None, waiter: Waiter) -> Drive:
        self._has_begun = True
        return super().drive(timeline, until_ns, waiter)

    @property
    def driven(self) -> bool:
        return self._has_begun

    def last_words(self) -> tuple[Report, dict[str, list[Effect]]]:
        """What is still to be said by a process that ends."""
        return self._report(), self._said

    # -- who is next -----------------------------------------------------------------------------------------------

    def next(self, *, time_may_pass: bool, loop_due_ns: int | None = None) -> Waiter | None:
        """As in one process. Before somebody lets time pass for the first time the process has not begun."""
        self.loop_due_ns = loop_due_ns
        while True:
            waiter = self._next_here()
            if waiter is None and loop_due_ns is not None and loop_due_ns <= self.timeline.now_ns:
                return THE_LOOP
            if waiter is not None or not time_may_pass or self.timeline.holds or not self._has_begun:
                return waiter
            if self._goes_on_alone():
                continue
            granted = self._outside.ask(self._report(), self._said)
            self._said = {}
            self._tells = False
            match granted.order:
                case Go(t_ns, k, _, horizon_ns):
                    self._horizon_ns = horizon_ns
                    self._act(t_ns, k, granted)
                case Tell():
                    self._tells = True
                case Vain(t_ns, k):
                    self._stand_at(t_ns, k)
                    return self._arrive_in_vain()
                case Arrive(t_ns, k, in_vain, is_idle):
                    self._stand_at(t_ns, k)
                    self._horizon_ns = t_ns
                    self.in_vain, self.is_idle = in_vain, is_idle
                    return self._arrive()

    def _goes_on_alone(self) -> bool:
        """Nobody else does anything before the horizon, as long as nothing is said to anybody."""
        if self._said or self.timeline.now_ns >= self._horizon_ns:
            return False
        if self._effects or self._resting:
            if self.k >= self._last:
                return False
            self._begin_next()
            return True
        due_ns = self._due_ns
        if due_ns >= self._horizon_ns or due_ns > self._until_ns:
            return False
        self._move_to(due_ns)
        return True

    def _act(self, t_ns: int, k: int, granted: Granted) -> None:
        if k == 0:
            self._move_to(t_ns)
            return
        self._stand_at(t_ns, k - 1)
        for effect in granted.heard:
            self.post(effect, self._ears[effect.channel, effect.direction])
        for process in granted.gone:
            self._outside.has_gone(process)
        self._begin_next()

    def _stand_at(self, t_ns: int, k: int) -> None:
        self._move_to(t_ns)
        self.k = k

    def _arrive(self) -> Waiter | None:
        if not self._drives:
            return None
        drive = min(self._drives, key=_target)
        self._drives.remove(drive)
        return drive.waiter

    # -- what is reported ------------------------------------------------------------------------------------------

    @property
    def _due_ns(self) -> int:
        if not self._drives:
            return NEVER
        timer = self.timeline.first()
        loop_due_ns = NEVER if self.loop_due_ns is None else self.loop_due_ns
        return loop_due_ns if timer is None else min(timer[0], loop_due_ns)

    @property
    def _until_ns(self) -> int:
        return min((_target(drive) for drive in self._drives), default=NEVER)

    def _report(self) -> Report:
        waits, alive = self._outside.waits() if self._tells else (None, ())
        return Report(
            self.timeline.now_ns,
            self.k,
            tuple(self._said),
            bool(self._effects or self._resting),
            self._due_ns,
            bool(self._drives),
            self._until_ns,
            None if waits is None else tuple(waits),
            tuple(alive),
        )


def _target(drive: Drive) -> int:
    return NEVER if drive.until_ns is None else drive.until_ns
