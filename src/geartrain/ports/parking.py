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


class Ways(Protocol):
    """How one loop parks a task, lets others run, and shows that it is quiet."""

    def wait_on(self, loop: Any, turns: Turns | None, subject: Subject | None) -> Wait:
        """A place to wait in."""

    def running_test(self, loop: Any) -> Callable[[], bool]:
        """Tells whether this loop is still the one that runs in the thread it was found in."""

    def checkpoint(self) -> Awaitable[None]:
        """Let the loop go round once, and meet a cancellation."""

    def new_turns(self, loop: Any) -> Turns: ...

    def run_quietly(self, main: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Run a program on a loop that knows, without polling, when it is quiet."""


class Here:
    """A running loop: its ways, and its turns if its waits take turns."""

    __slots__ = ("is_running", "loop", "thread", "turns", "ways")

    def __init__(self, loop: object, ways: Ways, turns: Turns | None) -> None:
        self.loop = loop
        self.ways = ways
        self.turns = turns
        self.thread = get_ident()
        self.is_running = ways.running_test(loop)

    def park(self, subject: Subject | None = None) -> Wait:
        """A place to wait in."""
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


def here_in_turns() -> tuple[Here, Turns]:
    """The running loop; from the first call on, its waits take turns."""
    spot = here()
    if spot.turns is None:
        spot.turns = _turns_of[spot.loop] = spot.ways.new_turns(spot.loop)
    return spot, spot.turns


async def take_turn() -> None:
    """Let everybody go first who can go on now."""
    spot = here()
    if spot.turns is None:
        await spot.ways.checkpoint()
    else:
        wait = spot.park()
        wait.wake()
        await wait.wait()


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
