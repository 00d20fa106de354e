"""Whatever has become of a process, its last words say how its daemons are; faults neither flap nor get lost."""

from typing import Any

import pytest

from geartrain.rules.health import (
    FRAMES_KEPT,
    Condition,
    Debounce,
    Fault,
    FaultBook,
    FaultCode,
    FaultKey,
    FaultStatus,
    Health,
    Limits,
    Symptom,
    classify,
    is_online,
    rolled_up,
    symptoms,
)
from geartrain.rules.readings import DaemonReading, Poll, ProcessReading, SlotState

S = 1_000_000_000
LIMITS = Limits(hang_ns=2 * S, heartbeat_ns=S)
ERROR = FaultKey("d", FaultCode.APP_ERROR)


def process(*, alive: bool = True, beat: int = 10 * S, generation: int = 0) -> ProcessReading:
    return ProcessReading(process="p", generation=generation, alive=alive, heartbeat_ns=beat)


def slot(state: SlotState = SlotState.RUNNING, **more: Any) -> DaemonReading:
    return DaemonReading("d", state=state, **more)


def codes(before: Poll | None, poll: Poll, now: int = 10 * S) -> dict[FaultCode, int]:
    return {symptom.key.code: symptom.times for symptom in symptoms(before, poll, now, LIMITS)}


def poll(*slots: DaemonReading, **more: Any) -> Poll:
    return Poll(process=process(**more), daemons=slots)


def ill(times: int = 1) -> list[Symptom]:
    return [Symptom(key=ERROR, times=times, frame=slot(errors=times))]


def statuses(changed: tuple[Fault, ...]) -> list[FaultStatus]:
    return [fault.status for fault in changed]


@pytest.mark.parametrize(
    ("seen", "of", "expected"),
    [
        (process(), slot(SlotState.UNKNOWN), Condition.NEVER),
        (process(), slot(), Condition.IDLE),
        (process(), slot(in_body_since_ns=8 * S), Condition.RUNNING),
        (process(), slot(in_body_since_ns=8 * S - 1), Condition.HUNG),
        (process(beat=9 * S), slot(), Condition.IDLE),
        (process(beat=9 * S - 1), slot(), Condition.STALE),
        (process(beat=0), slot(in_body_since_ns=1), Condition.HUNG),
        (process(), slot(held=1), Condition.FAULTED),
        (process(), slot(SlotState.ERROR), Condition.FAULTED),
        (process(alive=False), slot(in_body_since_ns=1), Condition.DEAD),
        (process(alive=False), slot(SlotState.UNKNOWN), Condition.DEAD),
        (process(alive=False), slot(SlotState.STOPPED), Condition.STOPPED),
    ],
)
def test_a_daemon_is_judged_by_the_worst_that_is_known(
    seen: ProcessReading, of: DaemonReading, expected: Condition
) -> None:
    assert classify(seen, of, 10 * S, LIMITS) is expected


def test_a_process_is_online_also_between_two_bodies_and_not_once_its_loop_is_late() -> None:
    assert is_online(process(beat=9 * S), 10 * S, LIMITS)
    assert not is_online(process(beat=9 * S - 1), 10 * S, LIMITS)
    assert not is_online(process(alive=False), 10 * S, LIMITS)


def test_health_rolls_up_to_the_worst() -> None:
    assert rolled_up([Condition.STALE, Condition.FAULTED, Condition.IDLE]) is Health.ERROR
    assert rolled_up([Condition.DEAD, Condition.FAULTED]) is Health.CRITICAL
    assert rolled_up([]) is Health.OK


def test_what_happened_between_two_polls_is_counted_though_all_is_well_again() -> None:
    assert codes(poll(slot(errors=1)), poll(slot(errors=4, overruns=2))) == {
        FaultCode.APP_ERROR: 3,
        FaultCode.TASK_BUDGET_EXCEEDED: 2,
    }


def test_the_counters_of_a_new_generation_begin_at_zero() -> None:
    assert codes(poll(slot(errors=5)), poll(slot(errors=1), generation=1)) == {FaultCode.APP_ERROR: 1}


def test_a_death_is_met_once_in_each_generation() -> None:
    dead = poll(slot(), alive=False)
    assert codes(poll(slot()), dead) == {FaultCode.PROCESS_DEAD: 1}
    assert codes(dead, dead) == {FaultCode.PROCESS_DEAD: 0}
    assert codes(dead, poll(slot(), alive=False, generation=1)) == {FaultCode.PROCESS_DEAD: 1}


def test_a_process_that_ended_after_all_its_daemons_has_not_died() -> None:
    assert codes(None, poll(slot(SlotState.STOPPED), alive=False)) == {}


def test_a_stopped_process_and_a_hanging_body_are_told_while_they_last() -> None:
    assert codes(None, poll(slot(in_body_since_ns=1), beat=0)) == {FaultCode.PROCESS_STALE: 0, FaultCode.APP_HUNG: 0}


def test_a_fault_is_confirmed_at_once_and_healed_by_three_clean_polls() -> None:
    book = FaultBook()
    assert statuses(book.step(ill(2), 1)) == [FaultStatus.CONFIRMED]
    assert [book.step([], now) for now in (2, 3)] == [(), ()]
    assert statuses(book.step([], 4)) == [FaultStatus.HEALED]
    assert [(fault.first_ns, fault.last_ns, fault.occurrences) for fault in book.faults] == [(1, 1, 2)]


def test_clean_polls_count_from_nothing_after_the_symptom_came_back() -> None:
    book = FaultBook()
    for now in range(5):
        assert statuses(book.step(ill(), 3 * now)) == ([] if now else [FaultStatus.CONFIRMED])
        assert book.step([], 3 * now + 1) == book.step([], 3 * now + 2) == ()


def test_a_long_fault_heals_as_soon_as_a_short_one() -> None:
    book = FaultBook()
    for now in range(1000):
        book.step(ill(), now)
    assert [statuses(book.step([], 1000)) for _ in range(3)] == [[], [], [FaultStatus.HEALED]]


def test_a_fault_that_must_persist_is_not_confirmed_by_two_polls_apart() -> None:
    book = FaultBook(Debounce(confirm=2))
    assert statuses(book.step(ill(), 1)) == [FaultStatus.PREFAILED]
    assert book.step([], 2) == book.step(ill(), 3) == ()
    assert statuses(book.step(ill(), 4)) == [FaultStatus.CONFIRMED]


def test_one_that_only_goes_on_has_happened_once_and_again_once_after_it_healed() -> None:
    book = FaultBook()
    for now in range(3):
        book.step(ill(0), now)
    assert book.faults[0].occurrences == 1
    for now in range(3):
        book.step([], now)
    book.step(ill(0), 9)
    assert book.faults[0].occurrences == 2


def test_what_was_read_at_each_confirmation_is_kept_up_to_a_bound() -> None:
    book = FaultBook(Debounce(heal=1))
    for now in range(1, FRAMES_KEPT + 3):
        book.step(ill(now), now)
        book.step(ill(999), now)
        book.step([], now)
    assert [frame.errors for frame in book.frames(ERROR) if isinstance(frame, DaemonReading)] == list(
        range(3, FRAMES_KEPT + 3)
    )


def test_the_same_code_of_two_daemons_is_two_faults() -> None:
    other = Symptom(key=FaultKey("e", FaultCode.APP_ERROR), times=1, frame=DaemonReading("e"))
    book = FaultBook()
    book.step([*ill(), other], 1)
    assert [fault.key.entity for fault in book.faults] == ["d", "e"]
