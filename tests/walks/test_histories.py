"""The checker of histories finds what is planted, and nothing where all is well."""

from collections.abc import Callable
from pathlib import Path

import pytest

from geartrain.rules.lease_ledger import Began, Ended, Granted, Lease, Moded, Record, SessionOpened
from geartrain.rules.lease_words import (
    Acquire,
    Alive,
    Asked,
    Claim,
    Done,
    Grant,
    Lost,
    Refusal,
    Release,
    Renew,
    SetMode,
    Shown,
    Told,
)
from tests.walks.histories import Event, Gone, Heard, Left, Said, events_in, faults, line_of

CELL = (Claim("cell"),)
ARM = (Claim("cell/arm"),)


def asks(at: int, word: Asked) -> Said:
    return Said(at, word)


def hears(at: int, word: Told) -> Heard:
    return Heard(at, word)


def granted(at: int, revision: int, session: int, n: int, claims: tuple[Claim, ...] = CELL, ttl: int = 100) -> Granted:
    return Granted(at, n, Lease(revision, revision, session, claims, at, at + ttl, ttl))


# Session 2 takes the cell, renews it, and gives it back; session 3 asks, is not answered, asks again, and has an arm.
EVENTS: tuple[Event, ...] = (
    asks(10, Acquire(2, 1, CELL, 100)),
    hears(12, Grant(2, 1, 4, 4, CELL, 100)),
    asks(60, Renew(2, (Shown(4, 4),), 2)),
    hears(62, Alive(2, (), 2)),
    asks(120, Acquire(3, 1, ARM, 100)),
    asks(130, Release(2, 3, 4, 4)),
    hears(135, Done(2, 3, 4)),
    Gone(140),
    asks(150, Acquire(3, 1, ARM, 100)),
    hears(155, Grant(3, 1, 6, 6, ARM, 100)),
    asks(160, SetMode(3, 2, 6, 6, "s")),
    hears(165, Done(3, 2, 6, 7)),
    Left(170, 3),
)
RECORDS: tuple[Record, ...] = (
    Began(1, "boot", 0),
    SessionOpened(2, "a", "", 1000),
    SessionOpened(3, "b", "", 1000),
    granted(11, 4, 2, 1),
    Ended(132, 4, "released", 2, 3),
    granted(136, 6, 3, 1, ARM),
    Moded(162, 3, 2, 6, "s"),
)


def found(events: tuple[Event, ...] = EVENTS, records: tuple[Record, ...] = RECORDS) -> list[str]:
    return faults(sorted(events, key=lambda event: event.at_ns), records)


def without(*numbers: int) -> tuple[Event, ...]:
    return tuple(event for number, event in enumerate(EVENTS) if number not in numbers)


def recorded(number: int, record: Record) -> tuple[Record, ...]:
    return (*RECORDS[:number], record, *RECORDS[number + 1 :])


def test_what_can_have_been_so_has_no_fault() -> None:
    assert found() == []


