"""When a plane is stale, with the time told."""

import pytest

from geartrain.errors import BadType, BadValue
from geartrain.rules.planes import Plane, PlaneSnapshot

S = 1_000_000_000


def ticked(budget_ns: int, *stamps_ns: int) -> Plane:
    plane = Plane("scan", budget_ns)
    for stamp_ns in stamps_ns:
        plane.tick(stamp_ns)
    return plane


def test_one_that_has_never_ticked_is_not_stale_but_not_alive_either() -> None:
    plane = ticked(100)
    assert (plane.age_ns(10**12), plane.is_stale(10**12), plane.seq, plane.last_mono_ns) == (-1, False, 0, -1)


@pytest.mark.parametrize(("budget_ns", "fresh_ns"), [(100, 100), (0, 0), (12 * S, 6 * S), (12 * S, 12 * S)])
def test_an_age_equal_to_the_budget_is_fresh_and_a_nanosecond_more_is_stale(budget_ns: int, fresh_ns: int) -> None:
    plane = ticked(budget_ns, 0)
    assert not plane.is_stale(fresh_ns)
    assert plane.is_stale(budget_ns + 1)


def test_a_question_about_the_past_finds_it_fresh() -> None:
    assert ticked(0, 50).age_ns(40) == 0
    assert not ticked(0, 50).is_stale(40)


def test_ticks_are_numbered_from_one() -> None:
    plane = Plane("numbered", 1)
    assert [plane.tick(stamp) for stamp in (5, 6, 7)] == [1, 2, 3]


def test_a_tick_that_goes_back_is_counted_and_the_later_stamp_is_kept() -> None:
    plane = ticked(100, 50, 40)
    assert (plane.seq, plane.last_mono_ns, plane.regressions) == (2, 50, 1)
    plane.tick(50)
    assert plane.regressions == 1


def test_a_snapshot_is_of_one_moment() -> None:
    assert ticked(10, 5).snapshot(16) == PlaneSnapshot(
        name="scan", seq=1, last_mono_ns=5, age_ns=11, stale=True, staleness_budget_ns=10, regressions=0
    )


@pytest.mark.parametrize("bad", [True, 1.5, "1", None, -1])
def test_times_are_whole_and_not_negative(bad: int) -> None:
    plane = ticked(100, 7)
    with pytest.raises((BadType, BadValue), match="'bad' staleness_budget_ns"):
        Plane("bad", bad)
    for use in (plane.tick, plane.age_ns, plane.is_stale, plane.snapshot):
        with pytest.raises((BadType, BadValue), match="'scan'"):
            use(bad)
    assert plane.seq == 1
