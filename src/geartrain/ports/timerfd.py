"""A descriptor that can be read from a given nanosecond on: Linux's timerfd, on the clock that all its processes share.

A loop's own timers go through epoll, which counts whole milliseconds; a descriptor it wakes up for at once. To set one
is a system call and wakes nobody, so any thread may.
"""

import os
import sys
import weakref
from collections.abc import Callable
from time import monotonic_ns

from geartrain.rules.lead import MOST_NS

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1
# Later than this the kernel's own arithmetic ends; it rings then, too soon, in a century or more.
_LATEST_NS = 1 << 62


def has_timerfd() -> bool:
    return sys.platform == "linux"


def stay_awake_until(due_ns: int) -> None:
    """Wait for what is left of a lead. Nobody else on the loop goes on meanwhile, and it is not worth their while."""
    if monotonic_ns() - due_ns >= -MOST_NS:
        while monotonic_ns() < due_ns:
            pass


class TimerFd:
    """One of them. Its owner closes it by `close()`."""

    def __init__(self) -> None:
        self.fd, self._set = _made()
        # Also when it is forgotten, with a loop that was never told to end.
        self.close = weakref.finalize(self, os.close, self.fd)

    def ring_at(self, due_ns: int | None) -> None:
        """Ring then, and not at a moment said before; None is never. A moment in the past rings at once."""
        # To set it to 0 would be to stop it.
        self._set(0 if due_ns is None else min(max(due_ns, 1), _LATEST_NS))

    def hush(self) -> bool:
        """It has rung, and is heard; False when it was set anew meanwhile."""
        try:
            os.read(self.fd, 8)
        except BlockingIOError:
            return False
        return True


def _made() -> tuple[int, Callable[[int], None]]:
    """A new descriptor, and the function that sets it."""
    if sys.version_info >= (3, 13):
        fd = os.timerfd_create(_CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        return fd, lambda due_ns: os.timerfd_settime_ns(fd, flags=os.TFD_TIMER_ABSTIME, initial=due_ns)
    return _made_by_hand()


def _made_by_hand() -> tuple[int, Callable[[int], None]]:
    # Imported here, for it costs as much as all the rest of a process that never asks.
    import ctypes

    # Calls that never block keep the interpreter's lock.
    library = ctypes.PyDLL(None, use_errno=True)
    fd = library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create failed")
    # Of an interval, which is 0 for ever, and of the first moment, the seconds and the nanoseconds.
    moment = (ctypes.c_long * 4)()
    settime, address = library.timerfd_settime, ctypes.c_void_p(ctypes.addressof(moment))

    def set_it(due_ns: int) -> None:
        moment[2], moment[3] = divmod(due_ns, 1_000_000_000)
        if settime(fd, _TFD_TIMER_ABSTIME, address, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime failed")

    return fd, set_it
