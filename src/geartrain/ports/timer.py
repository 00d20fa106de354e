"""Something that rings at a moment, and can be set anew from any thread while somebody waits for it.

    FdTimer      real time on Linux: a descriptor that can be read from that nanosecond on (timerfd). A loop's own
                 timers are rounded to whole milliseconds by epoll; this is not, and to set it anew wakes nobody
    ClockTimer   any other clock, virtual time among them, and systems without timerfd

`wait` may also return too soon, so whoever waits looks at the clock.
"""

import ctypes
import math
import os
import sys
from threading import get_ident
from typing import Any, Protocol

import anyio

from geartrain.ports.clock import Clock, WallClock
from geartrain.ports.parking import here, watch_fd

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
# Later than this the kernel's own arithmetic ends; whoever waits so long looks again after a century.
_MOST_NS = 1 << 62


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
        return FdTimer()
    return ClockTimer(clock)


def has_timerfd() -> bool:
    return sys.platform == "linux"


class FdTimer:
    """A timer of real time, on a descriptor."""

    def __init__(self) -> None:
        self._fd, self._set = _timerfd()
        self._rang = False
        self._watch = watch_fd(self._fd, self._look)

    def arm(self, due_ns: int | None) -> None:
        # 0 would disarm it; a moment in the past rings at once.
        self._set(0 if due_ns is None else min(max(due_ns, 1), _MOST_NS))

    async def wait(self) -> None:
        self._rang = False
        await self._watch.wait()
        # trio's watch does not look.
        if not self._rang:
            self._look()

    def close(self) -> None:
        self._watch.close()
        os.close(self._fd)

    def _look(self) -> bool:
        self._rang = True
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            # It has been set anew since.
            return False
        return True


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


def _timerfd() -> "tuple[int, Any]":
    """A new descriptor, and the function that sets it."""
    if sys.version_info >= (3, 13):
        fd = os.timerfd_create(_CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        return fd, lambda due_ns: os.timerfd_settime_ns(fd, flags=os.TFD_TIMER_ABSTIME, initial=due_ns)
    # Calls that never block keep the interpreter's lock.
    library = ctypes.PyDLL(None, use_errno=True)
    fd = library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create failed")
    moment = (ctypes.c_long * 4)()
    settime, address = library.timerfd_settime, ctypes.c_void_p(ctypes.addressof(moment))

    def set_it(due_ns: int) -> None:
        moment[2], moment[3] = divmod(due_ns, 1_000_000_000)
        if settime(fd, _TFD_TIMER_ABSTIME, address, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    return fd, set_it
