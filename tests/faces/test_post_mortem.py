"""What is told of a run that is dead, from its files alone, whatever has become of them."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from geartrain.faces.post_mortem import LINES_TOLD
from geartrain.rules.readings import Held
from tests.faces.conftest import Told
from tests.faces.remains import RUN, Remains

if sys.platform != "linux":
    pytest.skip("a run of many processes needs Linux", allow_module_level=True)


def dead(remains: Remains) -> None:
    """The detector was killed with an item in hand; then the camera was stopped."""
    detector, camera = remains.begins("detector"), remains.begins("camera")
    detector.counts(accepted=40, taken=37, in_hand=38)
    camera.counts(accepted=45, taken=38)
    detector.ended(signal=signal.SIGKILL)
    remains.note("failed", "detector", "process 1: killed by SIGKILL")
    camera.stops()
    camera.ended(code=0)
    remains.note("over")


def test_one_glance_says_who_died_first_why_and_with_what_in_hand(told_here: Told) -> None:
    dead(Remains())
    said = told_here("post-mortem")
    lines = said.stdout.splitlines()
    assert (said.returncode, said.stderr) == (0, "")
    assert lines[0].startswith(f"{RUN} failed; it ran from ")
    assert lines[1].startswith("First: detector at ")
    assert lines[1].endswith("killed by SIGKILL, with item 38 of frames in hand")
    assert lines[3].startswith("detector            killed by SIGKILL at ")


def test_of_who_ended_well_only_what_is_left_open_is_told(told_here: Told) -> None:
    dead(Remains())
    text = told_here("post-mortem").stdout
    assert "    unacknowledged  7 of frames\n" in text
    assert "in hand" not in text.partition("\ncamera ")[2]


def test_who_ended_well_and_leaves_nothing_open_has_a_line(told_here: Told) -> None:
    remains = Remains()
    for name in ("camera", "detector"):
        life = remains.begins(name)
        life.stops()
        life.ended(code=0)
    remains.note("over")
    lines = told_here("post-mortem").stdout.splitlines()
    assert lines[0].startswith(f"{RUN} ended well; ")
    assert (lines[2].split()[:3], lines[3].split()[:3]) == (["camera", "ended", "well"], ["detector", "ended", "well"])


def test_one_of_several_items_is_told_where_the_reader_is_too_fast_to_say_which(told_here: Told) -> None:
    detector = Remains().begins("detector")
    detector.counts(in_hand=38, may_have=41)
    detector.ended(signal=signal.SIGSEGV)
    assert "one of items 38 to 41 of frames" in told_here("post-mortem").stdout


def test_a_daemon_that_is_held_back_says_by_what_and_the_run_is_not_well(told_here: Told) -> None:
    remains = Remains(alive=True)
    detector = remains.begins("detector")
    detector.daemon.has_budget(5_000_000)
    detector.daemon.is_held(Held.OVER_BUDGET, time.monotonic_ns(), 12_000_000)
    text = told_here("post-mortem").stdout
    assert "held back       a body took 12ms and may take 5ms, since " in text
    assert "not all is well" in text.splitlines()[0]


def test_the_last_lines_of_who_died_are_told_and_steer_no_terminal(told_here: Told) -> None:
    remains = Remains()
    remains.begins("detector").ended(code=1)
    remains.logs("detector", "err", *(f"line {number}" for number in range(8)), "\x1b[2Jred")
    text = told_here("post-mortem").stdout
    found = [line.partition("| ")[2] for line in text.splitlines() if line.startswith("  err")]
    assert found == ["line 4", "line 5", "line 6", "line 7", "�[2Jred"]
    assert len(found) == LINES_TOLD


def test_the_last_lines_go_back_into_the_former_file(told_here: Told) -> None:
    remains = Remains()
    remains.begins("detector").ended(code=1)
    remains.logs("detector", "out", "two")
    (remains.state / "detector.out.log.1").write_text("one\n")
    assert "| one\n  out               | two\n" in told_here("post-mortem").stdout


def test_former_lives_are_told_in_short(told_here: Told) -> None:
    remains = Remains()
    for life in range(1, 8):
        detector = remains.begins("detector", life)
        detector.counts(in_hand=life)
        detector.ended(signal=signal.SIGKILL)
    text = told_here("post-mortem").stdout
    before = [line for line in text.splitlines() if line.startswith("  before")]
    assert before[0].endswith("1 earlier life, and")
    assert len(before) == 6
    assert "life 6 killed by SIGKILL at " in before[-1]
    assert before[-1].endswith("item 6 of frames in hand")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def overwrite(path: Path) -> None:
    path.write_bytes(b"#!/bin/sh\n" * 1000)


def age(path: Path) -> None:
    words = bytearray(path.read_bytes())
    words[8] = 99
    path.write_bytes(words)


@pytest.mark.parametrize(
    ("damage", "said"),
    [(cut, "shorter than its header says"), (overwrite, "no slot file"), (age, "written by another version")],
)
def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_told(
    told_here: Told, damage: Callable[[Path], None], said: str
) -> None:
    remains = Remains()
    dead(remains)
    damage(remains.path("detector"))
    text = told_here("post-mortem").stdout
    assert f"{remains.path('detector')} is not read: it " in text
    assert said in text
    # Its end is in the events all the same.
    assert "killed by SIGKILL; what it did cannot be read at " in text
    assert "unacknowledged  7 of frames" in text


def test_the_file_of_a_former_life_that_cannot_be_read_is_named_too(told_here: Told) -> None:
    remains = Remains()
    remains.begins("detector", 1).ended(signal=signal.SIGKILL)
    remains.begins("detector", 2)
    cut(remains.path("detector", 1))
    assert f"{remains.path('detector', 1)} is not read" in told_here("post-mortem").stdout


@pytest.mark.parametrize("damage", [cut, overwrite, Path.unlink])
def test_without_what_says_what_the_run_was_its_processes_are_told_from_their_own_files(
    told_here: Told, damage: Callable[[Path], None]
) -> None:
    remains = Remains()
    dead(remains)
    damage(remains.state / "run.json")
    text = told_here("post-mortem").stdout
    assert str(remains.state / "run.json") in text
    assert "item 38 of frames" in text
    assert "unacknowledged  7 of frames" in text


def test_a_line_of_the_events_that_was_cut_takes_nothing_with_it(told_here: Told) -> None:
    remains = Remains()
    dead(remains)
    events = remains.state / "events.jsonl"
    events.write_bytes(events.read_bytes()[:-20])
    said = told_here("post-mortem").stdout
    assert "item 38 of frames" in said
    assert f"{RUN} was killed" in said


def test_a_slot_file_of_no_process_of_the_run_is_named(told_here: Told) -> None:
    remains = Remains()
    dead(remains)
    stranger = remains.state / "stranger.1.slots"
    stranger.write_bytes(remains.path("camera").read_bytes().replace(b'"process":"camera"', b'"process":"x.mera"'))
    assert f"{stranger} is of no process of this run" in told_here("post-mortem").stdout


def test_the_same_is_told_as_one_object(told_here: Told) -> None:
    dead(Remains())
    (line,) = told_here("post-mortem", "eyes", "--format", "json").stdout.splitlines()
    told = msgspec.json.decode(line)
    assert (told["run"], told["state"], told["first"]["process"]) == (RUN, "over", "detector")
    assert [process["process"] for process in told["processes"]] == ["detector", "camera"]


def test_where_there_is_no_run_that_is_said(told_here: Told) -> None:
    said = told_here("post-mortem", "nobody")
    assert said.returncode == 2
    assert "nobody" in said.stderr
