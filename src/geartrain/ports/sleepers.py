"""Sleeping in real time to the nanosecond: everybody of a loop who sleeps shares one timerfd.

    await sleep_until_ns(due)  -->  a timeline  -->  timerfd, set to the first  -->  wakes all who are due

A loop's own timers go through epoll, which counts whole milliseconds. The descriptor is opened by the first sleeper of
a loop, and closed when the loop is.
"""

import itertools
from contextlib import suppress
from time import monotonic_ns
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel

from geartrain.ports.parking import Here, here
from geartrain.ports.timerfd import TimerFd, has_timerfd, stay_awake_until
from geartrain.rules.lead import Lead
from geartrain.rules.timestep import Timeline

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
        self._timeline = Timeline(0)
        self._numbers = itertools.count()
        self._armed_ns = _NEVER_NS
        self._lead = Lead()

    async def open(self, spot: Here) -> None:
        self._timer = TimerFd()
        await spot.ways.attend(spot.loop, self._timer.fd, self._ring, self._close)
        self.is_open = True

    def _close(self) -> None:
        self.is_open = False
        self._timer.close()
        while (sleeper := self._timeline.advance(None)) is not None:
            sleeper.release()

    async def sleep(self, spot: Here, due_ns: int) -> None:
        # In real time, also where others take turns.
        wait = spot.ways.wait_on(spot.loop, None, None)
        timer = self._timeline.add(due_ns, next(self._numbers), wait)
        lead_ns = self._lead.ns
        in_time = monotonic_ns() < due_ns - lead_ns
        if due_ns < self._armed_ns:
            self._armed_ns = due_ns
            self._timer.ring_at(due_ns - lead_ns)
        try:
            await wait.wait()
        finally:
            self._timeline.cancel(timer)
        if in_time:
            self._lead.learn(monotonic_ns() - due_ns)
        stay_awake_until(due_ns)

    def _ring(self) -> None:
        until_ns = monotonic_ns() + self._lead.ns
        while (sleeper := self._timeline.advance(until_ns)) is not None:
            sleeper.release()
        self._timer.hush()
        next_ns = self._timeline.next_ns()
        self._armed_ns = _NEVER_NS if next_ns is None else next_ns
        if next_ns is not None:
            self._timer.ring_at(next_ns - self._lead.ns)


_sleepers_of: WeakKeyDictionary[object, Sleepers] = WeakKeyDictionary()


async def _opened(spot: Here) -> Sleepers:
    sleepers = _sleepers_of[spot.loop] = Sleepers()
    if has_timerfd():
        # Where no descriptor is to be had, people sleep all the same.
        with suppress(OSError):
            await sleepers.open(spot)
    return sleepers
