"""How every daemon of a run is, as its process tells it, and who is told of each change."""

from msgspec.structs import replace

from geartrain.engine.roll import Roll, Standing, Watcher
from geartrain.rules.lifecycle import OnError
from geartrain.rules.orders import Report
from geartrain.rules.pipeline import DaemonSpec, PipelineSpec


class Scribe(Watcher):
    def __init__(self) -> None:
        self.told: list[str] = []

    def daemon_changed(self, standing: Standing) -> None:
        self.told.append(f"{standing.daemon} {standing.state}")

    def daemon_failed(self, standing: Standing) -> None:
        self.told.append(f"{standing.daemon} failed: {standing.last_error}")


class Clock:
    """Shows what the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def roll_of(*on_error: OnError, process: str | None = None) -> tuple[Roll, Scribe, Clock]:
    """Daemons a, b, ..., each in a process of its own, or all in one."""
    names = "abcdef"[: len(on_error)]
    daemons = [DaemonSpec(name=name, process=process or name, run="m:D", on_error=policy)
               for name, policy in zip(names, on_error, strict=True)]  # fmt: skip
    scribe, clock = Scribe(), Clock()
    return Roll(PipelineSpec(name="p", daemons=tuple(daemons)), scribe, clock), scribe, clock


def report(daemon: str) -> Report:
    return Report(daemon=daemon, process=daemon, pid=1, phase="run", attempt=1, error="ValueError: bad", trace="")


def test_a_daemon_waits_starts_runs_and_ends() -> None:
    roll, scribe, clock = roll_of("shutdown")
    assert roll.standings() == (Standing("a", "a"),)
    roll.spawned("a", 7)
    assert (roll.standings(), roll.unfinished()) == ((Standing("a", "a", 7, "starting"),), ("a",))
    roll.ready("a")
    clock.now = 2.5
    assert roll.standings() == (Standing("a", "a", 7, "running", uptime_s=2.5),)
    roll.ended("a")
    assert (roll.standings(), roll.unfinished()) == ((Standing("a", "a", None, "ended"),), ())
    assert scribe.told == ["a starting", "a running", "a ended"]


def test_a_daemon_made_anew_in_its_process_is_counted_as_one_restart() -> None:
    roll, scribe, _ = roll_of("restart")
    roll.spawned("a", 7)
    roll.ready("a")
    roll.failed(report("a"), escalates=False)
    roll.ready("a")
    (standing,) = roll.standings()
    assert (standing.state, standing.restarts, standing.last_error) == ("running", 1, "ValueError: bad (in run)")
    assert scribe.told[2:] == ["a failed: ValueError: bad (in run)", "a restarting", "a running"]


def test_a_process_that_dies_takes_all_its_daemons_and_comes_back_once() -> None:
    roll, _, _ = roll_of("restart", "restart", process="one")
    roll.spawned("one", 7)
    roll.ready("a")
    roll.ready("b")
    roll.gone("one", "killed by SIGKILL")
    assert [standing.state for standing in roll.standings()] == ["restarting", "restarting"]
    roll.spawned("one", 8)
    roll.ready("a")
    assert [(one.pid, one.state, one.restarts, one.last_error) for one in roll.standings()] == [
        (8, "running", 1, "process 7: killed by SIGKILL"),
        (8, "starting", 1, "process 7: killed by SIGKILL"),
    ]


def test_a_daemon_that_had_ended_is_not_said_to_have_failed_with_its_process() -> None:
    roll, _, _ = roll_of("shutdown", "ignore", process="one")
    roll.spawned("one", 7)
    roll.ended("a")
    roll.gone("one", "killed by SIGKILL")
    assert [(one.state, one.last_error) for one in roll.standings()] == [
        ("ended", None), ("ended", "process 7: killed by SIGKILL"),
    ]  # fmt: skip


def test_a_failure_that_is_said_twice_is_told_once() -> None:
    roll, scribe, _ = roll_of("shutdown")
    roll.failed(report("a"), escalates=False)
    roll.failed(report("a"), escalates=True)
    assert scribe.told == ["a failed: ValueError: bad (in run)"]


def test_what_died_with_a_daemon_is_added_up() -> None:
    roll, _, _ = roll_of("restart", "restart")
    roll.lost("a", 3)
    roll.lost("a", 4)
    assert [standing.lost for standing in roll.standings()] == [7, 0]


def test_each_failure_before_it_is_ready_is_a_restart_more() -> None:
    roll, _, _ = roll_of("restart")
    roll.spawned("a", 7)
    for _ in range(3):
        roll.failed(report("a"), escalates=False)
    (standing,) = roll.standings()
    assert (standing.state, standing.restarts) == ("restarting", 2)
    roll.ready("a")
    (standing,) = roll.standings()
    assert (standing.state, standing.restarts) == ("running", 3)


def test_who_fails_to_clean_up_is_not_said_to_be_made_anew() -> None:
    roll, scribe, _ = roll_of("restart")
    roll.spawned("a", 7)
    roll.ready("a")
    roll.failed(replace(report("a"), phase="on_stop"), escalates=False)
    assert scribe.told[-1] == "a failed: ValueError: bad (in on_stop)"


def test_a_run_has_nobody_left_when_only_those_are_that_serve_the_others() -> None:
    clock = DaemonSpec(name="clock", process="clock", run="geartrain.actors:ReactorClock")
    roll = Roll(PipelineSpec(name="p", daemons=(DaemonSpec(name="a", process="a", run="m:D"), clock)))
    for process in ("a", "clock"):
        roll.spawned(process, 1)
    assert not roll.only_system_left()
    roll.ended("a")
    assert roll.only_system_left()
    assert [standing.system for standing in roll.standings()] == [False, True]
