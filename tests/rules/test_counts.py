"""What the ends of a channel say of themselves adds up to the channel, whoever of them died in between."""

from typing import Any

import pytest

from geartrain.rules.counts import ChannelCounts, EndCounts, Ledger, judged, rates
from geartrain.rules.frames import Life
from geartrain.rules.pipeline import ChannelSpec, PipelineSpec, PortRef
from geartrain.rules.planes import snapshot
from geartrain.rules.session import Loss

SPEC = PipelineSpec(
    name="p", channels=(ChannelSpec(name="c", writer=PortRef("w", "out"), reader=PortRef("r", "inp"), maxsize=8),)
)


def writer(incarnation: int, accepted: int, taken: int = 0, **more: Any) -> EndCounts:
    return EndCounts(channel="c", sends=True, incarnation=incarnation, epoch=10 * incarnation, accepted=accepted,
                     taken=taken, stable=taken, **more)  # fmt: skip


def reader(incarnation: int, epoch: int, taken: int, **more: Any) -> EndCounts:
    return EndCounts(channel="c", sends=False, incarnation=incarnation, epoch=epoch, accepted=taken, taken=taken,
                     stable=max(0, taken - 1), **more)  # fmt: skip


def row(*heard: EndCounts) -> ChannelCounts:
    ledger = Ledger(SPEC)
    for counts in heard:
        ledger.hear(counts)
    (found,) = ledger.rows()
    return found


def test_both_ends_together_say_what_is_between_them() -> None:
    found = row(writer(1, 100, 90), reader(7, 10, 95))
    assert (found.accepted, found.taken, found.stable, found.fill) == (100, 95, 94, 5)
    assert (found.writer, found.reader, found.policy, found.maxsize) == ("w", "r", "block", 8)


def test_a_channel_that_nobody_has_spoken_of_is_empty() -> None:
    found = row()
    assert (found.accepted, found.taken, found.fill, found.lost) == (0, 0, 0, 0)


def test_a_reader_that_has_met_nobody_yet_knows_less_than_the_writer() -> None:
    assert row(writer(1, 100, 92), reader(7, 0, 0)).taken == 92


def test_a_reader_started_again_goes_on_with_the_numbers_and_what_its_predecessor_counted_alone_is_kept() -> None:
    found = row(writer(1, 100), reader(7, 10, 95, redelivered=3, dropped=1), reader(8, 10, 99, redelivered=2))
    assert (found.taken, found.redelivered, found.dropped) == (99, 5, 1)


def test_a_writer_started_again_goes_on_from_its_former_lives_less_what_died_with_them() -> None:
    lives = (Life(10, 100), Life(20, 50))
    losses = (Loss(10, 4), Loss(20, None))
    found = row(writer(3, 7, lives=lives), reader(7, 10, 96 + 50 + 7, losses=losses))
    assert (found.accepted, found.taken, found.lost, found.fill) == (157, 153, 4, 0)


def test_a_reader_that_came_after_a_life_takes_over_what_had_come_of_it() -> None:
    """Also the losses, which only its predecessor has seen."""
    lives = (Life(10, 100),)
    found = row(reader(7, 10, 98, losses=(Loss(10, 4),)), writer(2, 30, lives=lives), reader(8, 20, 30))
    assert (found.accepted, found.taken, found.lost, found.fill) == (130, 126, 4, 0)


def test_a_writer_that_does_not_answer_has_sent_at_least_what_has_come() -> None:
    assert row(writer(1, 100), reader(7, 10, 120)).accepted == 120


@pytest.mark.parametrize(("taken", "hz"), [(100, 20.0), (90, 0.0)])
def test_rates_are_what_happened_between_two_looks_and_never_less_than_nothing(taken: int, hz: float) -> None:
    before, after = row(writer(1, 98), reader(7, 10, 95)), row(writer(1, 108), reader(7, 10, taken + 5))
    (rate,) = rates((before,), (after,), 0.5)
    assert (rate.channel, rate.accepted_hz, rate.taken_hz, rate.interval_s) == ("c", 20.0, hz, 0.5)


@pytest.mark.parametrize(
    ("seq", "now_ns", "age_s", "stale"), [(0, 9, None, False), (1, 10**9, 1, False), (1, 10**10, 10, True)]
)
def test_a_channel_that_may_go_stale_has_an_age_and_rates_have_it_too(
    seq: int, now_ns: int, age_s: float | None, stale: bool
) -> None:
    plane = snapshot(name="c", seq=seq, last_ns=0, budget_ns=10**9, regressions=0, now_ns=now_ns)
    found = judged(row(), plane)
    assert (found.age_s, found.stale) == (age_s, stale)
    [rate] = rates((row(),), (found,), 1.0)
    assert (rate.age_s, rate.stale) == (age_s, stale)
