"""A storm is the same for the same seed, and its gate says what has not held."""

import random

from msgspec.structs import replace

from geartrain.rules.histogram import LatencyHistogram
from geartrain.rules.storm import (
    Digest,
    StormFacts,
    StormGate,
    StormPlan,
    delay_ns,
    digest_of,
    events,
    verdicts,
)

PLAN = StormPlan(events=1000)


def draws(seed: int = 7) -> random.Random:
    return random.Random(seed)


def histogram(*samples_ns: int, capacity: int = 100) -> LatencyHistogram:
    filled = LatencyHistogram("it", capacity=capacity, gate=True)
    for ns in samples_ns:
        filled.record(ns)
    return filled


def facts(reaction: LatencyHistogram, lateness: LatencyHistogram, *, early: int = 0) -> StormFacts:
    return StormFacts(
        digest=digest_of(PLAN, draws().randrange),
        events=PLAN.events,
        reaction=reaction.state(),
        from_due=reaction.state(),
        lateness=lateness.state(),
        early=early,
        took_s=1.0,
    )


def held(found: StormFacts) -> list[bool]:
    digest = digest_of(PLAN, draws().randrange)
    return [verdict.held for verdict in verdicts(found, PLAN, digest, StormGate())]


def test_the_same_seed_gives_the_same_events_and_another_gives_others() -> None:
    assert digest_of(PLAN, draws().randrange) == digest_of(PLAN, draws().randrange)
    assert digest_of(PLAN, draws().randrange) != digest_of(PLAN, draws(8).randrange)


def test_a_digest_tells_a_lost_event_and_two_that_changed_places() -> None:
    sent = list(events(PLAN, draws().randrange))
    for arrived in (sent[1:], [sent[1], sent[0], *sent[2:]]):
        digest = Digest()
        for event in arrived:
            digest.add(event)
        assert digest.text() != digest_of(PLAN, draws().randrange)


def test_eight_events_every_twelve_milliseconds_are_667_in_a_second_and_take_75_seconds() -> None:
    assert round(StormPlan().rate) == 667
    assert round(StormPlan().seconds) == 75


def test_deadlines_are_due_after_one_to_ten_seconds() -> None:
    draw = draws().randrange
    delays = [delay_ns(draw) for _ in range(1000)]
    assert min(delays) >= 1_000_000_000
    assert max(delays) < 10_000_000_000


def test_the_gate_holds_at_its_limits_and_not_beyond() -> None:
    at_limits = facts(histogram(2_000_000), histogram(1_000_000))
    assert held(at_limits) == [True] * 4
    assert held(facts(histogram(2_000_001), histogram(1_000_000))) == [True, False, True, True]
    assert held(facts(histogram(2_000_000), histogram(1_000_001))) == [True, True, False, True]
    assert held(replace(at_limits, early=1)) == [True, True, True, False]


def test_a_storm_that_lost_or_changed_an_event_has_not_held() -> None:
    fine = facts(histogram(1), histogram(1))
    assert held(replace(fine, digest="0")) == [False, True, True, True]
    assert held(replace(fine, events=999)) == [False, True, True, True]


def test_a_histogram_that_could_not_hold_all_samples_has_not_held_whatever_it_says() -> None:
    assert held(facts(histogram(1, 1, capacity=1), histogram(1))) == [True, False, True, True]


def test_a_storm_too_short_for_a_deadline_says_that_it_has_measured_none() -> None:
    found = verdicts(facts(histogram(1), histogram()), PLAN, digest_of(PLAN, draws().randrange), StormGate())
    assert [verdict.found for verdict in found][1:3] == ["0.000 ms", "no samples"]
