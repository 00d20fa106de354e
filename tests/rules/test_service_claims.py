"""Equal slots for all runners: who owns which, and what the rule never says, over cases that are drawn."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.rules.service_claims import ClaimReason, Runner, Schedule, claim, microseconds

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)
# Seconds of the calendar, and intervals of whole minutes.
SECONDS = st.integers(0, 2 * 10**15).map(lambda us: us / 1e6)
MINUTES = st.integers(1, 1440)


def answers(names: list[str], now_s: float, schedule: Schedule) -> dict[str, ClaimReason]:
    runners = [Runner(name, 0.0) for name in names]
    return {name: claim(name, runners, now_s, schedule).reason for name in names}


@given(names=NAMES, now_s=SECONDS, minutes=MINUTES, spread=st.floats(1e-6, 2000))
def test_with_a_margin_no_two_are_assigned(names: list[str], now_s: float, minutes: int, spread: float) -> None:
    said = list(answers(names, now_s, Schedule(minutes, spread, 0, 0)).values())
    assert said.count(ClaimReason.ASSIGNED) <= 1


@given(names=NAMES.filter(len), now_s=SECONDS, minutes=MINUTES)
def test_without_a_margin_it_is_always_somebodys_turn_but_within_a_microsecond_of_an_edge(
    names: list[str], now_s: float, minutes: int
) -> None:
    slot = Fraction(minutes * 60, len(names))
    if 2e-6 < Fraction(now_s) % slot < slot - Fraction(2, 10**6):
        said = list(answers(names, now_s, Schedule(minutes, 0, 0, 0)).values())
        assert said.count(ClaimReason.ASSIGNED) == 1


@given(names=NAMES, now_s=SECONDS, minutes=MINUTES, spread=st.floats(0, 10), grace=st.floats(0, 1e9))
def test_all_are_told_the_same_owner_and_the_same_cycle(
    names: list[str], now_s: float, minutes: int, spread: float, grace: float
) -> None:
    runners = [Runner(name, now_s / 2) for name in names]
    said = [claim(name, runners, now_s, Schedule(minutes, spread, grace, 0.5)) for name in [*names, "stranger"]]
    assert len({(one.assigned_runner_id, one.cycle_start_us, one.runner_count) for one in said}) == 1


@pytest.mark.parametrize(
    ("count", "reason"), [(4, ClaimReason.ASSIGNED), (5, ClaimReason.SLOT_WINDOW_INVALID)]
)  # the usual five minutes with a margin of one
def test_a_margin_as_long_as_a_slot_stops_everybody_and_says_so(count: int, reason: ClaimReason) -> None:
    runners = [Runner(name, 0.0) for name in "abcdefgh"[:count]]
    said = claim("a", runners, 0.0, Schedule(5, 1, 0, 0.5))
    assert said.reason is reason
    assert said.message == (
        "" if count == 4 else "5 slots in 5 minutes leave nothing of a slot beside a margin of 1 minutes"
    )


def test_a_newcomer_keeps_its_slot_to_itself_until_it_is_old_enough() -> None:
    runners = [Runner("a", 100.0), Runner("b", 0.0)]
    schedule = Schedule(10, 0, 30, 0)
    for who in "ab":
        young = claim(who, runners, 129.999, schedule)
        assert young.reason is ClaimReason.SCHEDULED_RUNNER_IN_GRACE
        assert young.message == "the slot is kept for 'a', which is not yet 30 s old"
    assert claim("a", runners, 130.0, schedule).reason is ClaimReason.ASSIGNED


def test_a_start_at_the_very_share_is_not_late() -> None:
    runners = [Runner("a", 0.0)]
    assert claim("a", runners, 150.0, Schedule(5, 0, 0, 0.5)).reason is ClaimReason.ASSIGNED
    late = claim("a", runners, 150.000001, Schedule(5, 0, 0, 0.5))
    assert (late.reason, late.late_fraction) == (ClaimReason.LATE_START, 150.000001 / 300)
    assert late.message == "50.0% of the slot has passed, and a run must start within 50.0%"


@pytest.mark.parametrize("fraction", [0, 1, -1, 1.5])
def test_a_share_that_is_none_never_makes_late(fraction: float) -> None:
    assert claim("a", [Runner("a", 0.0)], 299.9, Schedule(5, 0, 0, fraction)).reason is ClaimReason.ASSIGNED


def test_cycles_shorter_than_the_rounding_of_time_are_answered_too() -> None:
    runners = [Runner(name, 0.0) for name in "abc"]
    for minutes in (1e-9, 1e-10, 1e-12):
        said = claim("b", runners, 1466970168.8025937, Schedule(minutes, 0, 0, 0.5))
        assert said.assigned_runner_id in ("a", "b", "c")
        assert claim("a", runners[:1], 1466970168.8025937, Schedule(minutes, 0, 0, 0.5)).late_fraction is None


def test_of_two_microseconds_equally_near_the_even_one_is_taken() -> None:
    assert [microseconds(n / 2**21) for n in (0, 1, 2**21)] == [0, 0, 10**6]
    assert [microseconds(sign * n * 1e-6) for sign in (1, -1) for n in (0.5, 1.5, 2.5)] == [0, 2, 2, 0, -2, -2]


def test_a_slot_begins_at_its_first_moment_and_ends_before_its_last() -> None:
    runners = [Runner("a", 0.0), Runner("b", 0.0)]
    schedule = Schedule(10, 1, 0, 0)  # b may start from 300 s to 540 s
    at = {now_s: claim("b", runners, now_s, schedule) for now_s in (299.999999, 300.0, 539.999999, 540.0, 599.0)}
    assert [said.reason == "assigned" for said in at.values()] == [False, True, True, False, False]
    # In the margin a slot is still its owner's, who may not start in it.
    assert [said.is_owner_now for said in at.values()] == [False, True, True, True, True]
