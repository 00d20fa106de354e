"""Records of leases: as bytes, what they come to, and that a revision never goes back."""

from typing import get_args

import msgspec
import pytest

from geartrain.errors import BadValue
from geartrain.rules.lease_ledger import (
    Adopted,
    Began,
    Budget,
    Ended,
    Granted,
    Lease,
    Ledger,
    Moded,
    Offered,
    Record,
    Renewed,
    SessionEnded,
    SessionOpened,
    compact,
    decode,
    decode_snapshot,
    encode,
    encode_snapshot,
    fold,
)
from geartrain.rules.lease_words import Claim, Done, Grant

HISTORY: tuple[Record, ...] = (
    Began(5, "boot", 1_700_000_000_000_000_000),
    SessionOpened(6, "secret", "left arm", 1000),
    SessionOpened(6, "other secret", "right arm", 1000),
    Granted(7, 1, Lease(4, 4, 2, (Claim("a", "s"), Claim("lock://b", "s")), 7, 107, 100, "ttl", "lift", "me", 3)),
    Renewed(8, 4, 300),
    Moded(9, 2, 2, 4, "x"),
    Offered(10, 2, 3, 4, 3),
    Adopted(11, 3, 1, 4, 0, 400),
    SessionEnded(12, 2),
    Granted(13, 2, Lease(10, 10, 3, (Claim("c"),), 13, 113, 100, delay_ns=50)),
    Ended(14, 10, "evicted", 3, 3, 64),
    Ended(64, 10, "delay over"),
)


@pytest.mark.parametrize("record", HISTORY, ids=lambda record: type(record).__name__)
def test_a_record_comes_out_of_its_bytes_as_it_was(record: Record) -> None:
    assert decode(encode(record)) == record


def test_every_kind_of_record_is_in_the_history_of_these_tests() -> None:
    assert {type(record) for record in HISTORY} == set(get_args(Record))


@pytest.mark.parametrize("payload", [b"", b"\x93", msgspec.msgpack.encode(["later", 1]), b"\x91" * 5000])
def test_what_is_no_record_is_refused_in_words(payload: bytes) -> None:
    with pytest.raises(BadValue, match="a record of leases cannot be read"):
        decode(payload)
    with pytest.raises(BadValue, match="a snapshot of leases cannot be read"):
        decode_snapshot(payload)


def test_what_a_history_comes_to() -> None:
    ledger = fold(HISTORY)
    lease = ledger.leases[4]
    assert list(ledger.leases) == [4]
    assert (lease.token, lease.session, lease.until_ns, lease.offered_to) == (8, 3, 400, 0)
    assert lease.claims == (Claim("a", "x"), Claim("lock://b", "x"))
    assert list(ledger.sessions) == [3]
    assert ledger.sessions[3].answers == {
        1: Grant(3, 1, 4, 8, (Claim("a"), Claim("lock://b")), 100),
        2: Grant(3, 2, 10, 10, (Claim("c"),), 100),
        3: Done(3, 3, 10),
    }
    assert (ledger.revision, ledger.epoch, ledger.last_ns) == (12, 1, 64)


@pytest.mark.parametrize("cut", range(len(HISTORY) + 1))
def test_a_snapshot_at_any_place_replaces_what_was_before_it(cut: int) -> None:
    whole = fold(HISTORY)
    snapshot = decode_snapshot(encode_snapshot(compact(HISTORY[:cut])))
    assert snapshot.revision == cut
    rest = fold(HISTORY[cut:], snapshot)
    assert rest.snapshot() == whole.snapshot()
    assert {number: list(one.leases) for number, one in rest.sessions.items()} == {3: [4]}
    assert rest.session_of == whole.session_of


def test_a_snapshot_of_a_snapshot_is_the_same() -> None:
    once = compact(HISTORY)
    assert compact((), once) == once


def test_a_revision_counts_all_that_ever_was_when_nothing_of_it_is_left() -> None:
    ledger = fold((*HISTORY, Ended(65, 4, "released", 3, 4), SessionEnded(66, 3)))
    empty = Ledger.of(ledger.snapshot())
    assert (empty.leases, empty.sessions, empty.revision) == ({}, {}, 14)


@pytest.mark.parametrize(
    "record",
    [
        Granted(70, 5, Lease(5, 5, 3, (Claim("d"),), 70, 170, 100)),
        Granted(70, 5, Lease(13, 13, 2, (Claim("d"),), 70, 170, 100)),
        Ended(70, 10, "released"),
        Renewed(70, 10, 80),
        SessionEnded(70, 2),
    ],
)
def test_a_record_that_does_not_follow_from_those_before_it_is_refused_and_numbered(record: Record) -> None:
    with pytest.raises(BadValue, match="record 13 of leases does not follow"):
        fold((*HISTORY, record))


def test_what_was_written_before_terms_were_is_read_as_written_on_none() -> None:
    began = msgspec.msgpack.decode(encode(HISTORY[0]))
    assert decode(msgspec.msgpack.encode(began[:4])) == HISTORY[0]
    snapshot = msgspec.msgpack.decode(encode_snapshot(compact(HISTORY)))
    assert decode_snapshot(msgspec.msgpack.encode(snapshot[:8])) == compact(HISTORY)


def test_the_terms_of_the_last_life_are_in_the_ledger_and_in_each_snapshot() -> None:
    lives: tuple[Record, ...] = (
        Began(5, "boot", 1, 0, "keep", (Budget("lift", 2),)),
        Began(6, "boot", 1),
        Began(7, "boot", 1, 0, "keep", (Budget("lift", 3),)),
    )
    seen = [(fold(lives[:n]).case, fold(lives[:n]).budgets) for n in range(4)]
    # A life that says nothing of a case compares as the one before it; budgets are those of each life.
    assert seen == [("", ()), ("keep", (Budget("lift", 2),)), ("keep", ()), ("keep", (Budget("lift", 3),))]
    assert fold((), compact(lives)).snapshot() == fold(lives).snapshot() == decode_snapshot(
        encode_snapshot(compact(lives))
    )  # fmt: skip
