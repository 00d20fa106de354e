"""Every file in examples/ runs, as a script and by its `main` or `run`, on both loops, and does what it promises."""

import os
import re
import signal
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from geartrain import Fenced, simulate

EXAMPLES = Path(__file__).parent.parent / "examples"
both_loops = pytest.mark.parametrize("loop", ["asyncio", "trio"])
Loop = Literal["asyncio", "trio"]


def script(name: str, *arguments: str) -> str:
    """What the example prints as a script. It must end well and have nothing to complain about."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def imported(name: str) -> Any:
    spec = util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test() -> None:
    tests = [name for name in globals() if name.startswith("test_")]
    names = [path.stem for path in sorted(EXAMPLES.glob("*.py"))]
    assert names
    assert [name for name in names if not any(test.startswith(f"test_{name}_") for test in tests)] == []


# -- quick ----------------------------------------------------------------------------------------------------------

QUICK_PRINTS = "20 min: 20.5 C, fine\n40 min: 21.0 C, fine\n60 min: 23.5 C, too warm!\n"


def test_quick_runs_as_a_script() -> None:
    assert script("quick") == QUICK_PRINTS


@both_loops
def test_quick_prints_the_same_on_both_loops(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(imported("quick").main, backend=loop)
    assert capsys.readouterr().out == QUICK_PRINTS


# -- watchdog -------------------------------------------------------------------------------------------------------


def test_watchdog_prints_when_the_wheels_stood_still_and_why() -> None:
    assert script("watchdog", "--virtual") == (
        " 0.00 s  1 m/s  the planner sees\n"
        " 1.13 s  0 m/s  nothing on ranges for 0.15 s\n"
        " 2.80 s  1 m/s  all was well for 0.5 s\n"
        "It stopped 1 time(s), and stood still for 1.67 s.\n"
    )


@both_loops
def test_watchdog_stops_the_wheels_when_the_budget_of_the_lidar_is_over_and_not_before_all_is_well_again(
    loop: Loop,
) -> None:
    watchdog = imported("watchdog")
    seen = watchdog.moments(loop)
    assert [moment.speed for moment in seen] == [1, 0, 1]
    # The last reading came 0.98 s after the first; the second stall ends 1.3 s later.
    assert [moment.at_s for moment in seen] == pytest.approx([0, 1.13, 2.8])


@both_loops
def test_watchdog_stops_the_wheels_in_processes_too(loop: Loop) -> None:
    """Its first stall is enough."""
    printed = script("watchdog", "--loop", loop, "--readings", "55")
    assert re.search(r"0 m/s  nothing on ranges for 0\.\d\d s\n", printed), printed


# -- control --------------------------------------------------------------------------------------------------------


def test_control_prints_a_summary_of_the_chosen_loop_and_the_comparison_with_the_other() -> None:
    printed = script("control", "--loop", "trio")
    assert printed.startswith("60.36 s of virtual time passed in ")
    assert "of real time, on trio." in printed
    assert "The same pipeline on asyncio" in printed
    assert "in the same order" in printed


@both_loops
def test_control_keeps_its_rates_and_restarts_its_sensor_with_a_fresh_state(loop: Loop) -> None:
    report = imported("control").simulated(loop)
    # The last goal is thought of for a quarter of a second; then the others end within a cycle each.
    assert {name: len(report.of(name)) for name in ("planner", "policy", "actuator")} == {
        "planner": 60,
        "policy": 603,
        "actuator": 1207,
    }
    assert {event.late_ns for event in report.events} == {0}
    firsts = [event for event in report.of("sensor") if event.what.startswith("reading 1:")]
    assert len(firsts) == 1 + len(report.lost_at_s) > 3


def test_control_follows_its_goals() -> None:
    report = imported("control").simulated()
    goals = {event.at_ns: float(event.what.removeprefix("goal ")) for event in report.of("planner")}
    places = {event.at_ns: float(event.what.removeprefix("at ")) for event in report.of("actuator")}
    kept = [(goal, places[at_ns]) for at_ns, goal in goals.items() if goal == goals.get(at_ns - 4_000_000_000)]
    assert len(kept) >= 12
    assert all(abs(goal - place) < 0.25 for goal, place in kept)


def test_control_does_the_same_on_both_loops_and_on_every_run() -> None:
    control = imported("control")
    runs = [control.simulated(loop, 20).events for loop in ("asyncio", "trio", "asyncio", "trio")]
    assert runs == [runs[0]] * 4


def test_control_says_where_two_runs_differ() -> None:
    control = imported("control")
    one = control.simulated(seconds=2)
    events = [*one.events[:7], control.Event("nobody", "another event", 0, 0), *one.events[8:]]
    other = msgspec.structs.replace(one, backend="trio", events=events)
    assert "DIFFER from event 7 on" in control.verdict(one, other)
    assert "another event" in control.verdict(one, other)


@both_loops
def test_control_runs_on_the_wall_clock_in_processes_too(loop: Loop) -> None:
    printed = script("control", "--real", "1", "--loop", loop)
    assert f"on the wall clock, in five processes on {loop}." in printed
    assert re.search(r"planner +1 Hz +1 ", printed)
    # Ten times a second for a bit more than a second, however busy the machine is.
    assert re.search(r"policy +10 Hz +\d+ ", printed)


# -- mixed ----------------------------------------------------------------------------------------------------------


def test_mixed_goes_from_asyncio_to_trio_and_back() -> None:
    assert script("mixed") == (
        "1001 = 7 x 11 x 13\n"
        "1729 = 7 x 13 x 19\n"
        "65535 = 3 x 5 x 17 x 257\n"
        "999983 = 999983\n"
        "1000001 = 101 x 9901\n"
        "5 numbers went from asyncio to trio and back.\n"
    )


# -- supervised -----------------------------------------------------------------------------------------------------

SUPERVISED_PRINTS = """\
   0.0 s  recorder starts, with 0 samples
   0.0 s  recorder fails, with 0 samples: unplugged
   0.5 s  recorder starts, with 0 samples
   0.5 s  recorder fails, with 0 samples: still unplugged
   1.5 s  recorder starts, with 0 samples
 301.5 s  recorder fails, with 300 samples: the fan has stopped
 302.0 s  recorder starts, with 0 samples
 302.0 s  recorder fails, with 0 samples: too hot
 303.0 s  recorder starts, with 0 samples
 303.0 s  recorder fails, with 0 samples: too hot
 305.0 s  recorder starts, with 0 samples
 305.0 s  recorder fails, with 0 samples: too hot
