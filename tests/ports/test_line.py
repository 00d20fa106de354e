"""A line: messages arrive whole and in order, and its end is seen."""

import socket
import threading

import pytest

from geartrain.ports.line import Line, pair


@pytest.fixture
def lines() -> "tuple[Line, Line]":
    ours, theirs = pair()
    return ours, Line(theirs)


def test_messages_arrive_whole_and_in_order(lines: tuple[Line, Line]) -> None:
    here, there = lines
    for message in (b"", b"one", b"two" * 1000):
        assert here.send(message)
    assert [there.receive() for _ in range(3)] == [b"", b"one", b"two" * 1000]
    here.close()
    there.close()


def test_a_message_larger_than_the_socket_arrives_while_it_is_read(lines: tuple[Line, Line]) -> None:
    here, there = lines
    large = bytes(5_000_000)
    sender = threading.Thread(target=here.send, args=(large,))
    sender.start()
    assert there.receive() == large
    sender.join()
    here.close()
    there.close()


def test_when_the_other_end_is_gone_there_is_nothing_to_hear_and_nobody_to_tell(lines: tuple[Line, Line]) -> None:
    here, there = lines
    here.close()
    assert there.receive() is None
    assert not there.send(b"x")
    there.close()


def test_a_message_that_breaks_off_is_none() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"\0\0\0\5abc")
    theirs.close()
    line = Line(ours)
    assert line.receive() is None
    line.close()
