"""Sleeping in real time to the nanosecond: everybody of a loop who sleeps shares one timerfd.

    await sleep_until_ns(due)  -->  heap of deadlines  -->  timerfd, set to the first  -->  wakes all who are due

A loop's own timers go through epoll, which counts whole milliseconds. The descriptor is opened by the first sleeper of
a loop, and closed when the loop is.
"""

from contextlib import suppress
from time import monotonic_ns
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel

from geartrain.ports.parking import Here, here
from geartrain.ports.timerfd import TimerFd, has_timerfd
from geartrain.rules.deadlines import Deadline, Deadlines

_NEVER_NS = 1 << 200


async def sleep_until_ns(due_ns: int) -> None:
    """Return at that moment or a little later; at one that has passed, after others had their turn."""
    if due_ns <= monotonic_ns():
        await anyio.lowlevel.checkpoint()
        return
    spot = here()
    sleepers = _sleepers_of.get(spot.loop) or await _opened(spot)
    if sleepers.is_open:
        await sleepers.sleep(spot, due_ns)
    # Where there is no timerfd, and when it was closed meanwhile. A loop may round down; a clock is never early.
    while (left_ns := due_ns - monotonic_ns()) > 0:
        await anyio.sleep(left_ns / 1e9)


class Sleepers:
    """Those of one loop. It keeps no reference to the loop, whose entry in a weak table it lives in."""

    def __init__(self) -> None:
        self.is_open = False
        self._deadlines = Deadlines()
        self._armed_ns = _NEVER_NS

    async def open(self, spot: Here) -> None:
        self._timer = TimerFd()
        await spot.ways.attend(spot.loop, self._timer.fd, self._ring, self._close)
        self.is_open = True

    def _close(self) -> None:
        self.is_open = False
        self._timer.close()
        for wake in self._deadlines.drop():
            wake()

    async def sleep(self, spot: Here, due_ns: int) -> None:
        # In real time, also where others take turns.
        wait = spot.ways.wait_on(spot.loop, None, None)
        deadline = Deadline(self._deadlines, due_ns, wait.wake)
        self._deadlines.insert(deadline)
        if due_ns < self._armed_ns:
            self._armed_ns = due_ns
            self._timer.ring_at(due_ns)
        try:
            await wait.wait()
        finally:
            deadline.cancel()

    def _ring(self) -> None:
        self._timer.hush()
        while (firing := self._deadlines.take(monotonic_ns())) is not None:
            firing.callback()
        next_ns = self._deadlines.next_ns()
        self._armed_ns = _NEVER_NS if next_ns is None else next_ns
        if next_ns is not None:
            self._timer.ring_at(next_ns)


_sleepers_of: WeakKeyDictionary[object, Sleepers] = WeakKeyDictionary()


async def _opened(spot: Here) -> Sleepers:
    sleepers = _sleepers_of[spot.loop] = Sleepers()
    if has_timerfd():
        # Where no descriptor is to be had, people sleep all the same.
        with suppress(OSError):
            await sleepers.open(spot)
    return sleepers
