"""Whether something that should move on still does: a plane ticks, and is stale when its last tick is too old.

    tick          budget over
     |---- fresh ----|---- stale ---->        an age equal to the budget is fresh: a budget that is a multiple of
     0            = budget                    the cadence does not flap

One that has never ticked is not yet alive, which is not stale: whoever starts up waits for `seq > 0`.
"""

from msgspec import Struct

from geartrain.errors import BadType
from geartrain.rules.checks import whole

NEVER = -1


class PlaneSnapshot(Struct, frozen=True, kw_only=True):
    """A plane at one moment. `age_ns` and `last_mono_ns` are -1 for one that has never ticked.

    One that is over, as a channel that has ended, is expected to tick no more, and not stale.
    """

    name: str
    seq: int
    last_mono_ns: int
    age_ns: int
    stale: bool
    staleness_budget_ns: int
    regressions: int
    is_over: bool = False


class Plane:
    """One plane; what time it is, is told with each question. Ticked by one thread, asked by any."""

    def __init__(self, name: str, staleness_budget_ns: int) -> None:
        if not isinstance(name, str):
            raise BadType(f"a plane's name must be a string, got {name!r}")
        self.name = name
        self._now_is = f"plane {name!r} now_ns"
        self.staleness_budget_ns = whole(f"plane {name!r} staleness_budget_ns", staleness_budget_ns, least=0)
        self._seq = 0
        self._last_ns = NEVER
        self._regressions = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {self._seq} ticks>"

    @property
    def seq(self) -> int:
        """How often it has ticked."""
        return self._seq

    @property
    def last_mono_ns(self) -> int:
        """The latest tick, or -1."""
        return self._last_ns

    @property
    def regressions(self) -> int:
        """How many ticks were older than one before them."""
        return self._regressions

    def tick(self, now_ns: int) -> int:
        """It has moved on; the answer is how often. An older stamp than the last is counted, and not kept."""
        whole(self._now_is, now_ns, least=0)
        if now_ns < self._last_ns:
            self._regressions += 1
        else:
            self._last_ns = now_ns
        self._seq += 1
        return self._seq

    def age_ns(self, now_ns: int) -> int:
        """How long ago it ticked last; -1 when it never has, and never less than 0 when it has."""
        whole(self._now_is, now_ns, least=0)
        return NEVER if not self._seq else max(0, now_ns - self._last_ns)

    def is_stale(self, now_ns: int) -> bool:
        """Whether its last tick is older than its budget."""
        return self.age_ns(now_ns) > self.staleness_budget_ns

    def snapshot(self, now_ns: int) -> PlaneSnapshot:
        """All of it at one moment."""
        whole(self._now_is, now_ns, least=0)
        return snapshot(
            name=self.name,
            seq=self._seq,
            last_ns=self._last_ns,
            budget_ns=self.staleness_budget_ns,
            regressions=self._regressions,
            now_ns=now_ns,
        )


def snapshot(
    *, name: str, seq: int, last_ns: int, budget_ns: int, regressions: int, now_ns: int, is_over: bool = False
) -> PlaneSnapshot:
    """How a plane is, from its words alone. Of one that is over nothing more is expected."""
    age_ns = max(0, now_ns - last_ns) if seq else NEVER
    return PlaneSnapshot(
        name=name,
        seq=seq,
        last_mono_ns=last_ns if seq else NEVER,
        age_ns=age_ns,
        stale=age_ns > budget_ns and not is_over,
        staleness_budget_ns=budget_ns,
        regressions=regressions,
        is_over=is_over,
    )
