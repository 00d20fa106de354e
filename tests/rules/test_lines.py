"""Text from outside, cut into lines: by random bytes, and at every place."""

from hypothesis import given
from hypothesis import strategies as st

from geartrain.rules.lines import CUT, Lines, Tail


def fed(chunks: list[bytes], most_bytes: int = 1000) -> list[str]:
    lines = Lines(most_bytes)
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.end()


@given(st.binary(), st.lists(st.integers(0, 100)))
def test_how_the_bytes_come_makes_no_difference(text: bytes, cuts: list[int]) -> None:
    places = sorted(min(cut, len(text)) for cut in cuts)
    chunks = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    assert fed(chunks, 10) == fed([text], 10)


@given(st.binary(max_size=300))
def test_no_line_is_longer_than_allowed_whatever_comes(text: bytes) -> None:
    assert all(len(line.removesuffix(CUT)) <= 10 for line in fed([text], 10))


@given(st.text())
def test_good_text_is_never_spoilt_by_a_cut(text: str) -> None:
    lines = fed([text.encode()], 4)
    assert "".join(lines).replace(CUT, "") == text.replace("\r\n", "").replace("\n", "").replace(CUT, "").removesuffix(
        "\r" if not text.endswith("\n") else ""
    )


def test_lines_are_told_when_they_are_complete() -> None:
    lines = Lines(1000)
    assert lines.feed(b"one\ntw") == ["one"]
    assert lines.feed(b"o\r\n\nthree") == ["two", ""]
    assert lines.end() == ["three"]
    assert lines.end() == []


def test_bad_bytes_are_replaced() -> None:
    assert fed([b"caf\xe9\n\xff\xfe"]) == ["caf\ufffd", "\ufffd\ufffd"]


def test_a_flood_without_line_ends_is_cut_and_not_kept() -> None:
    lines = Lines(10)
    assert lines.feed(b"x" * 35) == ["x" * 10 + CUT] * 3
    assert lines.end() == ["xxxxx"]


def test_the_tail_keeps_the_last_lines_that_fit() -> None:
    tail = Tail(10)
    for line in ("one", "two", "three"):
        tail.add(line)
    assert tail.lines() == ("two", "three")
    tail.add("far too long for it")
    assert tail.lines() == ()
    tail.add("é" * 4)
    tail.add("")
    assert tail.lines() == ("éééé", "")
    tail.add("x")
    assert tail.lines() == ("", "x")
