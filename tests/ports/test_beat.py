"""A sign of life is seen from outside, and only as new as it is."""

import time
from pathlib import Path

from geartrain.ports.beat import Beat, last_beat_ns


def test_before_the_first_strike_there_is_nothing_to_be_late(tmp_path: Path) -> None:
    assert last_beat_ns(tmp_path / "beat") == 0
    Beat(tmp_path / "beat")
    assert last_beat_ns(tmp_path / "beat") == 0


def test_a_strike_is_the_time_of_it(tmp_path: Path) -> None:
    beat = Beat(tmp_path / "beat")
    before = time.monotonic_ns()
    beat.strike()
    assert before <= last_beat_ns(tmp_path / "beat") <= time.monotonic_ns()


def test_a_new_life_begins_without_the_strikes_of_the_old_one(tmp_path: Path) -> None:
    Beat(tmp_path / "beat").strike()
    Beat(tmp_path / "beat")
    assert last_beat_ns(tmp_path / "beat") == 0
