"""Who was first, what is said of each end, and what each had in hand; told by values alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.post_mortem import Ending, HeldBack, Holding, Line, Owing, PostMortem, RunState, Waiting, examine
from geartrain.rules.readings import DaemonReading, EndReading, Held, Phase, Poll, ProcessReading, SlotState
from geartrain.rules.run_memory import Event, RunAbout, RunReading, What

S = 1_000_000_000
# How far the wall is ahead of the machine's clock.
AHEAD = 1_000_000 * S

SPEC = PipelineSpec(
    name="eyes",
    daemons=(DaemonSpec(name="camera", process="camera"), DaemonSpec(name="detector", process="detector")),
    channels=(
        ChannelSpec(name="frames", writer=PortRef("camera", "out"), reader=PortRef("detector", "inp")),
        ChannelSpec(name="ask", writer=PortRef("camera", "ask"), reader=PortRef("detector", "answer")),
    ),
)
ABOUT = RunAbout(run_id="eyes-1", spec=SPEC, launcher=(1, 1, ""), began_wall_ns=AHEAD)


def process(name: str, **fields: object) -> ProcessReading:
    known = ProcessReading(process=name, generation=1, pid=7, born_ns=S, heartbeat_ns=5 * S)
    return replace(known, **fields)


def working(name: str, **fields: object) -> DaemonReading:
    return replace(DaemonReading(name, state=SlotState.RUNNING, phase=Phase.RUN, starts=1), **fields)


def poll(name: str, *ends: EndReading, daemon: DaemonReading | None = None, **fields: object) -> Poll:
    return Poll(process=process(name, **fields), daemons=(daemon or working(name),), ends=ends)


def event(at_s: float, what: What, name: str = "", said: str = "", life: int = 0, pid: int = 7) -> Event:
    daemon = name if what in ("ready", "failed", "ended", "hung") else ""
    return Event(wall_ns=AHEAD + round(at_s * S), what=what, process=name, daemon=daemon, life=life, pid=pid, said=said)


def spawned(name: str, life: int = 1) -> Event:
    return event(1, "spawned", name, life=life)


def told(
    *polls: Poll,
    events: Sequence[Event] = (),
    alive: bool = False,
    former: Mapping[str, Sequence[Poll]] | None = None,
    lines: Mapping[str, Sequence[Line]] | None = None,
) -> PostMortem:
    reading = RunReading(about=ABOUT, now_ns=6 * S, alive=alive, processes=polls)
    every = [*(spawned(each.process.process) for each in polls if each.process.pid), *events]
    return examine(reading, former or {}, every, lines or {}, lambda number: f"SIG{number}")


@pytest.mark.parametrize(
    ("fields", "ending", "said"),
    [
        ({"exit_code": -9, "ended_ns": 4 * S}, Ending.KILLED, "killed by SIG9"),
        ({"exit_code": 3, "ended_ns": 4 * S}, Ending.FAILED, "exit code 3"),
        ({"exit_code": 0, "ended_ns": 4 * S}, Ending.ENDED, "ended well"),
        ({}, Ending.UNSEEN, "nobody saw it end"),
        ({"alive": True}, Ending.ALIVE, "alive"),
        ({"alive": True, "heartbeat_ns": 2 * S}, Ending.HUNG, "alive, but it stands still"),
        ({"pid": 0}, Ending.NEVER, "was never started"),
    ],
)
def test_how_a_process_ended_is_told(fields: dict[str, Any], ending: Ending, said: str) -> None:
    (found,) = told(poll("camera", **fields)).processes
    assert (found.last.ending, found.last.said) == (ending, said)


def test_the_time_of_an_end_is_that_of_the_wall_when_it_was_seen_and_else_of_the_last_sign_of_life() -> None:
    (seen,) = told(poll("camera", exit_code=-9, ended_ns=4 * S)).processes
    assert seen.last.at_wall_ns == AHEAD + 4 * S
    (unseen,) = told(poll("camera", daemon=working("camera", changed_ns=5 * S + 7))).processes
    assert unseen.last.at_wall_ns == AHEAD + 5 * S + 7


def test_a_body_that_was_running_says_since_when_and_after_which_cycle() -> None:
    daemon = working("camera", cycle=41, period_ns=S, in_body_since_ns=3 * S)
    (found,) = told(poll("camera", daemon=daemon)).processes[0].last.daemons
    assert (found.where, found.cycle, found.in_body_since_wall_ns) == ("in run", 41, AHEAD + 3 * S)


@pytest.mark.parametrize(
    ("state", "phase", "where"),
    [
        (SlotState.UNKNOWN, Phase.NONE, "not started"),
        (SlotState.RUNNING, Phase.ON_START, "in on_start"),
        (SlotState.RUNNING, Phase.READY, "ready, before run"),
        (SlotState.RUNNING, Phase.RUN, "in run"),
        (SlotState.RUNNING, Phase.ON_STOP, "in on_stop"),
        (SlotState.ERROR, Phase.NONE, "failed"),
        (SlotState.ERROR, Phase.ON_STOP, "in on_stop"),
        (SlotState.STOPPED, Phase.NONE, "had ended"),
    ],
)
def test_where_in_its_life_a_daemon_was_is_told(state: SlotState, phase: Phase, where: str) -> None:
    (found,) = told(poll("camera", daemon=DaemonReading("camera", state=state, phase=phase))).processes[0].last.daemons
    assert found.where == where


def test_who_was_held_back_says_since_when_and_for_what() -> None:
    own = working("camera", held=Held.OVER_BUDGET, held_since_ns=3 * S, held_took_ns=9 * S, budget_ns=5 * S)
    (found,) = told(poll("camera", daemon=own)).processes[0].last.daemons
    assert found.held == HeldBack(False, AHEAD + 3 * S, 9.0, 5.0)
    with_all = working("camera", held=Held.WITH_ITS_PROCESS, held_since_ns=3 * S)
    (found,) = told(poll("camera", daemon=with_all, budget_ns=S, fault_took_ns=2 * S)).processes[0].last.daemons
    assert found.held == HeldBack(True, AHEAD + 3 * S, 2.0, 1.0)


# -- ends -------------------------------------------------------------------------------------------------------------

READS = EndReading("frames", "detector", False, 8, accepted=20, taken=19, stable=19)
WRITES = EndReading("frames", "camera", True, 8, accepted=20, taken=12, stable=11)


def test_a_reader_says_what_it_has_in_hand_and_a_writer_what_it_is_owed() -> None:
    found = told(poll("camera", WRITES), poll("detector", replace(READS, in_hand=19, may_have=19)))
    camera, detector = (process.last.daemons[0] for process in found.processes)
    assert (camera.owes, camera.holds) == ((Owing("frames", 9),), ())
    assert (detector.owes, detector.holds) == ((), (Holding("frames", 19, 19),))


def test_who_waits_says_where_for_whom_and_since_when() -> None:
    found = told(poll("camera", replace(WRITES, waits=1, still_since_ns=2 * S)), poll("detector", READS))
    assert found.processes[0].last.daemons[0].waits == (Waiting("frames", True, "detector", AHEAD + 2 * S),)
    assert found.processes[1].last.daemons[0].waits == ()


def test_the_other_end_of_an_answer_is_who_asked() -> None:
    answers = EndReading("ask.answers", "detector", True, 8, waits=1)
    found = told(poll("detector", answers))
    assert found.processes[0].last.daemons[0].waits[0].other == "camera"


@pytest.mark.parametrize(
    ("daemon", "end"),
    [
        # Its loop stood still before it could say that it waits no more.
        (working("detector"), replace(READS, waits=1, in_hand=20, may_have=20)),
        (working("detector"), replace(READS, waits=1, closed=1)),
        (working("detector", phase=Phase.ON_STOP), replace(READS, waits=1)),
    ],
)
def test_who_has_an_item_in_hand_or_no_run_any_more_waits_for_none(daemon: DaemonReading, end: EndReading) -> None:
    assert told(poll("detector", end, daemon=daemon)).processes[0].last.daemons[0].waits == ()


def test_who_ended_well_holds_nothing_though_it_never_asked_for_another() -> None:
    ended = DaemonReading("detector", state=SlotState.STOPPED)
    found = told(poll("detector", replace(READS, in_hand=20, may_have=20), daemon=ended, exit_code=0, ended_ns=S))
    assert found.processes[0].last.daemons[0].holds == ()


# -- who was first ----------------------------------------------------------------------------------------------------


def test_a_run_that_ended_well_has_no_cause() -> None:
    events = [event(2, "ready", "camera"), event(3, "exited", "camera", "exit code 0"), event(4, "over")]
    found = told(poll("camera", exit_code=0, ended_ns=3 * S), events=events)
    assert (found.state, found.first, found.ended_wall_ns) == (RunState.OVER, None, AHEAD + 4 * S)


def test_the_first_failure_that_nobody_made_good_is_the_cause() -> None:
    events = [
        event(2, "exited", "camera", "killed by SIGKILL"),
        event(2, "failed", "camera", "process 7: killed by SIGKILL"),
        spawned("camera", life=2),
        event(3, "ready", "camera"),
        event(4, "failed", "detector", "OSError: the lens is dirty (in run)"),
        event(5, "exited", "camera", "exit code 1"),
        event(6, "over"),
    ]
    first = told(poll("camera"), poll("detector"), events=events).first
    assert first is not None
    assert (first.daemon, first.said) == ("detector", "OSError: the lens is dirty (in run)")


def test_who_is_to_be_ignored_is_the_cause_only_where_nobody_else_is() -> None:
    ignored = replace(SPEC.daemons[0], on_error="ignore")
    about = replace(ABOUT, spec=replace(SPEC, daemons=(ignored, SPEC.daemons[1])))
    reading = RunReading(about=about, now_ns=6 * S, alive=False, processes=(poll("camera"), poll("detector")))
    camera, detector = event(2, "failed", "camera", "OSError"), event(3, "failed", "detector", "OSError")
    alone, both = (examine(reading, {}, events, {}, str).first for events in ([camera], [camera, detector]))
    assert alone is not None
    assert both is not None
    assert (alone.daemon, alone.is_ignored) == ("camera", True)
    assert (both.daemon, both.is_ignored) == ("detector", False)


def test_who_does_not_end_after_the_run_was_told_to_stop_is_no_cause_but_is_told_as_such() -> None:
    events = [event(3, "stopping"), event(4, "exited", "camera", "killed by SIGKILL"), event(5, "over")]
    found = told(poll("camera", exit_code=-9, ended_ns=4 * S), events=events)
    assert found.first is None
    assert found.processes[0].last.told_to_stop


def test_a_run_whose_launcher_is_dead_and_has_written_no_end_was_killed() -> None:
    assert told(poll("camera")).state is RunState.KILLED
    assert told(poll("camera"), alive=True).state is RunState.ALIVE
    assert told(poll("camera"), events=[event(2, "over")], alive=True).state is RunState.OVER


def test_the_worst_comes_first_and_before_all_who_was_first() -> None:
    polls = (
        poll("well", exit_code=0, ended_ns=S),
        poll("alive", alive=True),
        poll("late", exit_code=-9, ended_ns=4 * S),
        poll("early", exit_code=-9, ended_ns=3 * S),
        poll("unseen"),
        poll("code", exit_code=1, ended_ns=2 * S),
    )
    found = told(*polls, events=[event(2, "failed", "code", "OSError")])
    names = [process.process for process in found.processes]
    assert names == ["code", "early", "late", "unseen", "alive", "well"]


# -- what is missing --------------------------------------------------------------------------------------------------


def test_former_lives_are_told_each_with_what_it_had_in_hand() -> None:
    dead = poll("detector", replace(READS, in_hand=19, may_have=22), exit_code=-9, ended_ns=2 * S)
    now = poll("detector", READS, generation=2, alive=True, deaths=1, restarts=1)
    found = told(now, former={"detector": [dead]}, alive=True).processes[0]
    (life,) = found.former
    assert (life.life, life.ending, life.at_wall_ns) == (1, Ending.KILLED, AHEAD + 2 * S)
    assert life.daemons[0].holds == (Holding("frames", 19, 22),)


@pytest.mark.parametrize(
    ("said", "ending"), [("killed by SIGSEGV", Ending.KILLED), ("exit code 2", Ending.FAILED), ("", Ending.UNSEEN)]
)
def test_of_a_process_whose_file_cannot_be_read_the_events_still_say_how_it_ended(said: str, ending: Ending) -> None:
    events = [event(1, "spawned", "camera", life=4), *([event(3, "exited", "camera", said)] if said else [])]
    (found,) = told(poll("camera", pid=0), events=events).processes
    assert (found.last.ending, found.last.life, found.last.pid) == (ending, 4, 7)
    assert "cannot be read" in found.last.said


def test_of_a_life_whose_birth_is_in_no_event_any_more_the_times_are_those_of_another() -> None:
    reading = RunReading(about=ABOUT, now_ns=6 * S, alive=False, processes=(poll("camera"), poll("detector")))
    with_one = examine(reading, {}, [spawned("camera")], {}, str)
    assert {process.last.at_wall_ns for process in with_one.processes} == {AHEAD + 5 * S}
    with_none = examine(reading, {}, [], {}, str)
    assert {process.last.at_wall_ns for process in with_none.processes} == {None}
