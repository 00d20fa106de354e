"""Waiting on whichever loop is running: the one door through which every wait of geartrain goes.

A loop has its ways, a module: `on_asyncio` or `on_trio`, imported by those who run on it only.
"""

import sys
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, Literal, Protocol
from weakref import WeakKeyDictionary

from geartrain.errors import NotInUse
from geartrain.ports.turns import Subject, Turns, Wait
from geartrain.rules.checks import one_of
from geartrain.rules.microsteps import Microsteps


class FdWatch(Protocol):
    """Waits for a descriptor, one task at a time. Made by `watch_fd`."""

    async def wait(self) -> None:
        """Return when there is something to read that was not dealt with, or when woken."""

    def wake(self) -> None: ...

    def close(self) -> None:
        """Before the descriptor is closed."""


class Alarm(Protocol):
    """Something that will be done later, unless it is called off."""

    def cancel(self) -> None: ...


class Ways(Protocol):
    """How one loop parks a task, lets others run, and shows that it is quiet."""

    def wait_on(self, loop: Any, turns: Turns | None, subject: Subject | None) -> Wait:
        """A place to wait in."""

    def running_test(self, loop: Any) -> Callable[[], bool]:
        """Tells whether this loop is still the one that runs in the thread it was found in."""

    def watch(self, loop: Any, fd: int, look: Callable[[], bool], is_answer: bool) -> "FdWatch":
        """Tell when something may be read from a descriptor."""

    async def attend(self, loop: Any, fd: int, look: Callable[[], None], over: Callable[[], None]) -> None:
        """From now on call `look` whenever something may be read from a descriptor, between two steps of tasks.

        When the loop ends, or nobody will look any more, `over` is called, once. It closes the descriptor.
        """

    def checkpoint(self) -> Awaitable[None]:
        """Let the loop go round once, and meet a cancellation."""

    def before_sleep(self, loop: Any, work: Callable[[], None]) -> None:
        """Do something once, before the loop sleeps."""

    def call_later(self, loop: Any, seconds: float, work: Callable[[], None]) -> Alarm:
        """Do something once in real time, between two steps of tasks."""

    def new_turns(self, loop: Any) -> Turns: ...

    def run_quietly(self, main: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Run a program on a loop that knows, without polling, when it is quiet."""


class Here:
    """A running loop: its ways, and its turns if its waits take turns."""

    __slots__ = ("_put_off", "is_running", "loop", "thread", "turns", "ways")

    def __init__(self, loop: object, ways: Ways, turns: Turns | None) -> None:
        self.loop = loop
        self.ways = ways
        self.turns = turns
        self.thread = get_ident()
        self.is_running = ways.running_test(loop)
        self._put_off: list[Callable[[], None]] = []

    def put_off(self, work: Callable[[], None]) -> None:
        """Do this soon: before a task parks here, or at the latest before the loop goes to sleep."""
        self._put_off.append(work)
        if len(self._put_off) == 1:
            self.ways.before_sleep(self.loop, self._catch_up)

    def _catch_up(self) -> None:
        while self._put_off:
            self._put_off.pop()()

    def park(self, subject: Subject | None = None) -> Wait:
        """A place to wait in."""
        if self._put_off:
            self._catch_up()
        return self.ways.wait_on(self.loop, self.turns, subject)


_turns_of: WeakKeyDictionary[object, Turns] = WeakKeyDictionary()

# The loop that was asked about last is nearly always the one that is asked about next, and to see that it still runs
# is much cheaper than to ask for the running one: asyncio makes a system call for that.
_last: Here | None = None


def here() -> Here:
    spot = _last
    if spot is not None and spot.thread == get_ident() and spot.is_running():
        return spot
    return _look_around()


def _look_around() -> Here:
    global _last
    if (loop := _asyncio_loop()) is not None:
        spot = Here(loop, _ways_of_asyncio(), _turns_of.get(loop))
    else:
        token = _trio_token()
        spot = Here(token, _ways_of_trio(), _turns_of.get(token))
    _last = spot
    return spot


def park(subject: Subject | None = None) -> Wait:
    """A place to wait in, on the running loop."""
    return here().park(subject)


def watch_fd(fd: int, look: Callable[[], bool], *, is_answer: bool = True) -> FdWatch:
    """Watch a descriptor on the running loop. `look` deals with what is there, and says whether there is more.

    Where something comes as an answer, a loop may stay awake for the next one; a timer answers nobody.
    """
    spot = here()
    return spot.ways.watch(spot.loop, fd, look, is_answer)


def here_in_turns(microsteps: Microsteps | None = None) -> tuple[Here, Turns]:
    """The running loop; from the first call on, its waits take turns, within these microsteps if there are any."""
    spot = here()
    if spot.turns is None:
        spot.turns = _turns_of[spot.loop] = spot.ways.new_turns(spot.loop)
    if microsteps is not None:
        spot.turns.adopt(microsteps)
    return spot, spot.turns


def call_later(seconds: float, work: Callable[[], None]) -> Alarm:
    """Do something once in real time, on the running loop, between two steps of tasks. It costs no task."""
    spot = here()
    return spot.ways.call_later(spot.loop, max(0.0, seconds), work)


async def checkpoint() -> None:
    """Let the loop go round once, and meet a cancellation."""
    await here().ways.checkpoint()


async def take_turn() -> None:
    """Let everybody go first who can go on now."""
    spot = here()
    if spot.turns is None:
        await spot.ways.checkpoint()
    else:
        await spot.park().rest()


def loop_is_running() -> bool:
    return _asyncio_loop() is not None or _in_trio()


def run_quietly(backend: Literal["asyncio", "trio"], main: Callable[..., Awaitable[Any]], *args: object) -> Any:
    """Run a program on a loop that knows, without polling, when it is quiet."""
    one_of("backend", backend, ("asyncio", "trio"))
    ways = _ways_of_asyncio() if backend == "asyncio" else _ways_of_trio()
    return ways.run_quietly(main, *args)


def _asyncio_loop() -> object:
    asyncio: Any = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def _in_trio() -> bool:
    trio: Any = sys.modules.get("trio")
    return trio is not None and trio.lowlevel.in_trio_run()


def _trio_token() -> object:
    """What stands for the trio run of this thread."""
    if not _in_trio():
        raise NotInUse("this needs a running event loop, and none runs here: call it from `async def` code")
    trio: Any = sys.modules["trio"]
    return trio.lowlevel.current_trio_token()


def _ways_of_asyncio() -> Ways:
    from geartrain.ports import on_asyncio

    return on_asyncio


def _ways_of_trio() -> Ways:
    from geartrain.ports import on_trio

    return on_trio
