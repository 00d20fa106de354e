"""Durations and sizes as text: what is read, what is refused, and that what is written reads the same."""

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geartrain.errors import BadType, BadValue
from geartrain.rules.durations import bytes_of, duration_text, seconds_of, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("1h", 3600.0),
        ("0s", 0.0),
        ("1.5s", 1.5),
        ("0.1s", 0.1),
        ("100us", 0.0001),
        ("1m30.5s", 90.5),
        ("1s500ms", 1.5),
        ("1h1m1s1ms1us", 3661.001001),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 s", "-5s", "+5s", "5S", "5sec", "30m1h", "1m1m", "1e3s", ".5s", "5.s", "\u0665s", "5s\n", "inf"],
)
def test_a_text_that_is_no_duration_is_refused_and_told_how_one_looks(text: str) -> None:
    with pytest.raises(BadValue) as refusal:
        seconds_of(text, "start_within")
    assert str(refusal.value) == (
        f'start_within must have units (h, m, s, ms, us), as "250ms", "5s" or "1h30m", got {text!r}'
    )


@pytest.mark.parametrize("value", [5, 0.25, True, None, ["5s"]])
def test_a_number_is_no_duration_for_nobody_knows_its_unit(value: object) -> None:
    with pytest.raises(BadType, match=r'^within must be text with a unit, as "250ms", "5s" or "1h30m", got '):
        seconds_of(value, "within")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (5, "5s"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (1.5, "1.5s"),
        (1e-4, "100us"),
        (1e-7, "0.1us"),
    ],
)
def test_seconds_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@settings(deadline=None, max_examples=500)
@given(st.floats(0, 1e12))
@example(5e-324)
@example(0.30000000000000004)
@example(999.9999999999999)
def test_what_is_written_is_read_as_exactly_the_same_number(seconds: float) -> None:
    assert seconds_of(duration_text(seconds)) == seconds


@settings(deadline=None, max_examples=500)
@given(st.text(alphabet="0123456789.hmsu -", max_size=12))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    with suppress(BadValue):
        assert 0 <= seconds_of(text) < 1e20


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("64KiB", 65536),
        ("1MiB", 2**20),
        ("2GiB", 2**31),
        ("10MB", 10**7),
        ("0.5KiB", 512),
        ("7B", 7),
        ("8 KB", 8000),
        (9, 9),
    ],
)
def test_a_size_is_read_as_bytes(said: object, size: int) -> None:
    assert bytes_of(said) == size


@pytest.mark.parametrize("said", ["", "64", "64 kib", "64k", "-1B", "0.3B", "1TB"])
def test_a_text_that_is_no_size_is_refused(said: str) -> None:
    with pytest.raises(BadValue, match=r"^max_bytes must be .*got '"):
        bytes_of(said, "max_bytes")


@pytest.mark.parametrize("said", [True, 1.5, None])
def test_a_size_of_another_kind_is_refused(said: object) -> None:
    with pytest.raises(BadType, match=r'^max_bytes must be a number of bytes, or text as "64KiB", got '):
        bytes_of(said, "max_bytes")


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**14) | st.integers(0, 2**20).map(lambda size: size * 1024))
def test_a_size_that_is_written_is_read_as_the_same_size(size: int) -> None:
    assert bytes_of(size_text(size)) == size


def test_a_size_is_written_in_the_largest_unit_that_divides_it() -> None:
    assert [size_text(size) for size in (0, 1, 1024, 65536, 65537, 2**26, 2**31)] == [
        "0B", "1B", "1KiB", "64KiB", "65537B", "64MiB", "2GiB"
    ]  # fmt: skip
