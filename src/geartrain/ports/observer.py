"""What a supervisor tells whoever watches it.

    executor_up ... daemon_start ... pre_execute, post_execute, cycle ... daemon_stop ... executor_down
                         daemon_error, daemon_fault        executor_fault, executor_error
                         daemon_clear                      executor_clear

    post_execute, cycle, overrun, daemon_held, executor_held ... daemon_released, executor_released

The second line is of budgets: a fault there is that a body took too long, and is not told as an error.
A hook is called in the daemon's own task, must not wait, and should be quick. One that raises is logged and
otherwise ignored: watching never changes what is watched.
"""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol, TypeVarTuple

from geartrain.rules.grid import Cycle
from geartrain.rules.lifecycle import DaemonFailurePhase

_log = logging.getLogger("geartrain.observer")


class Observer:
    """The hooks. Inherit from this class and write those you want; the others do nothing."""

    def on_executor_up(self) -> None:
        """The supervisor's block was entered."""

    def on_executor_down(self) -> None:
        """The supervisor's block was left, and nothing had gone wrong."""

    def on_executor_error(self, error: BaseException) -> None:
        """The supervisor's block is left with this error."""

    def on_executor_fault(self, daemon: str) -> None:
        """All daemons were well until now; this one is the first that is not."""

    def on_executor_clear(self) -> None:
        """All daemons are well again."""

    def on_daemon_start(self, daemon: str, attempt: int) -> None:
        """`on_start` is about to be called, for the first time (attempt 0) or again."""

    def on_daemon_stop(self, daemon: str) -> None:
        """The daemon has ended and will not be started again."""

    def on_daemon_error(self, daemon: str, phase: DaemonFailurePhase, error: BaseException) -> None:
        """A hook of the daemon raised."""

    def on_daemon_fault(self, daemon: str) -> None:
        """The daemon is out of service: it was well until this error."""

    def on_daemon_clear(self, daemon: str) -> None:
        """The daemon is in service again: its `on_start` came back."""

    def on_overrun(self, daemon: str, took_ns: int, budget_ns: int) -> None:
        """A body of the daemon, or the handler in its place, took longer than the daemon's budget."""

    def on_daemon_held(self, daemon: str, took_ns: int, budget_ns: int) -> None:
        """By that, its body is entered no more. Not called again while it is held."""

    def on_daemon_held_with_executor(self, daemon: str) -> None:
        """Its body is entered no more because the executor is held. Told at its own next tick; it has no fault."""

    def on_daemon_released(self, daemon: str) -> None:
        """Somebody has cleared that: its body is entered again from its next tick on."""

    def on_executor_held(self, daemon: str, took_ns: int, budget_ns: int) -> None:
        """A body of this daemon took longer than the budget of the executor: at its next tick each daemon is held."""

    def on_executor_released(self) -> None:
        """Somebody has cleared that, and those who were held with the executor have been released."""

    def watch(self, daemon: str, guard: "Guard | None") -> "Watch":
        """Who is told of the cycles of this daemon; by default the three hooks below are."""
        return Watch(self, daemon, guard)

    def pre_execute(self, daemon: str, at_ns: int) -> None:
        """The body of a cycle begins."""

    def post_execute(self, daemon: str, at_ns: int, took_ns: int, ok: bool) -> None:
        """The body of the cycle that began at `at_ns` is over; not `ok` when it raised."""

    def on_cycle(self, daemon: str, cycle: Cycle) -> None:
        """How the cycle was, against its grid. Not called for a cycle that raised."""


class Watch:
    """One daemon's line to the observer. `open_cycle` is the cycle whose body is running, if any.

    `guard` is there if somebody has said how long a body may take.
    """

    __slots__ = ("_observer", "daemon", "guard", "open_cycle")

    def __init__(self, observer: Observer, daemon: str, guard: "Guard | None" = None) -> None:
        self._observer = observer
        self.daemon = daemon
        self.guard = guard
        self.open_cycle: OpenCycle | None = None

    def cycle_begins(self, cycle: "OpenCycle", at_ns: int) -> None:
        self.open_cycle = cycle
        tell(self._observer.pre_execute, self.daemon, at_ns)

    def cycle_ends(self, at_ns: int, took_ns: int, cycle: Cycle | None) -> None:
        """`cycle` is None when the body raised."""
        self.open_cycle = None
        tell(self._observer.post_execute, self.daemon, at_ns, took_ns, cycle is not None)
        if cycle is not None:
            tell(self._observer.on_cycle, self.daemon, cycle)

    def run_ended(self, *, ok: bool) -> None:
        """The daemon left its loop in the middle of a cycle: by `break`, `return` or an error."""
        if self.open_cycle is not None:
            self.open_cycle.end(ok=ok)


class OpenCycle(Protocol):
    def end(self, *, ok: bool) -> None: ...


class Guard(Protocol):
    """Who knows whether the body of a daemon may be entered."""

    @property
    def stopping(self) -> bool:
        """Whether the daemon has been asked to stop."""

    def holds_back(self) -> bool:
        """The body is due. Asked once for each tick."""

    def judge(self, took_ns: int) -> None:
        """A body, or the handler in its place, took so long."""


# Whose cycles these are. Set by a supervisor that has an observer, and by nobody else.
current_watch: ContextVar[Watch | None] = ContextVar("geartrain_watch", default=None)


Facts = TypeVarTuple("Facts")


def tell(hook: Callable[[*Facts], None], *facts: *Facts) -> None:
    try:
        hook(*facts)
    except Exception:
        _log.exception("an observer's hook raised; the daemons go on")
