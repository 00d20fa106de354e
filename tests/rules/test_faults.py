"""Faults neither flap nor get lost, and each is counted once, also by who begins in the middle."""

import pytest

from geartrain.rules.faults import (
    FRAMES_KEPT,
    HISTORY_KEPT,
    Debounce,
    Fault,
    FaultBook,
    FaultCode,
    FaultKey,
    FaultStatus,
    Severity,
    Symptom,
)
from geartrain.rules.health import Health
from geartrain.rules.readings import DaemonReading
from tests.rules.looks import slot

ERROR = FaultKey("d", FaultCode.APP_ERROR)


def met(total: int, code: FaultCode = FaultCode.APP_ERROR, entity: str = "d") -> Symptom:
    """So often in all, and over each time."""
    return Symptom(key=FaultKey(entity, code), frame=slot(errors=total), said="it failed", total=total)


def lasting(mark: int = 0, total: int = 0, code: FaultCode = FaultCode.PROCESS_STALE) -> Symptom:
    return Symptom(key=FaultKey("d", code), frame=slot(), said="it goes on", lasts=True, mark=mark, total=total)


def statuses(changed: tuple[Fault, ...]) -> list[FaultStatus]:
    return [fault.status for fault in changed]


def test_a_fault_is_confirmed_at_once_and_healed_by_three_clean_looks() -> None:
    book = FaultBook()
    assert statuses(book.step([met(2)], 1)) == [FaultStatus.CONFIRMED]
    assert [book.step([met(2)], now) for now in (2, 3)] == [(), ()]
    assert statuses(book.step([met(2)], 4)) == [FaultStatus.HEALED]
    assert [(fault.first_ns, fault.last_ns, fault.occurrences) for fault in book.faults] == [(1, 1, 2)]


def test_what_happened_between_two_looks_is_counted_though_all_is_well_again() -> None:
    book = FaultBook()
    book.step([met(1)], 1)
    book.step([met(4)], 2)
    assert book.faults[0].occurrences == 4


def test_clean_looks_count_from_nothing_after_the_symptom_came_back() -> None:
    book = FaultBook()
    for now in range(5):
        changed = book.step([met(now + 1)], 3 * now)
        assert statuses(changed) == ([] if now else [FaultStatus.CONFIRMED])
        assert book.step([met(now + 1)], 3 * now + 1) == book.step([], 3 * now + 2) == ()


def test_a_long_fault_heals_as_soon_as_a_short_one() -> None:
    book = FaultBook()
    for now in range(1000):
        book.step([lasting()], now)
    assert [statuses(book.step([], 1000)) for _ in range(3)] == [[], [], [FaultStatus.HEALED]]


def test_a_fault_that_must_persist_is_not_confirmed_by_two_looks_apart() -> None:
    book = FaultBook(Debounce(confirm=2))
    assert statuses(book.step([met(1)], 1)) == [FaultStatus.PREFAILED]
    assert statuses(book.step([met(1)], 2)) == [FaultStatus.PREPASSED]
    assert statuses(book.step([met(2)], 3)) == [FaultStatus.PREFAILED]
    assert statuses(book.step([met(3)], 4)) == [FaultStatus.CONFIRMED]


def test_a_critical_fault_is_confirmed_at_once_however_long_others_must_persist() -> None:
    book = FaultBook(Debounce(confirm=3))
    assert statuses(book.step([lasting(code=FaultCode.PROCESS_DEAD)], 1)) == [FaultStatus.CONFIRMED]


def test_one_that_only_goes_on_has_happened_once_and_again_once_after_it_healed() -> None:
    book = FaultBook()
    for now in range(3):
        book.step([lasting()], now)
    assert book.faults[0].occurrences == 1
    for now in range(3):
        book.step([], now)
    book.step([lasting()], 9)
    assert book.faults[0].occurrences == 2


def test_two_that_go_on_one_after_the_other_are_two_though_no_look_was_clean() -> None:
    book = FaultBook()
    book.step([lasting(mark=5)], 1)
    book.step([lasting(mark=5)], 2)
    book.step([lasting(mark=8)], 3)
    assert book.faults[0].occurrences == 2


