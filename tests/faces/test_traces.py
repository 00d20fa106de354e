"""What `geartrain diff` says of two traces, and what it refuses."""

from pathlib import Path

import msgspec
import pytest

from geartrain.errors import BadValue
from geartrain.faces.traces import difference_of, told_of_difference
from geartrain.rules.trace import Head, Taken, line_of


def trace(file: Path, *items: int) -> Path:
    head = msgspec.json.encode(Head(pipeline="p", seed=0))
    taken = [
        line_of(Taken(number * 1_000_000_000, 1, "frames", number, msgspec.msgpack.encode({"value": item})))
        for number, item in enumerate(items, 1)
    ]
    file.write_bytes(b"".join(line + b"\n" for line in (head, *taken)))
    return file


def test_two_that_are_alike_are_said_to_be(tmp_path: Path) -> None:
    one, other = trace(tmp_path / "one", 1, 2), trace(tmp_path / "other", 1, 2)
    assert told_of_difference(difference_of(one, other), one, other) == f"{one} and {other} are alike\n"


def test_the_first_event_that_differs_is_told_with_both_payloads(tmp_path: Path) -> None:
    one, other = trace(tmp_path / "one", 1, 2, 3), trace(tmp_path / "other", 1, 5, 6)
    head, mine, others = told_of_difference(difference_of(one, other), one, other).splitlines()
    assert head == "after 1 events that are alike: the payload"
    assert mine.endswith('t=2.000000000 k=1 frames #2 {"value":2}')
    assert others.endswith('t=2.000000000 k=1 frames #2 {"value":5}')


def test_a_trace_that_ends_before_the_other_is_told(tmp_path: Path) -> None:
    one, other = trace(tmp_path / "one", 1), trace(tmp_path / "other", 1, 2)
    told = told_of_difference(difference_of(one, other), one, other)
    assert "only the second goes on" in told
    assert "has ended" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"", "is no trace"), (b"{}\n", "is no trace"), (b'{"geartrain_trace":9,"pipeline":"p","seed":0}', "of form 9")],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "one").write_bytes(text)
    with pytest.raises(BadValue, match=said):
        difference_of(tmp_path / "one", trace(tmp_path / "other", 1))


def test_a_line_that_is_damaged_is_named(tmp_path: Path) -> None:
    one, other = trace(tmp_path / "one", 1, 2), trace(tmp_path / "other", 1, 2)
    one.write_bytes(one.read_bytes()[:-10])
    with pytest.raises(BadValue, match=r"one, line 3"):
        difference_of(one, other)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="nothing cannot be read: No such file"):
        difference_of(tmp_path / "nothing", tmp_path / "nothing")
