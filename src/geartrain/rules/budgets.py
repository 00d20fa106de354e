"""Whether the body of a daemon is entered: not after it took longer than it may, until somebody clears that.

    its own budget         free --took > budget--> held, over its budget --clear--> free
    that of its executor   a body of anybody took more: the executor is held, and at its next tick each free daemon
                           is held with it, until that of the executor is cleared

Who waits for its executor and then overruns by itself, in the handler that runs in its place, is over its own budget
from then on. What was counted stays counted.
"""

from collections.abc import Iterator
from enum import Enum

from msgspec import Struct

from geartrain.errors import BadValue, NotHeld, UnknownDaemon
from geartrain.rules.checks import number
from geartrain.rules.nearest import did_you_mean


def in_ns(whose: str, budget_s: float | None) -> int | None:
    """A budget as it is reckoned with; one of nothing is refused."""
    if budget_s is None:
        return None
    budget_ns = round(number(f"{whose} budget, in seconds,", budget_s, least=0, most=1e9) * 1e9)
    if budget_ns == 0:
        raise BadValue(f"{whose} budget must be more than 0 seconds; leave it out where a body may take any time")
    return budget_ns


class HeldFor(Enum):
    """Why a daemon is held. What is told to users is `Hold.why`."""

    ITS_BUDGET = "over_budget"
    ITS_EXECUTOR = "with_its_executor"


class Hold(Struct, frozen=True):
    """Since when a body is held back, and how long the one took by which it came. `daemon` is whose body that was."""

    why: HeldFor
    daemon: str
    took_ns: int
    budget_ns: int
    since_ns: int


class Overran(Struct, frozen=True):
    """A body took longer than its daemon's budget."""

    daemon: str
    took_ns: int
    budget_ns: int


class DaemonHeld(Struct, frozen=True):
    """By that, it is held from now on. Not said of one that was held already."""

    daemon: str
    hold: Hold


class ExecutorHeld(Struct, frozen=True):
    """A body took longer than the budget of the executor, which was not held before."""

    hold: Hold


class Joined(Struct, frozen=True):
    """The executor is held, and from this tick on the daemon is too: nothing is wrong with it."""

    daemon: str
    hold: Hold


class DaemonReleased(Struct, frozen=True):
    """Its body is entered again from its next tick on."""

    daemon: str


class ExecutorReleased(Struct, frozen=True):
    """And that of everybody who was held with it."""


Fact = Overran | DaemonHeld | ExecutorHeld | Joined | DaemonReleased | ExecutorReleased


class _Line:
    __slots__ = ("budget_ns", "hold", "overruns", "passed")

    def __init__(self, budget_ns: int | None) -> None:
        self.budget_ns = budget_ns
        self.hold: Hold | None = None
        self.overruns = 0
        self.passed = 0


class Budgets:
    """Those of an executor and of its daemons. What is answered is to be told, in this order."""

    def __init__(self, budget_ns: int | None = None) -> None:
        self.budget_ns = budget_ns
        self.hold: Hold | None = None
        self._lines: dict[str, _Line] = {}

    def add(self, daemon: str, budget_ns: int | None) -> bool:
        """From now on it has this budget. The answer is whether its bodies have to be measured at all."""
        self._lines[daemon] = _Line(budget_ns)
        return budget_ns is not None or self.budget_ns is not None

    def hold_of(self, daemon: str) -> Hold | None:
        return self._lines[daemon].hold

    def overruns_of(self, daemon: str) -> int:
        """How often a body of it took longer than its own budget. No clear takes any back."""
        return self._lines[daemon].overruns

    def passed_of(self, daemon: str) -> int:
        """How many ticks went by without its body, whether or not a handler ran in its place."""
        return self._lines[daemon].passed

    # -- what happens -------------------------------------------------------------------------------------------------

    def tick(self, daemon: str) -> tuple[Fact, ...]:
        """The body of this daemon is due. It may be entered if it is not held now."""
        line = self._lines[daemon]
        joins = line.hold is None and self.hold is not None
        if joins:
            line.hold = self.hold
        line.passed += line.hold is not None
        return (Joined(daemon, line.hold),) if joins and line.hold is not None else ()

    def took(self, daemon: str, took_ns: int, now_ns: int) -> tuple[Fact, ...]:
        """A body, or the handler in its place, took so long. Exactly the budget is within it."""
        return (*self._by_its_own(daemon, took_ns, now_ns), *self._by_the_executors(daemon, took_ns, now_ns))

    def _by_its_own(self, daemon: str, took_ns: int, now_ns: int) -> Iterator[Fact]:
        line = self._lines[daemon]
        if line.budget_ns is None or took_ns <= line.budget_ns:
            return
        line.overruns += 1
        was = line.hold
        yield Overran(daemon, took_ns, line.budget_ns)
        if was is None or was.why is HeldFor.ITS_EXECUTOR:
            line.hold = Hold(HeldFor.ITS_BUDGET, daemon, took_ns, line.budget_ns, now_ns)
        if was is None and line.hold is not None:
            yield DaemonHeld(daemon, line.hold)

    def _by_the_executors(self, daemon: str, took_ns: int, now_ns: int) -> Iterator[Fact]:
        if self.budget_ns is None or took_ns <= self.budget_ns or self.hold is not None:
            return
        self.hold = Hold(HeldFor.ITS_EXECUTOR, daemon, took_ns, self.budget_ns, now_ns)
        yield ExecutorHeld(self.hold)

    # -- clearing -----------------------------------------------------------------------------------------------------

    def clear(self, daemon: str) -> tuple[Fact, ...]:
        """Raises when there is nothing to clear, and then nothing changes."""
        line = self._known(daemon)
        if line.hold is None:
            raise NotHeld(f"daemon {daemon!r} is not held: its body is entered at each tick, and nothing is to clear")
        if line.hold.why is HeldFor.ITS_EXECUTOR:
            raise NotHeld(
                f"daemon {daemon!r} is within its own budget, and held with its executor since {line.hold.daemon!r} "
                "took too long; clear the fault of the executor"
            )
        line.hold = None
        return (DaemonReleased(daemon),)

    def release(self, daemon: str) -> tuple[Fact, ...]:
        """Whatever keeps this daemon from its body is cleared: its own fault, and that of the executor."""
        its_own = self._known(daemon).hold
        if self.hold is None:
            return self.clear(daemon)
        is_over = its_own is not None and its_own.why is HeldFor.ITS_BUDGET
        return (*(self.clear(daemon) if is_over else ()), *self.clear_executor())

    def _known(self, daemon: str) -> _Line:
        if daemon not in self._lines:
            raise UnknownDaemon(f"there is no daemon {daemon!r} here; {did_you_mean(daemon, list(self._lines))}")
        return self._lines[daemon]

    def clear_executor(self) -> tuple[Fact, ...]:
        """Releases those who were held with it. Who is over its own budget stays held."""
        if self.hold is None:
            raise NotHeld("the executor is not held: no body took longer than its budget, and nothing is to clear")
        self.hold = None
        return (*self._release_all(), ExecutorReleased())

    def _release_all(self) -> Iterator[Fact]:
        for daemon, line in self._lines.items():
            if line.hold is not None and line.hold.why is HeldFor.ITS_EXECUTOR:
                line.hold = None
                yield DaemonReleased(daemon)
