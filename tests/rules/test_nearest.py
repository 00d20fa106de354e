"""What was meant by a name that is not known."""

import pytest

from geartrain.rules.nearest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("met", "close"),
    [("framse", "frames"), ("Frames", "frames"), ("frame", "frames"), ("max_size", "maxsize"), ("zzz", None)],
)
def test_the_nearest_name_is_found_whatever_its_case(met: str, close: str | None) -> None:
    assert nearest(met, ["maxsize", "frames", "policy"]) == close


def test_of_two_names_that_differ_in_case_the_first_is_meant() -> None:
    assert nearest("FRAMES", ["Frames", "frames"]) == "Frames"


def test_without_a_near_name_all_are_told_and_without_any_that_there_are_none() -> None:
    assert did_you_mean("framse", ["frames"]) == "did you mean 'frames'?"
    assert did_you_mean("zzz", ["frames", "policy"]) == "known: frames, policy"
    assert did_you_mean("zzz", [], "it has no ports") == "it has no ports"
