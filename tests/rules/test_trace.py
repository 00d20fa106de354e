"""Two runs have one digest when they did the same, and the first difference is found and told."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.errors import BadValue
from geartrain.rules.trace import Digest, Head, Taken, digest_of, first_difference, head_of, line_of, taken_in


def took(item: Any, *, t_ns: int = 0, k: int = 1, channel: str = "frames", number: int = 1) -> Taken:
    return Taken(t_ns, k, channel, number, msgspec.msgpack.encode(item))


def digest(*events: Taken) -> str:
    whole = Digest()
    for event in events:
        whole.note(event)
    return digest_of(whole.channels())


ONE = took({"a": 1})


def test_a_digest_is_64_lower_case_hex_digits_also_of_nothing() -> None:
    for text in (digest(), digest(ONE)):
        assert len(text) == 64
        assert set(text) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "other",
    [
        took({"a": 2}),
        took({"a": 1}, t_ns=1),
        took({"a": 1}, k=2),
        took({"a": 1}, channel="frame"),
        took({"a": 1}, number=2),
    ],
    ids=["payload", "time", "microstep", "channel", "number"],
)
def test_whatever_is_different_makes_another_digest(other: Taken) -> None:
    assert digest(ONE) != digest(other)


def test_the_order_counts_within_a_channel_and_not_between_two() -> None:
    left, right = took(1, channel="left"), took(1, channel="right")
    assert digest(left, right) == digest(right, left)
    first, second = took(1, number=1), took(2, number=2)
    assert digest(first, second) != digest(second, first)


def test_where_one_payload_ends_and_the_next_begins_counts() -> None:
    one = Taken(0, 0, "c", 1, b"ab"), Taken(0, 0, "c", 2, b"c")
    other = Taken(0, 0, "c", 1, b"a"), Taken(0, 0, "c", 2, b"bc")
    assert digest(*one) != digest(*other)


events = st.builds(
    Taken,
    st.integers(0, 2**63),
    st.integers(0, 2**31),
    st.text(max_size=8),
    st.integers(0, 2**60),
    st.one_of(
        st.binary(max_size=12),
        st.one_of(st.floats(), st.text(), st.binary(), st.integers(-(2**63), 2**63 - 1), st.none()).map(
            msgspec.msgpack.encode
        ),
    ),
)


@given(events)
def test_a_line_of_a_trace_gives_the_same_bytes_again_whatever_the_payload(event: Taken) -> None:
    line = line_of(event)
    assert b"\n" not in line
    assert list(taken_in([line], "a.trace")) == [event]


def test_a_line_shows_an_ordinary_item_as_json_and_nothing_besides() -> None:
    assert line_of(ONE) == b'{"t_ns":0,"k":1,"channel":"frames","number":1,"item":{"a":1}}'


def test_bytes_and_what_json_cannot_say_are_kept_beside_what_is_shown() -> None:
    assert b'"bytes":' in line_of(took(b"raw"))
    assert b'"item":null,"bytes":' in line_of(took(float("nan")))


HEAD = Head(pipeline="vision", seed=7)


def test_the_first_line_says_of_what_the_trace_is() -> None:
    assert head_of(msgspec.json.encode(HEAD), "a.trace") == HEAD


@pytest.mark.parametrize("line", [b"", b"{}", b"geartrain", line_of(ONE)])
def test_what_is_no_trace_is_refused_with_how_to_make_one(line: bytes) -> None:
    with pytest.raises(BadValue, match=r"^a\.trace is no trace: .*; make one with geartrain run FILE --sim --trace"):
        head_of(line, "a.trace")


def test_a_trace_of_another_form_is_refused() -> None:
    line = msgspec.json.encode(msgspec.structs.replace(HEAD, geartrain_trace=9))
    with pytest.raises(BadValue, match="a trace of form 9, expected 1"):
        head_of(line, "a.trace")


@pytest.mark.parametrize("line", [b"", b"{", b'{"t_ns":0}', line_of(took(b"x")).replace(b'"bytes":"', b'"bytes":"*')])
def test_a_line_that_cannot_be_read_is_named(line: bytes) -> None:
    with pytest.raises(BadValue, match=r"^a\.trace, line 3: not a line of a trace"):
        list(taken_in([line_of(ONE), line], "a.trace"))


def test_two_that_are_alike_have_no_difference_whatever_the_order_within_an_instant() -> None:
    left, right, later = took(1, channel="left"), took(1, channel="right"), took(1, t_ns=5)
    assert first_difference([left, right, later], [right, left, later]) is None


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([ONE, took(3, t_ns=5)], "the payload"),
        ([ONE, took(2, t_ns=6)], "the same item, at another time"),
        ([ONE, took(3, t_ns=6)], "time and payload"),
        ([ONE, took(2, t_ns=5, channel="goals")], "another channel comes next"),
        ([ONE], "only the first goes on"),
        ([ONE, took(2, t_ns=5), took(3, t_ns=9)], "only the second goes on"),
    ],
)
def test_the_first_difference_is_told_in_words(second: list[Taken], said: str) -> None:
    found = first_difference([ONE, took(2, t_ns=5)], second)
    assert found is not None
    assert found.said == said
    assert found.same == (2 if said == "only the second goes on" else 1)


def test_an_event_is_shown_with_its_time_its_channel_and_its_item() -> None:
    assert str(took({"a": 1}, t_ns=1_500_000_000)) == 't=1.500000000 k=1 frames #1 {"a":1}'
    assert str(Taken(0, 0, "c", 1, b"\xc1")) == "t=0.000000000 k=0 c #1 b'\\xc1'"


def test_a_long_item_is_cut_when_it_is_shown() -> None:
    assert str(took("x" * 9_000)).endswith("... (9002 characters)")
