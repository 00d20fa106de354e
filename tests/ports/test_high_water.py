"""What was seen in a region outlives who saw it."""

from pathlib import Path

import pytest

from geartrain.ports.high_water import FileHighWater, HighWater, MemoryHighWater


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_it_only_rises(kind: str, tmp_path: Path) -> None:
    water: HighWater = MemoryHighWater() if kind == "memory" else FileHighWater(tmp_path, "cell")
    assert water.read() == 0
    for token, seen in ((5, 5), (3, 5), (2**62, 2**62)):
        water.rise_to(token)
        assert water.read() == seen


def test_who_opens_it_anew_or_beside_another_sees_the_same(tmp_path: Path) -> None:
    first, second = FileHighWater(tmp_path, "cell/left"), FileHighWater(tmp_path, "cell/left")
    assert second.read() == 0
    first.rise_to(9)
    assert (second.read(), FileHighWater(tmp_path, "cell/left").read()) == (9, 9)
    assert FileHighWater(tmp_path, "cell/right").read() == 0


def test_regions_with_long_or_odd_names_have_files_of_their_own(tmp_path: Path) -> None:
    regions = ["a" * 1000, "a" * 999 + "b", "/", "lock://gpu", "ä/ö*"]
    for token, region in enumerate(regions, start=1):
        FileHighWater(tmp_path, region).rise_to(token)
    assert [FileHighWater(tmp_path, region).read() for region in regions] == [1, 2, 3, 4, 5]