Planted = Callable[[], list[str]]
PLANTED: dict[str, tuple[str, Planted]] = {
    "two holders at a time": (
        "two hold at a time",
        lambda: found(
            (*without(9), hears(129, Grant(3, 1, 6, 6, ARM, 100))),
        ),
    ),
    "two holders, the first by a renewal only": (
        "two hold at a time",
        # Neither released nor adopted: what it had renewed at 60 is its own until 160.
        lambda: found(without(5, 6), recorded(4, Ended(132, 4, "evicted"))),
    ),
    "a holder that has raised its lease beside another": (
        "two hold at a time",
        lambda: found(
            (
                *without(10, 11, 12),
                asks(156, SetMode(3, 2, 6, 6, "s")),
                hears(157, Done(3, 2, 6, 7)),
                asks(158, Acquire(2, 9, (Claim("cell", "s"),), 100)),
                hears(159, Grant(2, 9, 8, 8, (Claim("cell", "s"),), 100)),
                asks(160, SetMode(2, 10, 8, 8, "x")),
                hears(161, Done(2, 10, 8, 9)),
            )
        ),
    ),
    "a token that goes back": (
        "token 3 was asked for at 120, when 4 had been told",
        lambda: found((*without(8, 9, 10, 11), hears(155, Grant(3, 1, 3, 3, ARM, 100)))),
    ),
    "a token twice": (
        "token 4 was asked for",
        lambda: found((*without(8, 9, 10, 11), hears(155, Grant(3, 1, 4, 4, ARM, 100)))),
    ),
    "a grant that the journal does not know": (
        "the journal does not know of Grant(session=3",
        lambda: found(records=(*RECORDS[:5], SessionOpened(136, "c", "", 1000))),
    ),
    "a release that the journal does not know": (
        "the journal does not know of Done(session=2, n=3",
        lambda: found(records=recorded(4, Ended(132, 4, "evicted"))),
    ),
    "a released lease that is held again": (
        "lease 4 was released at 135 and renewed at 136",
        lambda: found((*EVENTS, asks(136, Renew(2, (Shown(4, 4),), 4)), hears(137, Alive(2, (), 4)))),
    ),
    "what was not answered, answered by another grant": (
        "the journal does not know of Grant(session=3, n=1, lease=8",
        lambda: found((*without(9, 10, 11), hears(155, Grant(3, 1, 8, 8, ARM, 100)))),
    ),
    "what was not answered, done, and refused when it is asked again": (
        "the journal knows that it was done",
        lambda: found((*without(9, 10, 11), hears(155, Refusal(3, 1, "conflict", "taken")))),
    ),
    "what was answered, answered differently": (
        "is answered by Refusal",
        lambda: found((*EVENTS, asks(20, Acquire(2, 1, CELL, 100)), hears(21, Refusal(2, 1, "conflict", "taken")))),
    ),
    "a change of mode, refused when it is asked again": (
        "is answered by Refusal",
        lambda: found(
            (*without(12), asks(166, SetMode(3, 2, 6, 6, "s")), hears(167, Refusal(3, 2, "expired", "late")))
        ),
    ),
    "what was asked once, done twice": (
        "request 1 of session 3 was done 2 times",
        lambda: found(records=(*RECORDS, Ended(170, 6, "released"), granted(171, 9, 3, 1, ARM))),
    ),
    "a lease that is lost before its time": (
        "is told at 30 that it is lost: expired",
        lambda: found((*EVENTS, hears(30, Lost(2, 4, "expired")))),
    ),
    "a lease that is not renewed in its time": (
        "is told at 62 that it is lost: not renewed",
        lambda: found((*without(3), hears(62, Alive(2, (4,), 2)))),
    ),
    "a journal that gives what another has": (
        "record 6 gives what lease 4 has",
        lambda: found(records=recorded(4, SessionOpened(132, "c", "", 1000))),
    ),
    "a journal that ends what is not there": (
        "record 5 ends lease 3, which is not there",
        lambda: found(records=recorded(4, Ended(132, 3, "released", 2, 3))),
    ),
    "a journal that lets a lease run out early": (
        "record 5 lets lease 4 run out at 110, before 111",
        lambda: found(records=recorded(4, Ended(110, 4, "expired", 2, 3))),
    ),
    "a journal that goes back in time": (
        "record 5 goes back in time",
        lambda: found(records=recorded(4, Ended(10, 4, "released", 2, 3))),
    ),
    "a grant whose number is another": (
        "record 6 grants lease 5 with token 5",
        lambda: found(records=recorded(5, granted(136, 5, 3, 1, ARM))),
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_is_found(planted: str) -> None:
    said, history = PLANTED[planted]
    assert [fault for fault in history() if said in fault], history()


def test_a_holder_that_counts_from_before_it_has_asked_stops_in_time() -> None:
    """Its time over, others may have it in the same instant; a moment before that is a fault."""
    late = (*without(2, 3, 5, 6, 8, 9, 10, 11), hears(200, Grant(3, 1, 6, 6, ARM, 100)))
    expired = recorded(4, Ended(132, 4, "expired"))
    assert found(late, expired) == []


def test_who_was_told_that_it_was_so_already_may_hear_later_that_it_is_so_no_more() -> None:
    again = (
        *without(12),
        asks(166, SetMode(3, 3, 6, 7, "s")),
        hears(167, Done(3, 3, 6, 7)),
        asks(300, SetMode(3, 3, 6, 7, "s")),
        hears(301, Refusal(3, 3, "expired", "late")),
    )
    assert found(again) == []


def test_what_is_written_comes_back_and_a_torn_line_is_none(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"".join(map(line_of, EVENTS[:8])))
    other.write_bytes(b"".join(map(line_of, EVENTS[8:])) + line_of(EVENTS[0])[:-1])
    assert tuple(events_in(one, other)) == EVENTS
