"""Something that rings at a moment, and can be set anew from any thread while somebody waits for it.

    FdTimer      real time on Linux, by a timerfd of its own
    ClockTimer   any other clock, virtual time among them, and systems without timerfd

`wait` may also return too soon, so whoever waits looks at the clock.
"""

import math
from contextlib import suppress
from threading import get_ident
from time import monotonic_ns
from typing import Any, Protocol

import anyio

from geartrain.ports.clock import Clock, WallClock
from geartrain.ports.parking import here, watch_fd
from geartrain.ports.timerfd import TimerFd, has_timerfd, stay_awake_until
from geartrain.rules.lead import Lead


class Timer(Protocol):
    """Belongs to the loop on which it was opened."""

    def arm(self, due_ns: int | None) -> None:
        """Ring then, and not at a moment said before; None is never. From any thread, one at a time."""

    async def wait(self) -> None:
        """Return when it has rung."""

    def close(self) -> None: ...


def open_timer(clock: Clock) -> Timer:
    """A timer of this clock, on the running loop."""
    if type(clock) is WallClock and has_timerfd():
        # Where no descriptor is to be had, there are the loop's own timers.
        with suppress(OSError):
            return FdTimer()
    return ClockTimer(clock)


class FdTimer:
    """A timer of real time, on a descriptor."""

    def __init__(self) -> None:
        self._timer = TimerFd()
        self._due_ns: int | None = None
        self._lead = Lead()
        self._in_time = False
        self._rang = False
        self._watch = watch_fd(self._timer.fd, self._look, is_answer=False)

    def arm(self, due_ns: int | None) -> None:
        self._due_ns = due_ns
        if due_ns is None:
            self._timer.ring_at(None)
            return
        ring_ns = due_ns - self._lead.ns
        self._in_time = monotonic_ns() < ring_ns
        self._timer.ring_at(ring_ns)

    async def wait(self) -> None:
        self._rang = False
        await self._watch.wait()
        # trio's watch does not look.
        if not self._rang:
            self._look()
        if self._due_ns is not None:
            if self._in_time:
                self._lead.learn(monotonic_ns() - self._due_ns)
            stay_awake_until(self._due_ns)

    def close(self) -> None:
        self._watch.close()
        self._timer.close()

    def _look(self) -> bool:
        self._rang = self._timer.hush()
        return self._rang


class ClockTimer:
    """A timer of any clock: a sleep that is given up when the timer is set anew."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_ns: int | None = None
        self._sleep: anyio.CancelScope | None = None
        self._loop: Any = here().loop
        self._thread = get_ident()

    def arm(self, due_ns: int | None) -> None:
        self._due_ns = due_ns
        if get_ident() == self._thread:
            self._stir()
        else:
            # asyncio's name for it, or trio's.
            soon = getattr(self._loop, "call_soon_threadsafe", None) or self._loop.run_sync_soon
            soon(self._stir)

    def _stir(self) -> None:
        if self._sleep is not None:
            self._sleep.cancel()

    async def wait(self) -> None:
        try:
            with anyio.CancelScope() as self._sleep:
                if self._due_ns is None:
                    await self._clock.sleep(math.inf)
                else:
                    await self._clock.wait_until_ns(self._due_ns)
        finally:
            self._sleep = None

    def close(self) -> None:
        """A sleep ends with its task."""
