"""A plane that looks at the clock itself when it is not told what time it is."""

from geartrain.ports.clock import Clock, mono_ns
from geartrain.rules.planes import Plane, PlaneSnapshot


class PlaneClock(Plane):
    """A plane on a clock, which is real time unless another is given."""

    def __init__(self, name: str, staleness_budget_ns: int, *, clock: Clock | None = None) -> None:
        super().__init__(name, staleness_budget_ns)
        self._now_ns = mono_ns if clock is None else clock.now_ns

    def tick(self, now_ns: int | None = None) -> int:
        """It has moved on; the answer is how often. An older stamp than the last is counted, and not kept."""
        return super().tick(self._now_ns() if now_ns is None else now_ns)

    def age_ns(self, now_ns: int | None = None) -> int:
        """How long ago it ticked last; -1 when it never has, and never less than 0 when it has."""
        return super().age_ns(self._now_ns() if now_ns is None else now_ns)

    def is_stale(self, now_ns: int | None = None) -> bool:
        """Whether its last tick is older than its budget."""
        return super().is_stale(self._now_ns() if now_ns is None else now_ns)

    def snapshot(self, now_ns: int | None = None) -> PlaneSnapshot:
        """All of it at one moment."""
        return super().snapshot(self._now_ns() if now_ns is None else now_ns)
