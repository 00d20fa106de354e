"""How a lead is learnt."""

import random

from geartrain.rules.lead import MOST_NS, Lead


def learnt(lead: Lead, latencies_ns: list[int]) -> list[int]:
    """Woken so long after it was set to ring; how late that was each time."""
    late_ns = []
    for latency_ns in latencies_ns:
        late_ns.append(latency_ns - lead.ns)
        lead.learn(late_ns[-1])
    return late_ns


def test_half_of_all_wake_ups_come_before_their_moment_and_by_little() -> None:
    draw = random.Random(3)
    latencies_ns = [60_000 + int(draw.expovariate(1 / 20_000)) for _ in range(2000)]
    late_ns = learnt(Lead(), latencies_ns)[200:]
    early_ns = [-ns for ns in late_ns if ns < 0]
    assert 0.45 < len(early_ns) / len(late_ns) < 0.55
    assert sum(early_ns) / len(early_ns) < 15_000
    assert abs(sorted(late_ns)[len(late_ns) // 2]) < 3_000


def test_one_long_pause_teaches_no_more_than_a_short_one() -> None:
    lead = Lead()
    learnt(lead, [50_000] * 100)
    before_ns = lead.ns
    learnt(lead, [10**10])
    assert lead.ns - before_ns <= 2_000


def test_it_has_a_bound_and_is_never_negative() -> None:
    lead = Lead()
    learnt(lead, [10**9] * 1000)
    assert lead.ns == MOST_NS
    for _ in range(1000):
        lead.learn(-1)
    assert lead.ns == 0


def test_it_follows_a_machine_that_changes() -> None:
    lead = Lead()
    learnt(lead, [150_000] * 200)
    learnt(lead, [40_000] * 200)
    assert abs(lead.ns - 40_000) <= 2_000
