"""Latency histograms: exact while samples are few, within a stated error afterwards, and never wrong unmarked."""

import math
import random
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.errors import BadType, BadValue, GateInvalid
from geartrain.rules.histogram import CAPACITY, WORST_ERROR, HistogramState, LatencyHistogram

MS = 1_000_000


def histogram_of(samples: "range | list[int]", *, capacity: int = CAPACITY, gate: bool = False) -> LatencyHistogram:
    histogram = LatencyHistogram("latency", capacity=capacity, gate=gate)
    for ns in samples:
        histogram.record(ns)
    return histogram


def ranked(samples: list[int], p: Fraction) -> int:
    """By the book: the sample of rank ceil(p n), the first being 1."""
    return sorted(samples)[min(max(math.ceil(p * len(samples)), 1), len(samples)) - 1]


# -- exact ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "p", "expected"),
    [
        (10, 0.5, 5),
        (100, 0.99, 99),
        (100, 0.999, 100),
        (100, 0, 1),
        (100, 1, 100),
        (100, 2, 100),
        (100, -1, 1),
        (1000, 0.999, 999),
        (100, 0.07, 7),
        (100, 0.55, 55),
        (100, 0.14, 14),
        (100, 0.28, 28),
        (100, 0.56, 56),
    ],
)
def test_a_percentile_is_the_sample_of_nearest_rank_reckoned_in_whole_numbers(
    most: int, p: float, expected: int
) -> None:
    assert histogram_of(range(1, most + 1)).percentile_ns(p) == expected


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=200), st.integers(0, 10_000))
def test_while_samples_are_few_every_percentile_is_exact(samples: list[int], parts: int) -> None:
    histogram = histogram_of(samples)
    assert histogram.is_exact
    assert histogram.percentile_ns(parts / 10_000) == ranked(samples, Fraction(parts, 10_000))
    assert (histogram.count, histogram.min_ns, histogram.max_ns) == (len(samples), min(samples), max(0, *samples))


@pytest.mark.parametrize("p", [0, 0.5, 1, 7])
def test_of_no_samples_everything_is_nought(p: float) -> None:
    empty = LatencyHistogram("empty")
    assert (empty.percentile_ns(p), empty.count, empty.min_ns, empty.max_ns) == (0, 0, 0, 0)
    assert empty.report() == "empty: no samples"
    assert empty.to_dict()["p99_ms"] == 0


# -- counted --------------------------------------------------------------------------------------------------------


