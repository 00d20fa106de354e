"""What one look shows is told as it is: what is at its limit is not yet wrong."""

from typing import Any

import pytest

from geartrain.rules.faults import FaultCode, Symptom
from geartrain.rules.health import Limits
from geartrain.rules.readings import EndReading, Held, Phase, Poll, SlotState
from geartrain.rules.symptoms import Hands, Storms, symptoms
from tests.rules.looks import NOW, S, end, poll, slot

LIMITS = Limits(hang_ns=2 * S, heartbeat_ns=S, blocked_ns=5 * S, storm=3, storm_ns=60 * S)


def found(seen: Poll, now_ns: int = NOW) -> dict[FaultCode, Symptom]:
    return {symptom.key.code: symptom for symptom in symptoms(seen, now_ns, LIMITS)}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (poll(slot()), set()),
        (poll(slot(errors=3)), {FaultCode.APP_ERROR}),
        (poll(slot(SlotState.ERROR, errors=1)), {FaultCode.APP_ERROR}),
        (poll(slot(overruns=1)), {FaultCode.TASK_BUDGET_EXCEEDED}),
        (poll(slot(held=Held.OVER_BUDGET, overruns=1)), {FaultCode.TASK_BUDGET_EXCEEDED}),
        (poll(slot(held=Held.WITH_ITS_PROCESS)), set()),
        (poll(slot(), fault_since_ns=5), {FaultCode.EXECUTOR_BUDGET_EXCEEDED}),
        (poll(slot(in_body_since_ns=8 * S)), set()),
        (poll(slot(in_body_since_ns=8 * S - 1)), {FaultCode.APP_HUNG}),
        (poll(slot(), heartbeat_ns=9 * S), set()),
        (poll(slot(), heartbeat_ns=9 * S - 1), {FaultCode.PROCESS_STALE}),
        (poll(slot(), heartbeat_ns=0), set()),
        (poll(slot(), dropped=2), {FaultCode.SLOTS_EXHAUSTED}),
        (poll(slot(), alive=False), {FaultCode.PROCESS_DEAD}),
        (poll(slot(), alive=False, exit_code=-9, deaths=1), {FaultCode.PROCESS_DEAD}),
        (poll(slot(), deaths=1), {FaultCode.PROCESS_DEAD}),
        (poll(slot(in_body_since_ns=1), alive=False, heartbeat_ns=1), {FaultCode.PROCESS_DEAD}),
        (poll(slot(SlotState.STOPPED), alive=False, exit_code=0), set()),
        (poll(slot(SlotState.STOPPED), alive=False), set()),
        (poll(slot(SlotState.UNKNOWN), alive=False, pid=0), set()),
    ],
)
def test_what_is_wrong_has_a_code(seen: Poll, expected: set[FaultCode]) -> None:
    assert set(found(seen)) == expected


def test_what_is_counted_says_how_often_and_what_lasts_says_which_one() -> None:
    symptom = found(poll(slot(SlotState.ERROR, errors=4)))[FaultCode.APP_ERROR]
    assert (symptom.total, symptom.lasts) == (4, True)
    symptom = found(poll(slot(errors=4)))[FaultCode.APP_ERROR]
    assert (symptom.total, symptom.lasts) == (4, False)
    symptom = found(poll(slot(in_body_since_ns=5)))[FaultCode.APP_HUNG]
    assert (symptom.total, symptom.lasts, symptom.mark) == (0, True, 5)
    symptom = found(poll(slot(), alive=False, generation=3, deaths=2))[FaultCode.PROCESS_DEAD]
    assert (symptom.total, symptom.lasts, symptom.mark) == (2, True, 3)


def test_a_fault_is_told_in_words_with_what_was_met_and_what_was_allowed() -> None:
    held = slot(held=Held.OVER_BUDGET, overruns=1, held_took_ns=3_000_000, budget_ns=1_000_000)
    assert found(poll(held))[FaultCode.TASK_BUDGET_EXCEEDED].said == "its body took 3 ms, and may take 1 ms"
    dead = poll(slot(), alive=False, exit_code=-9)
    assert found(dead)[FaultCode.PROCESS_DEAD].said == "the process has died (by signal 9)"


