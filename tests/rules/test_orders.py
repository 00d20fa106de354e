"""What launcher and node say to each other comes back as it was said, in whatever pieces it arrives."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.errors import WireError
from geartrain.rules.orders import (
    WORD_MOST,
    Clear,
    Cleared,
    Ended,
    Failed,
    Finished,
    Go,
    Listener,
    Lost,
    Noted,
    Over,
    Quit,
    Ready,
    Report,
    Returned,
    Said,
    Stop,
    to_line,
)

REPORT = Report(
    daemon="camera", process="left", pid=7, phase="run", attempt=2, error="OSError: \n cable", trace="a\nb\n"
)
WORDS: list[Said] = [
    Ready("a"),
    Go("b"),
    Stop("c", 0.5),
    Failed(REPORT, escalates=True),
    Ended("d"),
    Returned("e"),
    Finished("e"),
    Noted("e"),
    Over("frames", "ignored"),
    Quit(1.5),
    Lost("frames", 3),
    Lost("frames", None),
    Clear(1, "a"),
    Cleared(1),
    Cleared(2, "it is not held"),
]


@given(st.lists(st.integers(0, 400), max_size=20))
def test_words_are_found_however_they_are_cut(cuts: list[int]) -> None:
    text = b"".join(map(to_line, WORDS))
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    listener = Listener()
    heard = [word for at, to in pairwise(places) for word in listener.feed(text[at:to])]
    assert heard == WORDS


@pytest.mark.parametrize("line", [b"hello\n", b"{}\n", b'{"word":"go"}\n', b'{"word":"jump"}\n', b"[" * 5000 + b"\n"])
def test_what_is_no_word_is_a_typed_error(line: bytes) -> None:
    with pytest.raises(WireError, match="no word"):
        Listener().feed(line)


def test_a_word_without_an_end_does_not_fill_the_memory() -> None:
    listener = Listener()
    listener.feed(b"x" * WORD_MOST)
    with pytest.raises(WireError, match="more than"):
        listener.feed(b"x")


def test_a_report_says_who_failed_where_and_how_often() -> None:
    assert str(REPORT) == "daemon 'camera' (process 'left', pid 7, attempt 2) in run: OSError: \n cable"