def test_many_samples_are_told_within_the_stated_error_and_marked() -> None:
    draw = random.Random(5)
    samples = sorted(int(draw.lognormvariate(11, 3)) for _ in range(50_000))
    draw.shuffle(shuffled := samples.copy())
    histogram = histogram_of(shuffled)
    assert not histogram.is_exact
    for parts in range(0, 1001, 7):
        true = samples[max(1, -(-parts * 50_000 // 1000)) - 1]
        told = histogram.percentile_ns(parts / 1000)
        assert abs(told - true) <= WORST_ERROR * true + 1, parts
    assert (histogram.percentile_ns(0), histogram.percentile_ns(1)) == (min(samples), max(samples))
    assert "within 0.78%" in histogram.report()


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_no_value_is_told_worse_than_the_stated_error(ns: int) -> None:
    histogram = LatencyHistogram("one of three", capacity=0)
    for sample in (ns, -(2**63) + 1, 2**63 - 1):
        histogram.record(sample)
    assert abs(histogram.percentile_ns(0.5) - ns) <= WORST_ERROR * abs(ns)


def test_what_came_first_weighs_no_more_than_what_came_later() -> None:
    histogram = LatencyHistogram("late load", capacity=1000)
    for _ in range(1000):
        histogram.record(1 * MS)
    assert histogram.is_exact
    for _ in range(99_000):
        histogram.record(50 * MS)
    assert histogram.percentile_ns(0.5) == pytest.approx(50 * MS, rel=0.008)
    assert histogram.count == histogram.retained == 100_000


def test_it_keeps_no_more_however_much_is_recorded() -> None:
    histogram = LatencyHistogram("long", capacity=10)
    for power in range(63):
        for step in range(200):
            histogram.record((1 << power) + (step << power) // 200)
    state = histogram.state()
    assert len(state.samples) == 0
    assert len(state.buckets) <= 58 * 64


# -- a gate ---------------------------------------------------------------------------------------------------------


def test_a_gate_that_overflows_tells_no_percentile_rather_than_a_wrong_one() -> None:
    gate = histogram_of([5, 1, 9], capacity=3, gate=True)
    assert gate.is_valid
    assert gate.percentile_ns(0.5) == 5
    for ns in (100, 0):
        gate.record(ns)
    assert (gate.count, gate.retained, gate.overflow_dropped) == (5, 3, 2)
    assert (gate.min_ns, gate.max_ns) == (0, 100)
    assert not gate.is_valid
    with pytest.raises(GateInvalid, match="2 of 5 samples did not fit the gate 'latency', which holds 3; give it a"):
        gate.percentile_ns(0.5)
    assert "INVALID" in gate.report()
    told = gate.to_dict()
    assert (told["is_valid"], told["p99_ms"], told["max_ms"]) == (False, None, 100 / MS)


# -- coordinated omission -------------------------------------------------------------------------------------------


def test_a_sample_that_held_up_others_is_recorded_with_those_it_held_up() -> None:
    histogram = LatencyHistogram("every 10", expected_interval_ns=10)
    for ns in (3, 19, 45):
        histogram.record(ns)
    assert histogram.state().samples == (3, 19, 45, 15, 25, 35)
    assert (histogram.inferred, histogram.count) == (3, 6)


@given(st.integers(1, 50), st.lists(st.integers(0, 3000), min_size=1, max_size=20), st.sampled_from([0, 5, 10_000]))
def test_what_is_inferred_is_the_same_counted_one_by_one_or_by_the_bucket(
    interval_ns: int, samples: list[int], capacity: int
) -> None:
    histogram = LatencyHistogram("inferring", expected_interval_ns=interval_ns, capacity=capacity)
    all_samples = []
    for ns in samples:
        histogram.record(ns)
        all_samples += [ns, *range(ns - interval_ns, interval_ns - 1, -interval_ns)]
    expected = histogram_of(all_samples, capacity=capacity)
    assert counts_of(histogram) == counts_of(expected)
    assert (histogram.count, histogram.min_ns) == (expected.count, expected.min_ns)


def test_an_hour_with_a_short_interval_is_inferred_at_once() -> None:
    histogram = LatencyHistogram("hour", expected_interval_ns=1000)
    histogram.record(3600 * 10**9)
    assert histogram.count == 3600 * 10**6
    assert histogram.percentile_ns(0.5) == pytest.approx(1800 * 10**9, rel=WORST_ERROR)


def test_a_gate_counts_what_is_inferred_as_overflow_too() -> None:
    gate = LatencyHistogram("gate", capacity=3, gate=True, expected_interval_ns=10)
    gate.record(100)
    assert (gate.count, gate.retained, gate.is_valid) == (10, 3, False)


# -- together -------------------------------------------------------------------------------------------------------


def counts_of(histogram: LatencyHistogram) -> dict[int, int]:
    """As counted in buckets, whether it does so yet or not."""
    counted = LatencyHistogram("counted", capacity=0)
    counted.merge(histogram)
    return dict(counted.state().buckets)


@given(st.lists(st.integers(-500, 100_000)), st.lists(st.integers(-500, 100_000)), st.sampled_from([0, 4, 10_000]))
def test_two_merged_are_the_histogram_of_all_samples_count_by_count(
    one: list[int], other: list[int], capacity: int
) -> None:
    merged, second = histogram_of(one, capacity=capacity), histogram_of(other, capacity=capacity)
    travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(second.state()), type=HistogramState)
    assert merged.merge(LatencyHistogram.of(travelled)) is merged
    whole = histogram_of(one + other, capacity=capacity)
    assert counts_of(merged) == counts_of(whole)
    assert merged.to_dict() == whole.to_dict()
    assert second.count == len(other)


def test_one_merged_with_itself_is_every_sample_twice() -> None:
    for capacity in (0, 2, 10):
        histogram = histogram_of([1, 2], capacity=capacity)
        histogram.merge(histogram)
        assert histogram.count == 4
        assert counts_of(histogram) == {1: 2, 2: 2}


def test_a_merged_gate_is_invalid_when_one_was_or_when_both_together_do_not_fit() -> None:
    one, other = (histogram_of([1, 2], capacity=3, gate=True) for _ in range(2))
    assert not one.merge(other).is_valid
    assert one.count == 4
    assert not other.merge(one).is_valid


def test_after_a_reset_it_is_as_new() -> None:
    histogram = histogram_of(range(10), capacity=3)
    histogram.reset()
    assert histogram.state() == LatencyHistogram("latency", capacity=3).state()


# -- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [True, 1.5, math.nan, "1", None])
def test_a_sample_is_a_whole_number(bad: int) -> None:
    histogram = LatencyHistogram("strict")
    with pytest.raises(BadType, match=r"record\(\) ns must be a whole number"):
        histogram.record(bad)
    assert histogram.count == 0


@pytest.mark.parametrize("bad", [math.nan, True, "0.5", None])
def test_a_fraction_is_a_number(bad: float) -> None:
    with pytest.raises((BadType, BadValue), match=r"percentile_ns\(\) p"):
        histogram_of([1]).percentile_ns(bad)


@pytest.mark.parametrize("settings", [{"capacity": -1}, {"capacity": 1.5}, {"expected_interval_ns": 0}])
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises((BadType, BadValue), match="LatencyHistogram"):
        LatencyHistogram("refused", **settings)
    with pytest.raises(BadType, match="merge"):
        LatencyHistogram("refused").merge({})  # type: ignore[arg-type]
    with pytest.raises(BadType, match="name"):
        LatencyHistogram(7)  # type: ignore[arg-type]
