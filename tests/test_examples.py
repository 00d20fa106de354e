"""Every file in examples/ runs, as a script and by its `main` or `run`, on both loops, and does what it promises."""

import os
import signal
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from geartrain import simulate

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


# -- control --------------------------------------------------------------------------------------------------------


def test_control_prints_a_summary_and_the_comparison_of_the_loops() -> None:
    printed = script("control")
    assert printed.startswith("60 s of virtual time passed in ")
    assert "of real time, on asyncio" in printed
    assert "The same program on trio" in printed
    assert "in the same order" in printed


@both_loops
def test_control_shows_the_chosen_loop(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported("control").main(["--loop", loop]) == 0
    assert f"of real time, on {loop}." in capsys.readouterr().out


@both_loops
def test_control_keeps_its_rates_and_restarts_its_sensor(loop: Loop) -> None:
    report = imported("control").run(loop)
    restarts = report.restarts["sensor"]
    assert report.passed_s == 60
    assert report.took_s < 6
    assert {name: report.cycles[name] for name in ("planner", "policy", "actuator")} == {
        "planner": 60,
        "policy": 600,
        "actuator": 1200,
    }
    assert set(report.worst_lateness_ns.values()) == {0}
    assert restarts == len(report.failed_at_s) > 2
    assert sum(report.restarts.values()) == restarts


def test_control_gives_every_life_of_the_sensor_a_fresh_state() -> None:
    report = imported("control").run()
    firsts = [line for line in report.log if " sensor reading 1: " in line]
    assert len(firsts) == 1 + report.restarts["sensor"]


def test_control_loses_only_what_nobody_wanted_any_more() -> None:
    channels = imported("control").run().channels
    assert all(its.accepted == its.taken + its.dropped + its.current_buffer_used for its in channels.values())
    assert channels["readings"].dropped > channels["readings"].taken > 500
    assert channels["goals"].dropped == channels["commands"].dropped == 0


def test_control_gives_the_same_log_on_both_loops_and_on_every_run() -> None:
    control = imported("control")
    logs = [control.run(loop).log for loop in ("asyncio", "trio", "asyncio", "trio")]
    assert logs == [logs[0]] * 4


def test_control_says_where_two_runs_differ() -> None:
    control = imported("control")
    one = control.run(seconds=2)
    other = msgspec.structs.replace(one, backend="trio", log=[*one.log[:7], "another event", *one.log[8:]])
    assert "DIFFER from event 7 on" in control.verdict(one, other)
    assert "another event" in control.verdict(one, other)


@both_loops
def test_control_runs_on_the_wall_clock_too(loop: Loop) -> None:
    printed = script("control", "--real", "0.3", "--loop", loop)
    assert f"on the wall clock, on {loop}." in printed
    assert "actuator" in printed


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
    assert numbers[0] <= 2
    assert "again" in printed[0] or numbers[0] == 2
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
