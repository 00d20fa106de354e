"""Virtual time over many processes: who may act in which microstep of which instant, decided in one place.

    a process     acts, is quiet, and says:  Report    whom it has told something; whether it has told itself;
                                                       when its next timer is due
    the barrier   once nobody acts any more: Go        (t, k+1) to those who were told something, else
                                                       (t', 0) to those whose timer is due first
                                             Arrive    nothing is due before somebody's target

    (t, 0)     a  b          a and c are told something
    (t, 1)     a     c       nobody is
    (t', 0)       b          the timer of b is the first

Who acts alone need not ask before each step: it goes on up to, and not into, the instant in which another would act.
A process that was killed is asked no more; the others hear of it in the next microstep, and time goes on.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from geartrain.rules.deadlock import Waiting, stuck
from geartrain.rules.microsteps import LIMIT

# Later than all times: no timer, no target.
NEVER = 2**63 - 1


class Report(Struct, frozen=True, array_like=True, omit_defaults=True):
    """Where a process stands that is quiet, and what it leaves to be done."""

    t_ns: int
    k: int
    # Whom it has said something to, in this microstep.
    told: tuple[str, ...] = ()
    # Whether it has said something to itself, or sleeps for no time.
    goes_on: bool = False
    due_ns: int = NEVER
    # Whether somebody lets time pass there, and until when.
    is_driven: bool = True
    until_ns: int = NEVER
    # Only where they were asked for: the waits of its daemons, and those of its daemons that live.
    waits: tuple[Waiting, ...] | None = None
    alive: tuple[str, ...] = ()


class Go(Struct, frozen=True, array_like=True, tag="go"):
    """Act in this microstep, and hear what these have said. Before the horizon nobody else does anything."""

    t_ns: int
    k: int
    heard: tuple[str, ...] = ()
    horizon_ns: int = 0


class Arrive(Struct, frozen=True, array_like=True, tag="arrive"):
    """Nothing is due before the target of who lets time pass there; these waits can never end."""

    t_ns: int
    k: int
    in_vain: tuple[Waiting, ...] = ()
    # Whether nothing is due anywhere, whenever that would be.
    is_idle: bool = True


class Tell(Struct, frozen=True, array_like=True, tag="tell"):
    """Nothing is left to do anywhere: report once more, with all waits."""


class Vain(Struct, frozen=True, array_like=True, tag="vain"):
    """So many microsteps in one instant are no work any more."""

    t_ns: int
    k: int


Order = Go | Arrive | Tell | Vain
Orders = Mapping[str, Order]


class Barrier:
    """The one who knows what time it is. A process acts from its beginning, or an order, until it reports."""

    def __init__(self, processes: Iterable[str], t_ns: int = 0, limit: int = LIMIT) -> None:
        self.t_ns = t_ns
        self.k = 0
        self._limit = limit
        self._last = limit
        self._acting = set(processes)
        self._stand: dict[str, Report] = {}
        # Who will hear whom in the next microstep.
        self._told: dict[str, set[str]] = {}

    @property
    def acting(self) -> frozenset[str]:
        """Who has not reported yet."""
        return frozenset(self._acting)

    @property
    def living(self) -> frozenset[str]:
        return frozenset(self._acting.union(self._stand))

    def report(self, process: str, report: Report) -> Orders:
        """What the processes are to do now: nothing, while one of them still acts."""
        assert process in self._acting, f"{process} reports, and was not to act"
        self._note(process, report)
        return self._decide()

    def leave(self, process: str, last: Report | None = None) -> Orders:
        """It has ended, and `last` is what it has still said. When one was killed, the others hear that it has gone."""
        if process not in self.living:
            return {}
        if last is not None:
            self._note(process, last)
        self._acting.discard(process)
        self._stand.pop(process, None)
        self._told.pop(process, None)
        for other in self.living if last is None else ():
            self._told.setdefault(other, set()).add(process)
        return self._decide()

    def _note(self, process: str, report: Report) -> None:
        self._acting.discard(process)
        self._stand[process] = report
        # Of several who act, all do so in the same microstep; one alone has perhaps gone on since.
        if (report.t_ns, report.k) > (self.t_ns, self.k):
            self._move_to(report.t_ns, report.k)
        for other in report.told:
            if other in self.living:
                self._told.setdefault(other, set()).add(process)

    # -- what comes next -------------------------------------------------------------------------------------------

    def _decide(self) -> Orders:
        if self._acting or not self._stand:
            return {}
        orders = self._next_microstep() or self._next_timer() or self._arrival()
        for process, order in orders.items():
            self._acting.add(process)
            if isinstance(order, Go):
                self._told.pop(process, None)
        return orders

    def _next_microstep(self) -> dict[str, Order]:
        who = [name for name, stand in self._stand.items() if stand.goes_on or self._told.get(name)]
        if not who:
            return {}
        if self.k >= self._last:
            # To clean up there are as many microsteps again.
            self._last += self._limit
            return {name: Vain(self.t_ns, self.k) for name in self._stand}
        return self._let_act(who, self.t_ns, self.k + 1)

    def _next_timer(self) -> dict[str, Order]:
        due_ns = min(self._due_of(name) for name in self._stand)
        if due_ns == NEVER or due_ns > self._until_ns:
            return {}
        return self._let_act([name for name in self._stand if self._due_of(name) == due_ns], due_ns, 0)

    def _arrival(self) -> dict[str, Order]:
        until_ns = self._until_ns
        if until_ns == NEVER:
            if any(stand.waits is None for stand in self._stand.values()):
                return {name: Tell() for name in self._stand}
        elif until_ns > self.t_ns:
            self._move_to(until_ns, 0)
        in_vain = self._in_vain() if until_ns == NEVER else ()
        is_idle = all(self._due_of(name) == NEVER for name in self._stand)
        return {
            name: Arrive(self.t_ns, self.k, in_vain, is_idle)
            for name, stand in self._stand.items()
            if until_ns == NEVER or (stand.is_driven and stand.until_ns == until_ns)
        }

    def _let_act(self, who: list[str], t_ns: int, k: int) -> dict[str, Order]:
        self._move_to(t_ns, k)
        others = (self._acts_at(name) for name in self._stand if name != who[0])
        horizon_ns = t_ns if len(who) > 1 else min(others, default=NEVER)
        return {name: Go(t_ns, k, tuple(sorted(self._told.get(name, ()))), horizon_ns) for name in who}

    def _move_to(self, t_ns: int, k: int) -> None:
        if t_ns > self.t_ns:
            self._last = self._limit
        self.t_ns, self.k = t_ns, k

    @property
    def _until_ns(self) -> int:
        return min((stand.until_ns for stand in self._stand.values() if stand.is_driven), default=NEVER)

    def _due_of(self, name: str) -> int:
        stand = self._stand[name]
        return stand.due_ns if stand.is_driven else NEVER

    def _acts_at(self, name: str) -> int:
        """When it acts, whatever others do."""
        stand = self._stand[name]
        return min(stand.due_ns, stand.until_ns) if stand.is_driven else NEVER

    def _in_vain(self) -> tuple[Waiting, ...]:
        stands = [self._stand[name] for name in sorted(self._stand)]
        return stuck(
            (wait for stand in stands for wait in stand.waits or ()), {name for stand in stands for name in stand.alive}
        )
