"""All planes of a pipeline, for a daemon that wants to judge them: its clock does.

    class Watcher(Daemon):
        def __init__(self, board: PlaneBoard) -> None: ...

A plane of this process tells when it ticks. One of another process is looked at, often enough for its budget.
"""

from collections.abc import Iterator, Sequence

from geartrain.engine.signal import Bell
from geartrain.ports.clock import Clock
from geartrain.ports.plane_words import PlaneWords
from geartrain.rules.planes import PlaneSnapshot

# How often a plane of another process is looked at while a tick is waited for: in parts of its budget, and in seconds.
_LOOKS = 8
_LOOK_LEAST_S = 0.002
_LOOK_MOST_S = 0.02


class WatchedPlane:
    """One plane, and how to wait for what becomes of it."""

    def __init__(self, words: PlaneWords) -> None:
        self._words = words
        self._ticked, self._ended = Bell(), Bell()
        words.ticked, words.ended = self._ticked.ring, self._end

    @property
    def name(self) -> str:
        return self._words.name

    @property
    def is_over(self) -> bool:
        return self._words.is_over

    def snapshot(self, now_ns: int) -> PlaneSnapshot:
        return self._words.snapshot(now_ns)

    async def changed(self, clock: Clock, known: PlaneSnapshot) -> None:
        """Return when it may be another than known: at the end of its budget, or, if it was not fresh, at a tick.

        `known` is what the last look has found: what has become of it since then is found by no second one.
        """
        if self.is_over != known.is_over:
            return
        if known.seq and not known.stale and not known.is_over:
            await self._end_of_budget(clock, known.last_mono_ns + known.staleness_budget_ns + 1)
        else:
            await self._next_tick(clock, known)

    def _end(self) -> None:
        self._ended.ring()
        self._ticked.ring()

    async def _end_of_budget(self, clock: Clock, until_ns: int) -> None:
        if self._words.is_shared:
            await clock.wait_until_ns(until_ns)
            return
        # Under virtual time nobody waits for what will not come.
        with clock.move_on_after((until_ns - clock.now_ns()) / 1e9):
            await self._ended.wait()

    async def _next_tick(self, clock: Clock, known: PlaneSnapshot) -> None:
        pause_s = min(max(known.staleness_budget_ns / 1e9 / _LOOKS, _LOOK_LEAST_S), _LOOK_MOST_S)
        while self.is_over == known.is_over and self.snapshot(clock.now_ns()).seq == known.seq:
            if self._words.is_shared:
                await clock.sleep(pause_s)
            else:
                await self._ticked.wait()


class PlaneBoard:
    """The planes of a pipeline: one for each channel with `stale_after`."""

    def __init__(self, planes: Sequence[PlaneWords]) -> None:
        self._planes = tuple(WatchedPlane(plane) for plane in planes)

    def __iter__(self) -> Iterator[WatchedPlane]:
        return iter(self._planes)

    def snapshots(self, now_ns: int) -> tuple[PlaneSnapshot, ...]:
        """All of them, at one moment of the daemon's clock."""
        return tuple(plane.snapshot(now_ns) for plane in self._planes)