"""


def test_supervised_runs_as_a_script() -> None:
    assert script("supervised").startswith(SUPERVISED_PRINTS)


@both_loops
def test_supervised_backs_off_forgives_and_gives_up_with_the_first_cause(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(imported("supervised").main, backend=loop)
    printed = capsys.readouterr().out
    assert printed.startswith(SUPERVISED_PRINTS)
    given_up, summary = printed.removeprefix(SUPERVISED_PRINTS).splitlines()
    assert given_up.startswith(" 305.0 s  given up: ")
    assert "the fan has stopped" in given_up
    assert summary == "It was started again 5 times; its last error was: too hot."


# -- measure and show -----------------------------------------------------------------------------------------------


def run_beside(name: str, *arguments: str, environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    # Where SIGINT is ignored, as in the background of a shell, children ignore it too.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize(("measuring", "showing"), [("", ""), ("--trio", "--trio"), ("", "--trio"), ("--trio", "")])
def test_measure_is_seen_by_show_also_when_show_is_killed_and_started_again(
    tmp_path: Path, measuring: str, showing: str
) -> None:
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    first = run_beside("show", showing, environment=environment)
    measure = run_beside("measure", "8", measuring, environment=environment)
    try:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("1: ")
        first.kill()
        # Until it was dead it may have shown more of them.
        shown = 1 + len(first.stdout.readlines())
        first.wait()
        second = run_beside("show", showing, environment=environment)
        printed = second.communicate(timeout=30)[0].splitlines()
        assert measure.wait(timeout=30) == 0
    finally:
        for process in (first, measure):
            process.kill()
            process.communicate()
    numbers = [int(line.partition(":")[0]) for line in printed[:-1]]
    assert numbers == list(range(numbers[0], 9))
    assert numbers[0] <= shown + 1
    assert "again" in printed[0] or numbers[0] == shown + 1
    assert printed[-1] == "the measuring is over"


@both_loops
def test_show_that_is_stopped_ends_measure_too(tmp_path: Path, loop: Loop) -> None:
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    show, measure = (run_beside(name, f"--{loop}", environment=environment) for name in ("show", "measure"))
    try:
        assert show.stdout is not None
        assert show.stdout.readline().startswith("1: ")
        show.send_signal(signal.SIGINT)
        assert measure.communicate(timeout=30)[0] == "nobody wants to know any more\n"
        assert measure.returncode == 0
    finally:
        for process in (show, measure):
            process.kill()
            process.communicate()


# -- services -------------------------------------------------------------------------------------------------------


@both_loops
def test_services_write_every_report_once_although_one_of_the_processes_is_killed(loop: Loop) -> None:
    assert script("services", "--loop", loop) == (
        "report 1: begun with token 1, done with token 1\n"
        "report 2: begun with token 2, begun with token 3, done with token 3\n"
        "report 3: begun with token 4, done with token 4\n"
    )


def test_services_take_no_report_of_a_replica_that_is_too_late(tmp_path: Path) -> None:
    services = imported("services")
    reports = services.Reports(tmp_path / "reports")
    reports.write(services.Line(7, 3, "report-2", "begun"))
    with pytest.raises(Fenced, match="token 2 is too late"):
        reports.write(services.Line(7, 2, "report-1", "done"))
    assert [line.token for line in reports.lines()] == [3]


# -- vision ---------------------------------------------------------------------------------------------------------


def test_vision_loses_no_frame_although_its_detector_dies() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "vision.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    first, second, third = done.stdout.splitlines()
    assert first.startswith("60 frames went through 4 processes in ")
    assert second == "0 were lost."
    assert third.endswith("the order is exact: yes")
    assert done.stderr.count("process 'detector'") == 3


# -- work_cell ------------------------------------------------------------------------------------------------------


@both_loops
def test_work_cell_refuses_the_arm_that_was_frozen_in_it(loop: Loop) -> None:
    *story, refused = script("work_cell", "--loop", loop).splitlines()
    assert [re.sub(r"token \d+", "its token", line) for line in story] == [
        "   a lifts a door",
        "a  has its token, and is frozen with a move under way",
        "b  has its token",
        "   b welds the door",
        "a  wakes up, and goes on",
        "a  is not let send: its time is over",
        "a  is out of the cell",
    ]
    assert refused == "   moves refused: 1"
