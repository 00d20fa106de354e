"""What two looks tell together: rates of what is the same, nothing of what is not, and who is held up by whom."""

from typing import Any

import pytest
from msgspec.structs import replace

from geartrain.rules.faults import FaultCode
from geartrain.rules.health import Condition, Health
from geartrain.rules.lookout import Lookout
from geartrain.rules.pipeline import ChannelSpec, DaemonSpec, PipelineSpec, PortRef
from geartrain.rules.readings import DaemonReading, EndReading, Phase, Poll, ProcessReading, SlotState
from geartrain.rules.run_memory import RunAbout, RunReading
from geartrain.rules.slots import BUCKETS, bucket_of
from geartrain.rules.top import Buckets, ChannelRow, DaemonRow, Rows, between, rows

S = 1_000_000_000

SPEC = PipelineSpec(
    name="eyes",
    daemons=(
        DaemonSpec(name="camera", process="camera"),
        DaemonSpec(name="clock", process="clock", run="geartrain.actors:ReactorClock"),
    ),
    channels=(
        ChannelSpec(
            name="frames", writer=PortRef("camera", "out"), reader=PortRef("clock", "inp"), policy="latest", maxsize=8
        ),
    ),
)
ABOUT = RunAbout(run_id="eyes-1", spec=SPEC, launcher=(1, 1, ""), began_wall_ns=0)

CAMERA = DaemonReading("camera", state=SlotState.RUNNING, phase=Phase.RUN, starts=1)
WRITES = EndReading("frames", "camera", True, 8, incarnation=1, epoch=1, accepted=100, taken=95, stable=90)
READS = EndReading("frames", "clock", False, 8, incarnation=2, epoch=1, accepted=100, taken=95, stable=90)


def process(at_s: float, **fields: Any) -> ProcessReading:
    known = ProcessReading(process="camera", pid=7, alive=True, heartbeat_ns=round(at_s * S))
    return replace(known, **fields)


def look(at_s: float, *ends: EndReading, daemon: DaemonReading = CAMERA, **fields: Any) -> RunReading:
    poll = Poll(process=process(at_s, **fields), daemons=(daemon,), ends=ends)
    return RunReading(about=ABOUT, now_ns=round(at_s * S), alive=True, processes=(poll,))


def told(*looks: RunReading, took: Buckets | None = None) -> Rows:
    """What the last of these looks tells."""
    lookout = Lookout(SPEC)
    moments = [lookout.look(reading)[0] for reading in looks]
    return rows(moments[-1], took or {})


def the_daemon(*looks: RunReading, took: Buckets | None = None) -> DaemonRow:
    (row,) = told(*looks, took=took).daemons
    return row


def the_channel(*looks: RunReading) -> ChannelRow:
    return told(*looks).channels[0]


def counts(*took_ns: int) -> tuple[int, ...]:
    found = [0] * BUCKETS
    for took in took_ns:
        found[bucket_of(took)] += 1
    return tuple(found)


# -- daemons ----------------------------------------------------------------------------------------------------------


def test_the_rate_of_a_daemon_is_how_often_its_body_ran_between_the_looks() -> None:
    row = the_daemon(look(1, daemon=replace(CAMERA, executions=10)), look(3, daemon=replace(CAMERA, executions=40)))
    assert row.rate_hz == 15


def test_what_a_single_look_cannot_know_is_not_said() -> None:
    row = the_daemon(look(3, daemon=replace(CAMERA, executions=40)))
    assert (row.rate_hz, row.executions) == (None, 40)


def test_one_without_a_body_has_no_rate_and_no_lateness() -> None:
    row = the_daemon(look(1), look(2))
    assert (row.rate_hz, row.p50_s, row.lateness_s, row.max_lateness_s) == (None, None, None, None)


def test_durations_are_of_the_bodies_between_the_looks() -> None:
    old, new = (1_000_000,) * 100, (64_000,) * 9 + (8_000_000,)
    took = between({"camera": counts(*old)}, {"camera": counts(*old, *new), "late": counts(*new)})
    row = the_daemon(look(1), took=took)
    assert row.p50_s == pytest.approx(64e-6, rel=0.25)
    assert row.p99_s == pytest.approx(8e-3, rel=0.25)
    assert took["late"] == counts(*new)


