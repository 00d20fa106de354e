"""The grid of a periodic loop, by exhaustion over small numbers."""

from itertools import count

import pytest

from geartrain.rules.grid import Cycle, cycle, next_slot

EPOCHS, PERIODS, SERVED, NOW = range(-3, 4), range(1, 6), range(6), range(-8, 40)
CASES = [(epoch, period, served, now) for epoch in EPOCHS for period in PERIODS for served in SERVED for now in NOW]


def test_the_next_slot_is_the_first_that_is_later_than_now_and_than_the_one_served() -> None:
    for epoch, period, served, now in CASES:
        first = next(slot for slot in count(served + 1) if epoch + slot * period > now)
        assert next_slot(epoch, period, served, now) == first, (epoch, period, served, now)


def test_a_slot_is_never_served_twice_however_time_stands() -> None:
    assert all(next_slot(epoch, period, served, now) > served for epoch, period, served, now in CASES)


def test_a_body_that_ends_exactly_on_a_slot_has_missed_it() -> None:
    for epoch, period, served, _ in CASES:
        on_the_next_slot = epoch + (served + 1) * period
        assert next_slot(epoch, period, served, on_the_next_slot) == served + 2
        assert next_slot(epoch, period, served, on_the_next_slot - 1) == served + 1


def test_the_grid_is_exact_after_a_thousand_years_of_nanoseconds() -> None:
    year_ns = 365 * 24 * 3600 * 10**9
    assert next_slot(1, 3, 0, 1000 * year_ns) == (1000 * year_ns - 1) // 3 + 1


@pytest.mark.parametrize(
    ("due_ns", "started_ns", "ended_ns", "previous_ns", "took_ns", "lateness_ns", "actual_ns", "jitter_ns"),
    [
        (100, 100, 100, 90, 0, 0, 10, 0),  # as planned
        (100, 103, 109, 90, 6, 3, 13, 3),  # late, so the period was long
        (100, 100, 104, 94, 4, 0, 6, 4),  # in time after a late one, so the period was short
        (100, 100, 104, None, 4, 0, None, None),  # the first has no period
        (100, 98, 99, 90, 1, -2, 8, 2),  # early, which only a clock that was set could be
    ],
)
def test_a_cycle_says_how_it_really_went(
    due_ns: int,
    started_ns: int,
    ended_ns: int,
    previous_ns: int | None,
    took_ns: int,
    lateness_ns: int,
    actual_ns: int | None,
    jitter_ns: int | None,
) -> None:
    assert cycle(
        index=7,
        period_ns=10,
        due_ns=due_ns,
        started_ns=started_ns,
        ended_ns=ended_ns,
        skipped=2,
        previous_ns=previous_ns,
    ) == Cycle(
        index=7,
        period_ns=10,
        due_ns=due_ns,
        started_ns=started_ns,
        took_ns=took_ns,
        lateness_ns=lateness_ns,
        skipped_slots=2,
        actual_period_ns=actual_ns,
        jitter_ns=jitter_ns,
    )
