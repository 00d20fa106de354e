"""A counter outlives its writer, and somebody who only looks changes nothing."""

from pathlib import Path

import pytest

from geartrain.errors import BadValue
from geartrain.ports.tally import Tally, lives_in
from geartrain.rules.frames import Life


def test_each_life_is_remembered_with_what_it_accepted(tmp_path: Path) -> None:
    first = Tally(tmp_path / "count", 5)
    first.word[0] = 3
    assert lives_in(tmp_path / "count") == (Life(5, 3),)
    second = Tally(tmp_path / "count", 5)
    second.word[0] = 1
    assert second.lives == (Life(5, 3),)
    assert second.epoch == 6
    assert lives_in(tmp_path / "count") == (Life(5, 3), Life(6, 1))


@pytest.mark.parametrize("text", [None, b"", b"short", bytes(4096), b"else" * 1024])
def test_where_nobody_has_counted_there_is_nothing_to_see(tmp_path: Path, text: bytes | None) -> None:
    if text is not None:
        (tmp_path / "count").write_bytes(text)
    assert lives_in(tmp_path / "count") == ()


def test_what_is_no_counter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "count").write_bytes(b"else" * 1024)
    with pytest.raises(BadValue, match="no counter of geartrain's"):
        Tally(tmp_path / "count", 5)
