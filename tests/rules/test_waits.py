"""Who waits in a circle is named; who is merely slow, or waits for somebody slow, is not."""

from typing import Any

import pytest

from geartrain.rules.faults import Severity
from geartrain.rules.health import Limits
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.readings import EndReading, Poll, SlotState
from geartrain.rules.waits import Circle, circle_symptoms, circles, waits
from tests.rules.looks import NOW, S, end, pipeline, poll, slot

LIMITS = Limits(deadlock_ns=2 * S)
LOOP = pipeline("ab: a -> b", "ba: b -> a")


def writes(daemon: str, channel: str, **more: Any) -> EndReading:
    return end(channel, daemon, sends=True, **({"waits": 1} | more))


def reads(daemon: str, channel: str, **more: Any) -> EndReading:
    return end(channel, daemon, sends=False, **({"waits": 1} | more))


def polls(*ends: EndReading, **slots: dict[str, Any]) -> list[Poll]:
    """Each daemon in a process of its own, with its ends."""
    names = dict.fromkeys([*(end.daemon for end in ends), *slots])
    return [
        poll(
            slot(name=name, **slots.get(name, {})), name=name, ends=tuple(end for end in ends if end.daemon == name)
        )
        for name in names
    ]  # fmt: skip


def held(spec: PipelineSpec, *ends: EndReading, **slots: dict[str, Any]) -> tuple[Circle, ...]:
    return circles(spec, polls(*ends, **slots), NOW, LIMITS)


def test_two_that_write_to_each_other_are_named_with_their_channels() -> None:
    (circle,) = held(LOOP, writes("a", "ab"), writes("b", "ba"))
    assert circle.is_certain
    assert str(circle) == "a waits for room in channel ab from b; b waits for room in channel ba from a"


def test_a_writer_and_a_reader_in_one_circle_are_certain_and_two_readers_are_not() -> None:
    spec = pipeline("full: a -> b", "empty: a -> b")
    (mixed,) = held(spec, writes("a", "full"), reads("b", "empty"))
    assert mixed.is_certain
    (readers,) = held(LOOP, reads("a", "ba"), reads("b", "ab"))
    assert not readers.is_certain


def test_a_daemon_that_writes_to_itself_is_a_circle_of_one() -> None:
    (circle,) = held(pipeline("aa: a -> a"), writes("a", "aa"))
    assert circle.daemons == ("a",)


@pytest.mark.parametrize(
    ("ends", "slots"),
    [
        # Somebody has no waiting end: it is slow, and no more.
        ((writes("a", "ab"),), {"b": {}}),
        # Somebody waits for a moment only, as long as the limit.
        ((writes("a", "ab"), writes("b", "ba", still_since_ns=8 * S)), {}),
        # Another end of somebody has just begun to wait.
        ((writes("a", "ab"), writes("b", "ba"), reads("b", "ab", still_since_ns=9 * S)), {}),
        # Time wakes it.
        ((reads("a", "ba"), reads("b", "ab")), {"b": {"period_ns": 5}}),
        # What it reads has ended.
        ((reads("a", "ba", closed=1), reads("b", "ab")), {}),
        # It has stopped.
        ((writes("a", "ab"), writes("b", "ba")), {"b": {"state": SlotState.STOPPED}}),
    ],
)
def test_who_can_go_on_frees_whoever_waits_for_it(
    ends: tuple[EndReading, ...], slots: dict[str, dict[str, Any]]
) -> None:
    assert held(LOOP, *ends, **slots) == ()


def test_one_that_waits_within_its_cycle_is_in_the_circle() -> None:
    assert held(LOOP, writes("a", "ab"), writes("b", "ba"), b={"period_ns": 5, "in_body_since_ns": 1})


def test_who_waits_for_somebody_dead_or_stale_is_in_no_circle() -> None:
    a, b = polls(writes("a", "ab"), writes("b", "ba"))
    assert circles(LOOP, [a, b], NOW, LIMITS)
    for bad in ({"alive": False}, {"heartbeat_ns": 1}):
        gone = poll(*b.daemons, name="b", ends=b.ends, **bad)
        assert circles(LOOP, [a, gone], NOW, LIMITS) == ()


def test_who_waits_for_a_circle_is_not_in_it() -> None:
    spec = pipeline("ab: a -> b", "ba: b -> a", "ca: c -> a", "bd: b -> d")
    (circle,) = held(spec, writes("a", "ab"), writes("b", "ba"), writes("c", "ca"), reads("d", "bd"))
    assert circle.daemons == ("a", "b")


def test_a_circle_is_found_whichever_way_leads_out_of_it() -> None:
    """a waits for x, who is gone, and for b, who waits for a."""
    spec = pipeline("ax: a -> x", "ab: a -> b", "ba: b -> a")
    (circle,) = held(spec, reads("a", "ba"), writes("a", "ax"), reads("b", "ab"))
    assert circle.daemons == ("a", "b")


def test_two_circles_with_a_daemon_in_common_name_everybody() -> None:
    spec = pipeline("ab: a -> b", "ba: b -> a", "ac: a -> c", "ca: c -> a")
    ends = [writes(channel[0], channel) for channel in ("ab", "ba", "ac", "ca")]
    assert {name for circle in held(spec, *ends) for name in circle.daemons} == {"a", "b", "c"}


def test_two_circles_are_two() -> None:
    spec = pipeline("ab: a -> b", "ba: b -> a", "cd: c -> d", "de: d -> e", "ec: e -> c")
    ends = [writes(channel[0], channel) for channel in ("ab", "ba", "cd", "de", "ec")]
    assert [circle.daemons for circle in held(spec, *ends)] == [("a", "b"), ("c", "d", "e")]


def test_a_clock_and_whoever_serves_goes_on() -> None:
    spec = pipeline("ab: a -> b", "ba: b -> a")
    clock = next(daemon for daemon in spec.daemons if daemon.name == "b")
    served = PipelineSpec(
        name="vision",
        channels=spec.channels,
        daemons=(spec.daemons[0], type(clock)(name="b", process="b", run="geartrain.actors:ReactorClock")),
    )
    assert held(served, reads("a", "ba"), reads("b", "ab")) == ()


@pytest.mark.parametrize(("asked", "answered", "found"), [(3, 3, False), (4, 3, True)])
def test_who_waits_for_replies_waits_for_somebody_only_while_a_call_is_open(
    asked: int, answered: int, found: bool
) -> None:
    spec = pipeline("svc: a -> b", "svc.replies: b -> a")
    replies = reads("a", "svc.replies", taken=answered)
    ends = (writes("a", "svc", waits=0, accepted=asked), replies, reads("b", "svc"))
    assert bool(held(spec, *ends)) is found


def test_every_wait_is_told_though_it_is_short() -> None:
    ends = (writes("a", "ab", still_since_ns=NOW), reads("b", "ab", waits=0))
    assert [str(wait) for wait in waits(LOOP, polls(*ends), NOW, LIMITS)] == [
        "a waits for room in channel ab from b"
    ]  # fmt: skip


def test_each_of_a_circle_is_told_of_all_of_it_and_of_readers_as_a_hint() -> None:
    certain = list(circle_symptoms(held(LOOP, writes("a", "ab"), writes("b", "ba")), NOW))
    assert [symptom.key.entity for symptom in certain] == ["a", "b"]
    assert all("a waits" in symptom.said and "b waits" in symptom.said for symptom in certain)
    assert {symptom.severity for symptom in certain} == {None}
    hints = circle_symptoms(held(LOOP, reads("a", "ba"), reads("b", "ab")), NOW)
    assert {symptom.severity for symptom in hints} == {Severity.INFO}