def test_how_late_a_cycle_was_is_told_of_those_that_have_a_grid() -> None:
    daemon = replace(CAMERA, period_ns=S, lateness_ns=5_000_000, max_lateness_ns=7_000_000)
    row = the_daemon(look(1, daemon=daemon))
    assert (row.lateness_s, row.max_lateness_s) == (0.005, 0.007)


def test_one_that_hangs_says_how_long_and_one_that_is_silent_too() -> None:
    hung = the_daemon(look(9, daemon=replace(CAMERA, in_body_since_ns=2 * S)))
    assert (hung.condition, hung.health, hung.in_body_s) == (Condition.HUNG, Health.CRITICAL, 7)
    stale = the_daemon(look(9, heartbeat_ns=4 * S))
    assert (stale.condition, stale.silent_s) == (Condition.STALE, 5)


def test_nobody_is_in_a_body_who_is_dead() -> None:
    row = the_daemon(look(9, daemon=replace(CAMERA, in_body_since_ns=2 * S), alive=False))
    assert (row.condition, row.in_body_s) == (Condition.DEAD, None)


def test_restarts_are_those_of_the_daemon_and_those_of_its_process() -> None:
    row = the_daemon(look(1, daemon=replace(CAMERA, restarts=2, errors=4), restarts=3, deaths=1))
    assert (row.restarts, row.errors, row.deaths) == (5, 4, 1)


def test_a_system_daemon_is_told_as_such() -> None:
    assert the_daemon(look(1, daemon=replace(CAMERA, daemon="clock"))).is_system
    assert not the_daemon(look(1)).is_system


# -- channels ---------------------------------------------------------------------------------------------------------


def test_what_goes_in_and_out_of_a_channel_is_what_its_ends_counted_between_the_looks() -> None:
    before = look(1, WRITES, READS)
    after = look(3, replace(WRITES, accepted=140, taken=133, dropped=3), replace(READS, taken=135))
    row = the_channel(before, after)
    assert (row.in_hz, row.out_hz, row.fill, row.maxsize, row.dropped) == (20, 20, 4, 8, 3)
    assert (row.writer, row.reader, row.policy) == ("camera", "clock", "latest")


def test_a_channel_is_never_more_than_full_nor_less_than_empty() -> None:
    assert the_channel(look(1, replace(WRITES, taken=0))).fill == 8
    assert the_channel(look(1, replace(WRITES, taken=100, dropped=5))).fill == 0


def test_who_waits_for_room_is_told_and_for_how_long() -> None:
    row = the_channel(look(5, replace(WRITES, waits=1, still_since_ns=2 * S), READS))
    assert (row.waits, row.waits_s, row.is_blocked) == ("camera", 3, True)


def test_who_waits_for_an_item_is_told_and_blocks_nobody() -> None:
    row = the_channel(look(5, WRITES, replace(READS, waits=1, still_since_ns=5 * S)))
    assert (row.waits, row.waits_s, row.is_blocked) == ("clock", 0, False)


def test_who_waits_for_room_comes_before_who_waits_for_an_item() -> None:
    both = (replace(READS, waits=1), replace(WRITES, waits=1))
    assert the_channel(look(5, *both)).waits == "camera"
    assert the_channel(look(5, *reversed(both))).waits == "camera"


def test_nobody_waits_at_a_channel_that_is_closed() -> None:
    assert the_channel(look(5, WRITES, replace(READS, waits=1, closed=1))).waits is None


def test_nobody_waits_who_is_dead() -> None:
    assert the_channel(look(5, replace(WRITES, waits=1), alive=False)).waits is None


def test_a_channel_whose_ends_are_not_known_yet_is_shown_as_it_is_declared() -> None:
    row = the_channel(look(1))
    assert (row.channel, row.writer, row.reader, row.maxsize, row.fill) == ("frames", "camera", "clock", 8, 0)


def test_the_way_back_of_a_call_comes_after_the_way_there() -> None:
    back = replace(READS, channel="frames.replies")
    assert [row.channel for row in told(look(1, back, READS, WRITES)).channels] == ["frames", "frames.replies"]


def test_what_is_wrong_is_told_until_it_is_over_and_the_worst_first() -> None:
    ill = look(9, replace(WRITES, waits=1, still_since_ns=S), daemon=replace(CAMERA, in_body_since_ns=2 * S))
    assert [fault.key.code for fault in told(ill).faults] == [FaultCode.APP_HUNG, FaultCode.WRITER_BLOCKED]
    well = [look(at_s, WRITES) for at_s in (10, 11, 12, 13)]
    assert told(ill, *well).faults == ()
