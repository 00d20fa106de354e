"""Planes that look at the clock themselves."""

import pytest

from geartrain import PlaneClock, SimClock, mono_ns


def test_without_a_time_it_is_now() -> None:
    before_ns = mono_ns()
    plane = PlaneClock("scan", 60_000_000_000)
    assert plane.tick() == 1
    assert before_ns <= plane.last_mono_ns <= mono_ns()
    assert 0 <= plane.age_ns() <= mono_ns() - before_ns
    assert not plane.is_stale()


def test_with_a_time_no_clock_is_read() -> None:
    plane = PlaneClock("scan", 100, clock=Untouched())
    assert plane.tick(7) == 1
    assert (plane.age_ns(107), plane.is_stale(107), plane.is_stale(108)) == (100, False, True)
    assert plane.snapshot(108).stale


def test_a_snapshot_reads_the_clock_once() -> None:
    clock = Untouched(1_000, 1_050)
    plane = PlaneClock("scan", 40, clock=clock)
    plane.tick()
    snapshot = plane.snapshot()
    assert (snapshot.age_ns, snapshot.stale) == (50, True)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_in_virtual_time_it_ages_as_that_passes() -> None:
    clock = SimClock(t0=1.0)
    plane = PlaneClock("scan", 500_000_000, clock=clock)
    plane.tick()
    await clock.advance(0.5)
    assert not plane.is_stale()
    await clock.advance(0.1)
    assert plane.snapshot().age_ns == 600_000_000


class Untouched(SimClock):
    """A clock that tells the times it was given, one by one, and nothing more."""

    def __init__(self, *times_ns: int) -> None:
        super().__init__()
        self._times_ns = list(times_ns)

    def now_ns(self) -> int:
        return self._times_ns.pop(0)
