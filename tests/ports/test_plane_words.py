"""The words of a plane: written by one process, judged by any, and there when their writer is not."""

from pathlib import Path

import pytest

from geartrain.errors import BadValue
from geartrain.ports.plane_words import PlaneWords, plane_in

BUDGET_NS = 100


class Time:
    def __init__(self) -> None:
        self.now_ns = 1_000


def in_memory() -> tuple[PlaneWords, Time]:
    time = Time()
    return PlaneWords.in_memory("frames", BUDGET_NS, lambda: time.now_ns), time


def test_what_has_never_ticked_is_not_stale() -> None:
    plane, _ = in_memory()
    now = plane.snapshot(10**12)
    assert (now.seq, now.age_ns, now.last_mono_ns, now.stale) == (0, -1, -1, False)


@pytest.mark.parametrize(("age_ns", "stale"), [(0, False), (100, False), (101, True)])
def test_an_age_equal_to_the_budget_is_fresh(age_ns: int, stale: bool) -> None:
    plane, _ = in_memory()
    plane.tick()
    assert (plane.snapshot(1_000 + age_ns).age_ns, plane.snapshot(1_000 + age_ns).stale) == (age_ns, stale)


def test_a_tick_that_goes_back_in_time_is_counted_and_not_applied() -> None:
    plane, time = in_memory()
    plane.tick()
    time.now_ns = 900
    plane.tick()
    now = plane.snapshot(1_050)
    assert (now.seq, now.last_mono_ns, now.age_ns, now.regressions) == (2, 1_000, 50, 1)


def test_one_that_is_over_is_not_stale_until_it_ticks_again() -> None:
    plane, time = in_memory()
    plane.tick()
    plane.end()
    assert not plane.snapshot(9_999).stale
    time.now_ns = 1_200
    plane.tick()
    assert plane.snapshot(9_999).stale


def test_whoever_wants_to_know_is_told_of_ticks_and_the_end() -> None:
    plane, _ = in_memory()
    told: list[int] = []
    plane.ticked = lambda: told.append(plane.snapshot(1_000).seq)
    plane.ended = lambda: told.append(0)
    plane.tick()
    plane.tick()
    plane.end()
    assert told == [1, 2, 0]


def test_what_one_has_written_another_reads_and_the_next_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "plane"
    assert plane_in(path, "frames") is None
    writer, judge = (PlaneWords.mapped(path, "frames", BUDGET_NS) for _ in range(2))
    writer.tick()
    now_ns = judge.snapshot(0).last_mono_ns
    assert judge.snapshot(now_ns).seq == 1
    assert judge.snapshot(now_ns + 101).stale
    del writer
    PlaneWords.mapped(path, "frames", BUDGET_NS).tick()
    seen = plane_in(path, "frames")
    assert seen is not None
    assert (seen.name, seen.seq, seen.staleness_budget_ns) == ("frames", 2, BUDGET_NS)


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "plane"
    path.write_bytes(b"something else" * 8)
    with pytest.raises(BadValue, match="no plane"):
        PlaneWords.mapped(path, "frames", BUDGET_NS)
    assert plane_in(path, "frames") is None
    (tmp_path / "short").write_bytes(b"x" * 9)
    assert plane_in(tmp_path / "short", "frames") is None


def test_where_no_file_can_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="cannot be opened"):
        PlaneWords.mapped(tmp_path / "nowhere" / "plane", "frames", BUDGET_NS)
