"""Which replies find somebody who waits, and up to where everything is answered."""

from itertools import permutations

import msgspec
import pytest

from geartrain.rules.calls import Answered, Book, Reply, Request, RequestHead, halves
from geartrain.rules.pipeline import ChannelSpec, Mark, PortRef


def begun(count: int, *, most: int = 10) -> Book:
    """A book of so many calls, which have the numbers 1, 2, 3 ..."""
    book = Book(7, most)
    for expected in range(1, count + 1):
        assert book.next_request("x") == Request(7, expected, "x")
        book.begin()
    return book


def outcome(book: Book) -> tuple[int, int, int, int, int]:
    stats = book.stats()
    return (stats.calls, stats.answered, stats.failed, stats.withdrawn, stats.late)


def test_a_reply_finds_the_call_of_its_number_once() -> None:
    book = begun(2)
    assert book.expects(7, 2, failed=False)
    assert not book.expects(7, 2, failed=False)
    assert book.expects(7, 1, failed=True)
    assert outcome(book) == (2, 1, 1, 0, 1)


def test_a_request_that_was_not_sent_has_no_number() -> None:
    book = begun(1)
    assert book.next_request("lost").number == book.next_request("sent").number == 2
    assert not book.expects(7, 2, failed=False)


def test_the_reply_to_a_call_that_was_withdrawn_is_late() -> None:
    book = begun(1)
    book.withdraw(1)
    assert not book.expects(7, 1, failed=False)
    assert outcome(book) == (1, 0, 0, 1, 1)


def test_a_call_that_is_answered_cannot_be_withdrawn() -> None:
    book = begun(1)
    book.expects(7, 1, failed=False)
    book.withdraw(1)
    assert outcome(book) == (1, 1, 0, 0, 0)


def test_there_is_room_for_as_many_calls_as_are_allowed_and_a_withdrawn_one_keeps_its_place_until_its_reply() -> None:
    book = begun(2, most=2)
    book.withdraw(1)
    assert not book.has_room
    book.expects(7, 1, failed=False)
    assert book.has_room


def test_replies_to_a_former_life_find_nobody_even_if_their_number_is_in_use_again() -> None:
    book = begun(2, most=2)
    book.begin_life()
    assert book.has_room
    request = book.next_request("again")
    book.begin()
    assert not book.expects(7, 1, failed=False)
    assert not book.expects(7, request.number, failed=False)
    assert book.expects(request.life, request.number, failed=False)
    assert outcome(book) == (3, 1, 0, 2, 2)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_requests_are_done_with_in_their_order_however_they_are_answered(order: tuple[int, ...]) -> None:
    marks = [Mark(1, number) for number in range(4)]
    answered = Answered()
    for mark in marks:
        answered.took(mark)
    given: set[int] = set()
    done = -1
    for number in order:
        given.add(number)
        upto = answered.answered(marks[number])
        done = done if upto is None else upto.sequence
        assert done == next(first for first in range(5) if first not in given) - 1


def test_who_begins_anew_does_not_wait_for_what_was_taken_before() -> None:
    answered = Answered()
    answered.took(Mark(1, 1))
    answered.forget()
    answered.took(Mark(1, 2))
    assert answered.answered(Mark(1, 2)) == Mark(1, 2)


def test_of_any_encoded_request_life_and_number_can_be_read() -> None:
    encoded = msgspec.msgpack.encode(Request(2**62 - 1, 5, {"any": ["thing"]}))
    assert msgspec.msgpack.decode(encoded, type=RequestHead) == RequestHead(2**62 - 1, 5)


@pytest.mark.parametrize("item", [None, 0, "", [1]])
def test_a_reply_keeps_its_item_also_when_that_is_nothing(item: object) -> None:
    reply = msgspec.msgpack.decode(msgspec.msgpack.encode(Reply(1, 2, item)), type=Reply[object])
    assert (reply.item, reply.failure) == (item, None)


def test_what_is_said_of_an_entry_is_said_of_both_its_channels() -> None:
    entry = ChannelSpec(name="geo", writer=PortRef("a", "ask"), reader=PortRef("b", "calls"), maxsize=3, max_bytes=99,
                        transport="tcp", on_peer_restart="restart", max_deliveries=5)  # fmt: skip
    requests, replies = halves(entry)
    assert requests == msgspec.structs.replace(entry, ack="manual")
    assert (replies.maxsize, replies.max_bytes, replies.transport, replies.on_peer_restart) == (3, 99, "tcp", "restart")
    assert (replies.writer, replies.reader, replies.keep) == (entry.reader, entry.writer, "taken")
    assert replies.max_deliveries is None
