"""A descriptor that can be read from a moment on."""

import os
import select
from collections.abc import Iterator
from time import monotonic_ns

import pytest

from geartrain.ports.timerfd import TimerFd, has_timerfd

MS = 1_000_000


@pytest.fixture
def timer() -> Iterator[TimerFd]:
    assert has_timerfd()
    made = TimerFd()
    yield made
    made.close()


def rings_within(timer: TimerFd, seconds: float) -> bool:
    return bool(select.select([timer.fd], [], [], seconds)[0])


def test_it_rings_at_its_moment_and_not_before(timer: TimerFd) -> None:
    due_ns = monotonic_ns() + 2 * MS
    timer.ring_at(due_ns)
    assert rings_within(timer, 5)
    assert monotonic_ns() >= due_ns
    assert timer.hush()
    assert not rings_within(timer, 0)
    assert not timer.hush()


@pytest.mark.parametrize("due_ns", [1, 0, -5])
def test_a_moment_in_the_past_is_now(timer: TimerFd, due_ns: int) -> None:
    timer.ring_at(due_ns)
    assert rings_within(timer, 5)


@pytest.mark.parametrize("due_ns", [None, 1 << 62, 1 << 200])
def test_what_was_said_before_does_not_count(timer: TimerFd, due_ns: int | None) -> None:
    timer.ring_at(1)
    timer.ring_at(due_ns)
    assert not rings_within(timer, 0.002)


def test_it_is_closed_and_not_inherited() -> None:
    timer = TimerFd()
    assert not os.get_inheritable(timer.fd)
    timer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(timer.fd)
