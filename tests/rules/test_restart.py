"""Whether and how soon a daemon is started again: the policy, the deaths that count, and the verdict."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geartrain.errors import BadType, BadValue
from geartrain.rules.restart import Again, GiveUp, History, RestartPolicy, decide

S = 10**9


def delays(policy: RestartPolicy, count: int, roll: float = 0.5) -> list[float]:
    verdicts = [decide(policy, deaths, roll) for deaths in range(1, count + 1)]
    return [verdict.delay_s for verdict in verdicts if isinstance(verdict, Again)]


# -- the policy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"base": -1}, "RestartPolicy base must be >= 0, got -1"),
        ({"base": math.nan}, "RestartPolicy base must be >= 0, got nan"),
        ({"factor": -0.5}, "RestartPolicy factor must be >= 0, got -0.5"),
        ({"cap": -1e-9}, "RestartPolicy cap must be >= 0, got -1e-09"),
        ({"jitter": 1.01}, "RestartPolicy jitter must be from 0 to 1, got 1.01"),
        ({"jitter": -0.1}, "RestartPolicy jitter must be from 0 to 1, got -0.1"),
        ({"max_retries": -1}, "RestartPolicy max_retries must be >= 0, got -1"),
        ({"within": -1}, "RestartPolicy within must be >= 0, got -1"),
        ({"within": 0}, "RestartPolicy within must be more than 0 seconds, or None to count every failure"),
        ({"within": 0.0}, "RestartPolicy within must be more than 0 seconds, or None to count every failure"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(BadValue) as refusal:
        RestartPolicy(**wrong)  # type: ignore[arg-type]
    assert str(refusal.value) == said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"base": "1s"}, "RestartPolicy base must be a number, got '1s'"),
        ({"factor": None}, "RestartPolicy factor must be a number, got None"),
        ({"cap": True}, "RestartPolicy cap must be a number, got True"),
        ({"jitter": "0"}, "RestartPolicy jitter must be a number, got '0'"),
        ({"max_retries": 1.5}, "RestartPolicy max_retries must be a whole number, got 1.5"),
        ({"max_retries": True}, "RestartPolicy max_retries must be a whole number, got True"),
        ({"within": "1m"}, "RestartPolicy within must be a number, got '1m'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(BadType) as refusal:
        RestartPolicy(**wrong)  # type: ignore[arg-type]
    assert str(refusal.value) == said


def test_the_bounds_themselves_are_allowed() -> None:
    RestartPolicy(base=0, factor=0, cap=0, jitter=0, max_retries=0, within=None)
    assert RestartPolicy(jitter=1, cap=math.inf).cap == math.inf


# -- the deaths that count --------------------------------------------------------------------------------------------


def deaths_counted(within_s: float | None, *, at_s: list[int]) -> list[int]:
    """How many deaths count after each of these."""
    history: History[str] = History(within_s)
    return [history.add(at * S, "a cause") for at in at_s]


def test_without_a_window_every_death_counts_for_ever() -> None:
    assert deaths_counted(None, at_s=[0, 1, 1, 10**9]) == [1, 2, 3, 4]


def test_only_deaths_within_the_window_count() -> None:
    assert deaths_counted(10, at_s=[0, 4, 9, 13, 100]) == [1, 2, 3, 3, 1]


def test_a_death_exactly_as_old_as_the_window_does_not_count_any_more() -> None:
    history: History[str] = History(10)
    assert [history.add(at_ns, "") for at_ns in (0, 10 * S - 1)] == [1, 2]
    history = History(10)
    assert [history.add(at_ns, "") for at_ns in (0, 10 * S)] == [1, 1]


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-3, 100), st.lists(st.integers(0, 20 * S), max_size=30))
def test_the_count_is_that_of_the_deaths_younger_than_the_window(within_s: float, gaps_ns: list[int]) -> None:
    history: History[int] = History(within_s)
    now_ns, deaths = 0, list[int]()
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        deaths.append(now_ns)
        counted = [number for number, death in enumerate(deaths) if now_ns - death < round(within_s * 1e9)]
        assert history.add(now_ns, len(deaths) - 1) == len(counted)
        assert history.first_cause == counted[0]


def test_the_shortest_window_counts_the_death_itself() -> None:
    assert deaths_counted(RestartPolicy(within=1e-10).within, at_s=[0, 1]) == [1, 1]


def test_a_window_without_end_counts_every_death() -> None:
    assert deaths_counted(RestartPolicy(within=math.inf).within, at_s=[0, 10**9]) == [1, 2]


def test_the_first_cause_is_that_of_the_oldest_death_that_counts() -> None:
    history: History[int] = History(10)
    for at_s in (0, 4, 9, 13):
        history.add(at_s * S, at_s)
    assert history.first_cause == 4
    for_ever: History[int] = History(None)
    for at_s in (3, 4, 5):
        for_ever.add(at_s * S, at_s)
    assert for_ever.first_cause == 3


# -- the verdict ------------------------------------------------------------------------------------------------------


def test_the_delay_grows_by_the_factor_up_to_the_cap() -> None:
    assert delays(RestartPolicy(base=0.5, factor=2, cap=3), 5) == [0.5, 1, 2, 3, 3]


def test_the_first_restart_may_be_at_once_and_base_is_then_the_delay_before_the_second() -> None:
    assert delays(RestartPolicy(base=1, factor=2, cap=100, first_at_once=True), 4) == [0, 1, 2, 4]


def test_a_factor_of_one_keeps_the_delay_and_one_below_shortens_it() -> None:
    assert delays(RestartPolicy(base=0.5, factor=1), 3) == [0.5, 0.5, 0.5]
    assert delays(RestartPolicy(base=1, factor=0.5), 3) == [1, 0.5, 0.25]


def test_it_is_over_with_one_death_more_than_there_are_retries() -> None:
    policy = RestartPolicy(max_retries=2)
    assert [type(decide(policy, deaths, 0.5)) for deaths in (1, 2, 3, 4)] == [Again, Again, GiveUp, GiveUp]
    assert decide(policy, 3, 0.5) == GiveUp(3)


def test_with_no_retries_the_first_death_is_the_last() -> None:
    assert decide(RestartPolicy(max_retries=0), 1, 0.5) == GiveUp(1)


def test_without_a_limit_it_is_never_over() -> None:
    assert decide(RestartPolicy(cap=7), 10**6, 0.5) == Again(7)


@pytest.mark.parametrize("deaths", [1024, 1025, 1100, 5000, 10**6])
def test_a_delay_too_large_for_a_number_is_the_cap(deaths: int) -> None:
    assert decide(RestartPolicy(base=0.1, factor=2.0, cap=5.0), deaths, 0.5) == Again(5.0)


@pytest.mark.parametrize("deaths", [1024, 1025, 1100, 5000])
def test_a_delay_too_large_for_a_number_is_the_cap_in_whole_seconds_too(deaths: int) -> None:
    assert decide(RestartPolicy(base=1, factor=2, cap=5), deaths, 0.5) == Again(5)


@pytest.mark.parametrize("deaths", [1, 2, 1024, 1025, 5000])
def test_a_base_of_zero_is_no_delay_however_many_deaths_there_were(deaths: int) -> None:
    assert decide(RestartPolicy(base=0.0, factor=2.0, cap=5.0), deaths, 0.5) == Again(0.0)


def test_jitter_spreads_the_delay_evenly_around_what_it_would_be() -> None:
    policy = RestartPolicy(base=1, factor=1, jitter=0.25)
    assert [decide(policy, 1, roll) for roll in (0, 0.25, 0.5, 0.75, 1)] == [
        Again(0.75), Again(0.875), Again(1), Again(1.125), Again(1.25)
    ]  # fmt: skip


def test_jitter_never_exceeds_the_cap() -> None:
    assert decide(RestartPolicy(base=1, cap=1, jitter=0.5), 1, 1.0) == Again(1)
    assert decide(RestartPolicy(base=1, cap=1, jitter=0.5), 1, 0.0) == Again(0.5)


POLICIES = st.builds(
    RestartPolicy,
    base=st.floats(1e-3, 1e3),
    factor=st.floats(0, 1e3),
    cap=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    max_retries=st.none() | st.integers(0, 5),
)


@settings(deadline=None, max_examples=300)
@given(POLICIES, st.integers(1, 2000), st.floats(0, 1))
def test_a_delay_is_within_its_jitter_and_between_zero_and_the_cap(
    policy: RestartPolicy, deaths: int, roll: float
) -> None:
    match decide(policy, deaths, roll):
        case GiveUp():
            assert policy.max_retries is not None
            assert deaths > policy.max_retries
        case Again(delay_s):
            assert policy.max_retries is None or deaths <= policy.max_retries
            assert 0 <= delay_s <= policy.cap
            try:
                planned_s = policy.base * policy.factor ** (deaths - 1)
            except OverflowError:
                planned_s = math.inf
            low_s, high_s = planned_s * (1 - policy.jitter), planned_s * (1 + policy.jitter)
            assert delay_s <= high_s * (1 + 1e-9)
            assert delay_s >= min(low_s, policy.cap) * (1 - 1e-9) or math.isinf(planned_s)


@settings(deadline=None, max_examples=200)
@given(
    base=st.floats(0, 1e308),
    factor=st.floats(0, math.inf),
    jitter=st.floats(0, 1),
    deaths=st.integers(1, 5000),
    roll=st.floats(0, 1),
)
@example(base=0.0, factor=math.inf, jitter=0.0, deaths=2, roll=0.5)
@example(base=1e308, factor=1e10, jitter=1.0, deaths=2, roll=0.0)
def test_every_policy_that_is_accepted_gives_a_delay_from_zero_to_the_cap(
    base: float, factor: float, jitter: float, deaths: int, roll: float
) -> None:
    verdict = decide(RestartPolicy(base=base, factor=factor, jitter=jitter), deaths, roll)
    assert isinstance(verdict, Again)
    assert 0 <= verdict.delay_s <= 5.0
