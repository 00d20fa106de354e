"""The last lines of a process are found in a moment, also across the change of its log file."""

from pathlib import Path

from geartrain.faces.web_logs import last_lines


def texts(state: Path, tail: int) -> list[tuple[str, str]]:
    return [(line.stream, line.text) for line in last_lines(state, "eyes", tail).lines]


def test_the_last_lines_of_both_streams_are_told(tmp_path: Path) -> None:
    (tmp_path / "eyes.out.log").write_text("one\ntwo\nthree\n")
    (tmp_path / "eyes.err.log").write_text("bad\nunfinished")
    (tmp_path / "brain.out.log").write_text("no\n")
    assert texts(tmp_path, 2) == [("out", "two"), ("out", "three"), ("err", "bad"), ("err", "unfinished")]


def test_who_has_printed_nothing_has_no_lines(tmp_path: Path) -> None:
    assert texts(tmp_path, 10) == []


def test_the_former_file_goes_before_the_present_one(tmp_path: Path) -> None:
    (tmp_path / "eyes.out.log.1").write_text("one\ntwo\n")
    (tmp_path / "eyes.out.log").write_text("three\n")
    assert [text for _, text in texts(tmp_path, 2)] == ["two", "three"]


def test_of_a_long_file_only_the_end_is_read_and_no_half_line(tmp_path: Path) -> None:
    (tmp_path / "eyes.out.log").write_text("".join(f"{number:09}\n" for number in range(200_000)))
    found = [text for _, text in texts(tmp_path, 10**9)]
    assert found[-1] == "000199999"
    assert len(found) < 100_000
    assert {len(text) for text in found} == {9}


def test_bytes_that_are_no_text_are_shown_as_far_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "eyes.out.log").write_bytes(b"caf\xe9\n")
    assert [text for _, text in texts(tmp_path, 1)] == ["caf�"]