def writer(channel: str = "frames", **more: Any) -> EndReading:
    return end(channel, "d", sends=True, **({"waits": 1, "still_since_ns": 5 * S - 1} | more))


@pytest.mark.parametrize(
    ("ends", "blocked"),
    [
        ((writer(),), True),
        ((writer(still_since_ns=5 * S),), False),
        ((writer(waits=0),), False),
        ((end("frames", "d", sends=False, waits=1),), False),
    ],
)
def test_a_writer_is_blocked_when_it_waits_and_nothing_has_moved_for_longer_than_the_limit(
    ends: tuple[EndReading, ...], blocked: bool
) -> None:
    assert (FaultCode.WRITER_BLOCKED in found(poll(slot(), ends=ends))) is blocked


def test_of_several_ends_the_one_that_waits_longest_is_named_and_of_a_dead_process_none() -> None:
    ends = (writer("late"), writer("early", still_since_ns=1))
    assert "'early'" in found(poll(slot(), ends=ends))[FaultCode.WRITER_BLOCKED].said
    assert FaultCode.WRITER_BLOCKED not in found(poll(slot(), ends=ends, alive=False))


# -- over some time ---------------------------------------------------------------------------------------------------


def test_more_restarts_within_a_stretch_than_are_allowed_are_a_storm_until_that_is_long_ago() -> None:
    storms = Storms()

    def stormy(restarts: int, now_s: int, within: int = 0) -> bool:
        return bool(list(storms.look(poll(slot(restarts=within), restarts=restarts), now_s * S, LIMITS)))

    assert not stormy(10, 1)
    assert not stormy(13, 2)
    assert stormy(14, 3)
    assert stormy(14, 62)
    assert not stormy(14, 64)
    # Daemons that are made anew within their process count too.
    assert stormy(14, 65, within=4)


def test_slow_restarts_are_no_storm() -> None:
    storms = Storms()
    for restarts in range(100):
        assert not list(storms.look(poll(slot(), restarts=restarts), restarts * 21 * S, LIMITS))


def reader(number: int, channel: str = "frames", **more: Any) -> EndReading:
    return end(channel, "d", sends=False, **({"in_hand": number} | more))


@pytest.mark.parametrize(
    ("of", "ends", "hangs"),
    [
        (slot(), (reader(7),), True),
        (slot(), (reader(7, waits=1),), True),
        (slot(), (reader(0),), False),
        (slot(), (reader(7, closed=1),), False),
        (slot(), (reader(7), writer(),), False),
        (slot(), (reader(7), reader(0, "other", waits=1)), False),
        (slot(), (reader(7, "frames.replies"),), False),
        (slot(period_ns=5), (reader(7),), False),
        (slot(phase=Phase.ON_START), (reader(7),), False),
    ],
)  # fmt: skip
def test_who_has_one_item_in_hand_too_long_hangs_unless_it_waits_or_has_cycles(
    of: object, ends: tuple[EndReading, ...], hangs: bool
) -> None:
    hands = Hands()
    assert isinstance(of, type(slot()))
    seen = [
        bool(list(hands.look(poll(of, ends=ends), NOW + late_ns, LIMITS, but=("frames.replies",))))
        for late_ns in (0, 2 * S, 2 * S + 1)
    ]
    assert seen == [False, False, hangs]


def test_another_item_in_hand_begins_anew() -> None:
    hands = Hands()
    for number in range(1, 10):
        assert not list(hands.look(poll(slot(), ends=(reader(number),)), NOW + number * 2 * S, LIMITS, but=()))


def test_a_dead_process_has_nothing_in_hand() -> None:
    hands = Hands()
    for late in range(5):
        seen = poll(slot(), ends=(reader(7),), alive=False)
        assert not list(hands.look(seen, NOW + late * S, LIMITS, but=()))