@pytest.mark.parametrize("counted_at", [1, 2, 3])
def test_a_death_is_counted_once_whether_it_is_seen_or_counted_first(counted_at: int) -> None:
    dead = FaultCode.PROCESS_DEAD
    book = FaultBook()
    for look in range(1, 4):
        book.step([lasting(mark=1, total=int(look >= counted_at), code=dead)], look)
    assert book.faults[0].occurrences == 1
    # It lives again, and dies again, and this time nobody has seen it dead.
    for look in range(4, 8):
        book.step([met(1 + (look > 5), dead)], look)
    assert book.faults[0].occurrences == 2


def test_a_death_that_was_never_counted_does_not_hide_the_next() -> None:
    dead = FaultCode.PROCESS_DEAD
    book = FaultBook()
    book.step([lasting(mark=1, total=0, code=dead)], 1)
    book.step([lasting(mark=2, total=1, code=dead)], 2)
    assert book.faults[0].occurrences == 2


def test_a_fault_that_was_cleared_comes_back_when_it_happens_again() -> None:
    book = FaultBook()
    book.step([met(1)], 1)
    cleared = book.clear(ERROR)
    assert cleared is not None
    assert cleared.status is FaultStatus.CLEARED
    assert book.clear(ERROR) is None
    for now in range(2, 9):
        assert book.step([met(1)], now) == ()
    assert statuses(book.step([met(2)], 9)) == [FaultStatus.CONFIRMED]
    assert book.faults[0].occurrences == 2


def test_after_a_clear_a_fault_must_persist_as_long_as_at_first() -> None:
    book = FaultBook(Debounce(confirm=2))
    book.step([met(1)], 1)
    book.step([met(2)], 2)
    book.clear(ERROR)
    assert statuses(book.step([met(3)], 3)) == [FaultStatus.PREFAILED]


def test_a_fault_that_goes_on_comes_back_at_the_next_look() -> None:
    book = FaultBook()
    book.step([lasting()], 1)
    book.clear(FaultKey("d", FaultCode.PROCESS_STALE))
    assert statuses(book.step([lasting()], 2)) == [FaultStatus.CONFIRMED]


def test_who_goes_on_from_what_another_wrote_down_counts_only_what_is_new() -> None:
    first = FaultBook()
    written = [*first.step([met(3)], 1), *(fault for now in (2, 3, 4) for fault in first.step([met(3)], now))]
    second = FaultBook()
    for fault in written:
        second.go_on_from(fault, None)
    assert second.faults == first.faults
    assert second.step([met(3)], 5) == ()
    assert statuses(second.step([met(5)], 6)) == [FaultStatus.CONFIRMED]
    assert second.faults[0].occurrences == 5


def test_what_was_read_at_each_confirmation_is_kept_up_to_a_bound_also_after_a_clear() -> None:
    book = FaultBook(Debounce(heal=1))
    for now in range(1, FRAMES_KEPT + 3):
        book.step([met(now)], now)
        book.step([met(now)], now)
    book.step([met(999)], 999)
    book.clear(ERROR)
    kept = [frame.seen.errors for frame in book.frames(ERROR) if isinstance(frame.seen, DaemonReading)]
    assert kept == [*range(4, FRAMES_KEPT + 3), 999]


def test_the_last_changes_of_a_code_are_kept_up_to_a_bound() -> None:
    book = FaultBook(Debounce(heal=1))
    for now in range(1, HISTORY_KEPT + 1):
        book.step([met(now)], now)
        book.step([met(now)], now)
    history = book.history(FaultCode.APP_ERROR)
    assert len(history) == HISTORY_KEPT
    assert statuses(history[-2:]) == [FaultStatus.CONFIRMED, FaultStatus.HEALED]
    assert history[-1].occurrences == HISTORY_KEPT
    assert book.history(FaultCode.APP_HUNG) == ()


def test_the_same_code_of_two_daemons_is_two_faults() -> None:
    book = FaultBook()
    book.step([met(1), met(1, entity="e")], 1)
    assert [fault.key.entity for fault in book.faults] == ["d", "e"]


def test_a_fault_makes_its_entity_ill_as_long_as_it_is_confirmed_and_by_its_severity() -> None:
    book = FaultBook()
    book.step([met(1)], 1)
    assert [fault.health for fault in book.faults] == [Health.ERROR]
    for now in (2, 3, 4):
        book.step([], now)
    assert [fault.health for fault in book.faults] == [Health.OK]


def test_every_code_has_a_severity() -> None:
    assert all(isinstance(code.severity, Severity) for code in FaultCode)
