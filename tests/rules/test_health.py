"""Whatever has become of a process, its last words say how its daemons are."""

import pytest

from geartrain.rules.health import Condition, Health, Limits, classify, classify_process, health, is_online
from geartrain.rules.readings import DaemonReading, Poll, ProcessReading, SlotState
from tests.rules.looks import NOW, S, poll, process, slot

LIMITS = Limits(hang_ns=2 * S, heartbeat_ns=S)


@pytest.mark.parametrize(
    ("seen", "of", "expected"),
    [
        (process(), slot(SlotState.UNKNOWN), Condition.NEVER),
        (process(), slot(), Condition.IDLE),
        (process(), slot(in_body_since_ns=8 * S), Condition.RUNNING),
        (process(), slot(in_body_since_ns=8 * S - 1), Condition.HUNG),
        (process(heartbeat_ns=9 * S), slot(), Condition.IDLE),
        (process(heartbeat_ns=9 * S - 1), slot(), Condition.STALE),
        (process(heartbeat_ns=0), slot(), Condition.IDLE),
        (process(heartbeat_ns=1), slot(in_body_since_ns=1), Condition.HUNG),
        (process(), slot(held=1), Condition.FAULTED),
        (process(), slot(SlotState.ERROR), Condition.FAULTED),
        (process(alive=False), slot(in_body_since_ns=1), Condition.DEAD),
        (process(alive=False), slot(SlotState.UNKNOWN), Condition.DEAD),
        (process(alive=False), slot(SlotState.STOPPED), Condition.STOPPED),
        (process(alive=False, exit_code=0), slot(SlotState.ERROR), Condition.FAULTED),
        (process(alive=False, pid=0), slot(SlotState.UNKNOWN), Condition.NEVER),
    ],
)
def test_a_daemon_is_judged_by_the_worst_that_is_known(
    seen: ProcessReading, of: DaemonReading, expected: Condition
) -> None:
    assert classify(seen, of, NOW, LIMITS) is expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (poll(slot()), Condition.RUNNING),
        (poll(slot(), pid=0, alive=False), Condition.NEVER),
        (poll(slot(), alive=False), Condition.DEAD),
        (poll(slot(), alive=False, exit_code=-9), Condition.DEAD),
        (poll(slot(), alive=False, exit_code=0), Condition.STOPPED),
        (poll(slot(SlotState.STOPPED), alive=False, exit_code=1), Condition.STOPPED),
        (poll(slot(), heartbeat_ns=9 * S - 1), Condition.STALE),
        (poll(slot(), fault_since_ns=1), Condition.FAULTED),
    ],
)
def test_a_process_is_judged_by_how_it_ended_or_how_its_loop_turns(seen: Poll, expected: Condition) -> None:
    assert classify_process(seen, NOW, LIMITS) is expected


def test_a_process_is_online_also_between_two_bodies_and_not_once_its_loop_is_late() -> None:
    assert is_online(process(heartbeat_ns=9 * S), NOW, LIMITS)
    assert not is_online(process(heartbeat_ns=9 * S - 1), NOW, LIMITS)
    assert not is_online(process(alive=False), NOW, LIMITS)


def test_who_is_dead_is_worse_than_who_has_failed_and_that_worse_than_who_is_late() -> None:
    worse = [Condition.IDLE, Condition.STALE, Condition.FAULTED, Condition.DEAD]
    assert [health(condition) for condition in worse] == list(Health)
