"""What a process writes down of its daemons and the ends of their channels, for whoever looks from outside.

    hooks of the supervisor  ->  the slot of the daemon         at once
    the ends                 ->  the slots of the ends          when the loop shows that it turns, and at their end
    a reader takes an item   ->  in hand, in its end's slot     at once, see `RemoteReceive.written_in`

All of it happens in the loop of the process, so that each slot has one writer.
"""

import time
from collections.abc import Mapping, Sequence

from geartrain.engine.inside import InsideReceive, InsideSend
from geartrain.engine.remote import RemoteReceive, RemoteSend
from geartrain.ports.observer import Guard, Observer, OpenCycle, Watch
from geartrain.ports.slots import DaemonSlot, EndSlot, Slots
from geartrain.rules.counts import EndCounts
from geartrain.rules.grid import Cycle
from geartrain.rules.lifecycle import DaemonFailurePhase
from geartrain.rules.readings import Held, Phase, Up
from geartrain.rules.session import Loss

WrittenEnd = RemoteSend[object] | RemoteReceive[object] | InsideSend[object] | InsideReceive[object]


class Written(Observer):
    """The slots of this process."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._daemons: dict[str, DaemonSlot | None] = {}
        self._ends: dict[str, list[_End]] = {}

    def add_end(self, daemon: str, channel: str, end: WrittenEnd) -> None:
        sends = isinstance(end, RemoteSend | InsideSend)
        slot = self._slots.end(channel, sends=sends)
        if isinstance(end, RemoteReceive):
            end.written_in(slot)
        self._ends.setdefault(daemon, []).append(_End(end, slot))

    def strike(self) -> None:
        """The loop goes round."""
        for daemon in self._ends:
            self._look_at_ends(daemon)
        self._slots.strike()

    def _look_at_ends(self, daemon: str) -> None:
        now_ns = time.monotonic_ns()
        for end in self._ends.get(daemon, ()):
            end.look(now_ns)

    def enters(self, daemon: str, phase: Phase) -> None:
        if (slot := self._slot(daemon)) is not None:
            slot.enters(phase, time.monotonic_ns())

    def _slot(self, daemon: str) -> DaemonSlot | None:
        try:
            return self._daemons[daemon]
        except KeyError:
            return self._daemons.setdefault(daemon, self._slots.daemon(daemon))

    def has_budgets(self, budget_ns: int | None, of_daemons: Mapping[str, int | None]) -> None:
        """How long bodies may take here: that of anybody, and those of single daemons."""
        self._slots.has_budget(budget_ns or 0)
        for daemon, its_ns in of_daemons.items():
            if (slot := self._slot(daemon)) is not None:
                slot.has_budget(its_ns or 0)

    def _is_held(self, daemon: str, held: Held, took_ns: int = 0) -> None:
        if (slot := self._slot(daemon)) is not None:
            slot.is_held(held, time.monotonic_ns(), took_ns)

    # -- hooks ------------------------------------------------------------------------------------------------------

    def on_executor_up(self) -> None:
        self._slots.become(Up.UP)

    def on_executor_down(self) -> None:
        self._slots.become(Up.DOWN)

    def on_executor_error(self, error: BaseException) -> None:
        self._slots.become(Up.ERROR)

    def on_daemon_start(self, daemon: str, attempt: int) -> None:
        if (slot := self._slot(daemon)) is not None:
            slot.starts(attempt, time.monotonic_ns())

    def on_daemon_error(self, daemon: str, phase: DaemonFailurePhase, error: BaseException) -> None:
        if (slot := self._slot(daemon)) is not None:
            slot.fails(time.monotonic_ns())
        self._look_at_ends(daemon)

    def on_daemon_clear(self, daemon: str) -> None:
        if (slot := self._slot(daemon)) is not None:
            slot.is_well(time.monotonic_ns())

    def on_daemon_stop(self, daemon: str) -> None:
        if (slot := self._slot(daemon)) is not None:
            slot.stops(time.monotonic_ns())
        self._look_at_ends(daemon)

    def on_overrun(self, daemon: str, took_ns: int, budget_ns: int) -> None:
        if (slot := self._slot(daemon)) is not None:
            slot.overruns()
            if slot.held == Held.WITH_ITS_PROCESS:
                # The handler that runs in the place of its body: from now on the fault is its own.
                self._is_held(daemon, Held.OVER_BUDGET, took_ns)

    def on_daemon_held(self, daemon: str, took_ns: int, budget_ns: int) -> None:
        self._is_held(daemon, Held.OVER_BUDGET, took_ns)

    def on_daemon_held_with_executor(self, daemon: str) -> None:
        self._is_held(daemon, Held.WITH_ITS_PROCESS)

    def on_daemon_released(self, daemon: str) -> None:
        if (slot := self._slot(daemon)) is not None:
            slot.is_free()

    def on_executor_held(self, daemon: str, took_ns: int, budget_ns: int) -> None:
        self._slots.is_over_budget(time.monotonic_ns(), took_ns)

    def on_executor_released(self) -> None:
        self._slots.is_over_budget(0, 0)

    def watch(self, daemon: str, guard: Guard | None) -> Watch:
        slot = self._slot(daemon)
        return super().watch(daemon, guard) if slot is None else _Cycles(self, slot, daemon, guard)


class _Cycles(Watch):
    """Writes the cycles of a daemon into its slot, without a detour: they are most of what is written."""

    __slots__ = ("_slot",)

    def __init__(self, observer: Observer, slot: DaemonSlot, daemon: str, guard: Guard | None) -> None:
        super().__init__(observer, daemon, guard)
        self._slot = slot

    def cycle_begins(self, cycle: OpenCycle, at_ns: int) -> None:
        self.open_cycle = cycle
        self._slot.begins_body(at_ns)

    def cycle_ends(self, at_ns: int, took_ns: int, cycle: Cycle | None) -> None:
        self.open_cycle = None
        # Of a cycle that went well there is more to tell, at once.
        self._slot.ends_body(at_ns, took_ns, is_all=cycle is None)
        if cycle is not None:
            self._slot.cycled(cycle)


class _End:
    """One end and its slot. Nearly always an end has not moved, and that is seen by its pulse."""

    def __init__(self, end: WrittenEnd, slot: EndSlot) -> None:
        self._end = end
        self._slot = slot
        self._pulse: tuple[int, ...] | None = None

    def look(self, now_ns: int) -> None:
        pulse = self._end.pulse
        if pulse != self._pulse:
            self._pulse = pulse
            self._slot.tell(_words(self._end), now_ns)


def _words(end: WrittenEnd) -> tuple[int, ...]:
    """The fields of an `EndReading` from `incarnation` on, without the last."""
    counts, stats = end.counts(), end.statistics()
    in_hand = 0 if isinstance(end, RemoteSend | InsideSend) else end.which_in_hand()
    waits = stats.waiters_send if counts.sends else stats.waiters_receive
    closed = not (stats.open_send_streams if counts.sends else stats.open_receive_streams)
    return (
        counts.incarnation, counts.epoch, counts.accepted, counts.taken, counts.stable, counts.dropped,
        counts.redelivered, counts.set_aside, in_hand, in_hand, waits, int(closed), *_losses(counts),
    )  # fmt: skip


def _losses(counts: EndCounts) -> tuple[int, ...]:
    last: Sequence[Loss] = counts.losses[-1:-3:-1]
    words = [word for loss in last for word in (loss.epoch, loss.lost or 0)]
    return (*words, *(0 for _ in range(4 - len(words))))
