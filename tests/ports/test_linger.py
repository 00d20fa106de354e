"""A loop stays awake for an answer as long as answers come at once, and no longer."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from geartrain.ports.linger import LIMIT_NS, Linger
from geartrain.ports.parking import here, watch_fd
from geartrain.ports.sleepers import sleep_until_ns
from geartrain.ports.timer import FdTimer

MOMENT_NS = LIMIT_NS // 10


class Time:
    """Goes on by a moment whenever it is looked at."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000

    def __call__(self) -> int:
        self.now_ns += MOMENT_NS
        return self.now_ns


@contextmanager
def something_to_read(text: bytes = b"x") -> Iterator[int]:
    reads, writes = os.pipe()
    os.write(writes, text)
    try:
        yield reads
    finally:
        os.close(reads)
        os.close(writes)


def test_it_stays_awake_once_an_answer_came_soon() -> None:
    linger = Linger(Time())
    with something_to_read() as fd:
        linger.add(fd)
        assert linger.before_sleep() == []
        linger.woke()
        assert linger.pays
        assert linger.before_sleep() == [fd]


def test_one_late_answer_lets_it_sleep_again() -> None:
    linger = Linger(passing := Time())
    with something_to_read(b"") as fd:
        linger.add(fd)
        linger.before_sleep()
        linger.woke()
        began_ns = passing.now_ns
        assert linger.before_sleep() == []
        assert LIMIT_NS <= passing.now_ns - began_ns <= LIMIT_NS + 4 * MOMENT_NS
        assert not linger.pays
        began_ns = passing.now_ns
        assert linger.before_sleep() == []
        assert passing.now_ns == began_ns + MOMENT_NS


def test_what_comes_without_having_been_waited_for_says_nothing() -> None:
    linger = Linger(Time())
    linger.woke()
    assert not linger.pays
    linger.before_sleep()
    linger.woke()
    linger.woke()
    assert linger.pays


def test_a_run_that_must_wake_earlier_stays_awake_no_longer() -> None:
    linger = Linger(passing := Time())
    with something_to_read(b"") as fd:
        linger.add(fd)
        linger.before_sleep()
        linger.woke()
        began_ns = passing.now_ns
        assert linger.before_sleep(2 * MOMENT_NS) == []
        assert 2 * MOMENT_NS <= passing.now_ns - began_ns <= 4 * MOMENT_NS


def test_what_was_removed_is_not_looked_at() -> None:
    linger = Linger(Time())
    with something_to_read() as fd:
        linger.add(fd)
        linger.before_sleep()
        linger.woke()
        linger.remove(fd)
        assert linger.before_sleep() == []


async def test_a_timer_is_no_answer_that_another_may_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    woken = []
    monkeypatch.setattr(Linger, "woke", lambda linger: woken.append(linger))
    timer = FdTimer()
    timer.arm(1)
    with anyio.fail_after(5):
        await timer.wait()
        await sleep_until_ns(time.monotonic_ns() + 1_000_000)
    timer.close()
    assert woken == []


async def test_who_is_woken_at_the_edge_of_sleep_does_not_wait_for_the_next_event() -> None:
    reads, writes = os.pipe()
    watch = watch_fd(reads, lambda: False)
    try:
        began = time.monotonic()
        with anyio.move_on_after(5):
            here().put_off(watch.wake)
            await watch.wait()
        assert time.monotonic() - began < 2
    finally:
        watch.close()
        os.close(reads)
        os.close(writes)
