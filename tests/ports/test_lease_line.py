"""Who waits beside a journal: in order, and only as long as it lives and its time lasts."""

import os
import signal
from pathlib import Path

import pytest

from geartrain.errors import PlaceRefused
from geartrain.ports import lease_line
from geartrain.ports.lease_line import LINE_FOLDER, PlaceInLine, Waits, waiting
from geartrain.rules.lease_words import Claim

LATER_NS = 1 << 62


def waits(label: str, until_ns: int = LATER_NS) -> Waits:
    return Waits(claims=(Claim("cell"),), label=label, until_ns=until_ns)


def labels(folder: Path, before: int | None = None) -> list[str]:
    return [one.label for one in waiting(folder, before)]


def test_who_came_first_stands_first_and_sees_nobody_before_it(tmp_path: Path) -> None:
    places = [PlaceInLine(tmp_path, waits(label)) for label in "abc"]
    assert labels(tmp_path) == ["a", "b", "c"]
    assert [labels(tmp_path, place.number) for place in places] == [[], ["a"], ["a", "b"]]
    places[1].leave()
    assert labels(tmp_path) == ["a", "c"]
    for place in (places[0], places[2]):
        place.leave()
    assert list((tmp_path / LINE_FOLDER).iterdir()) == []


def test_a_place_whose_process_was_killed_is_nobodys(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        PlaceInLine(tmp_path, waits("killed"))
        os.write(write, b"!")
        signal.pause()
    os.read(read, 1)
    assert labels(tmp_path) == ["killed"]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert labels(tmp_path) == []
    assert list((tmp_path / LINE_FOLDER).iterdir()) == []
    for file in (read, write):
        os.close(file)


def test_whose_time_is_over_keeps_nobody_out_though_it_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = PlaceInLine(tmp_path, waits("frozen", until_ns=10))
    monkeypatch.setattr(lease_line, "mono_ns", lambda: 9)
    assert labels(tmp_path) == ["frozen"]
    monkeypatch.setattr(lease_line, "mono_ns", lambda: 10)
    assert labels(tmp_path) == []
    place.leave()


def test_where_nobody_can_wait_that_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / LINE_FOLDER).write_text("")
    with pytest.raises(PlaceRefused, match=r"nobody can wait in .*line: "):
        PlaceInLine(tmp_path, waits("a"))
