"""asyncio: how a task parks there, and how the loop shows that it is quiet.

A loop of our own (`QuietLoop`, used by `simulate`) is quiet when it calls its selector with a timeout other than
0: nothing is ready, and it would sleep. On somebody else's loop a callback looks whether it is alone in the queue.
"""

import asyncio
import math
import selectors
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any
from weakref import WeakKeyDictionary

import anyio

from geartrain.ports.linger import Linger
from geartrain.ports.loop_time import LoopTime, loop_time_of
from geartrain.ports.turns import Subject, Turns, Wait
from geartrain.rules.timestep import Number

# How often a loop that is not ours is asked whether the last worker thread is home: nothing announces it.
_THREADS_POLL_S = 0.001


class AsyncioWait(Wait):
    """A wait on an asyncio future."""

    __slots__ = ("_future",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turns: Turns | None,
        subject: Subject | None,
        number: Number | None = None,
    ) -> None:
        super().__init__(turns, subject, number)
        self._future: asyncio.Future[None] = loop.create_future()

    def release(self) -> bool:
        if self._future.done():
            return False
        self._future.set_result(None)
        return True

    async def _park(self) -> None:
        await self._future

    def _another(self) -> "AsyncioWait":
        return AsyncioWait(self._future.get_loop(), self._turns, self.subject, self.number)


wait_on = AsyncioWait


def running_test(loop: asyncio.AbstractEventLoop) -> Callable[[], bool]:
    return loop.is_running


class AsyncioFdWatch:
    """A descriptor the loop watches all the time: to begin and to end it for every wait costs two system calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, look: Callable[[], bool], is_answer: bool) -> None:
        self._loop = loop
        self._fd = fd
        self._look = look
        self._wait: AsyncioWait | None = None
        self._failure: BaseException | None = None
        self._edge = _edge_of(loop)
        self._edge.add(fd, self._dealt_with)
        loop.add_reader(fd, self._readable if is_answer else self._dealt_with)

    def _readable(self) -> None:
        self._edge.woke()
        self._dealt_with()

    def _dealt_with(self) -> None:
        # At once, without waking a task: the loop would call again and again until somebody looks.
        try:
            if self._look():
                self.wake()
        except BaseException as failure:
            self._failure = failure
            self._loop.remove_reader(self._fd)
            self.wake()

    def wake(self) -> None:
        if self._wait is not None:
            self._wait.wake()

    async def wait(self) -> None:
        self._wait = AsyncioWait(self._loop, None, None)
        try:
            if self._failure is None:
                await self._wait.wait()
        finally:
            self._wait = None
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        self._edge.remove(self._fd)


watch = AsyncioFdWatch


# A loop that ends closes all generators that were begun on it; it has no other way to tell.
_attended: WeakKeyDictionary[asyncio.AbstractEventLoop, list[AsyncGenerator[None]]] = WeakKeyDictionary()


async def attend(loop: asyncio.AbstractEventLoop, fd: int, look: Callable[[], None], over: Callable[[], None]) -> None:
    life = _attend(fd, look, over)
    _attended.setdefault(loop, []).append(life)
    await anext(life)


async def _attend(fd: int, look: Callable[[], None], over: Callable[[], None]) -> AsyncGenerator[None]:
    loop = asyncio.get_running_loop()
    edge = _edge_of(loop)
    edge.add(fd, look)
    loop.add_reader(fd, look)
    del loop
    try:
        yield
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        edge.remove(fd)
        over()


class _Edge:
    """Where a loop is about to sleep: what was put off is done, and the descriptors are looked at once more.

    It keeps no reference to the loop, whose entry in a weak table it lives in.
    """

    def __init__(self) -> None:
        self._linger = Linger()
        self._watched: dict[int, Callable[[], None]] = {}
        self.woke = self._linger.woke

    def add(self, fd: int, readable: Callable[[], None]) -> None:
        self._watched[fd] = readable
        self._linger.add(fd)

    def remove(self, fd: int) -> None:
        del self._watched[fd]
        self._linger.remove(fd)

    def reach(self, loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
        work()
        if not getattr(loop, "_ready", True):
            for fd in self._linger.before_sleep():
                # One of them may have ended another.
                if fd in self._watched:
                    self._watched[fd]()


_edges: WeakKeyDictionary[asyncio.AbstractEventLoop, _Edge] = WeakKeyDictionary()


def _edge_of(loop: asyncio.AbstractEventLoop) -> _Edge:
    edge = _edges.get(loop)
    if edge is None:
        edge = _edges[loop] = _Edge()
    return edge


def before_sleep(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    loop.call_soon(_edge_of(loop).reach, loop, work)


def call_later(loop: asyncio.AbstractEventLoop, seconds: float, work: Callable[[], None]) -> asyncio.TimerHandle:
    return loop.call_later(seconds, work)


class _Round:
    """Awaited, lets the loop go round once: what `asyncio.sleep(0)` comes down to, without making anything new."""

    def __await__(self) -> Generator[None, None, None]:
        return iter(_ONE_YIELD)  # type: ignore[return-value]


_ONE_YIELD = (None,)
_ROUND = _Round()


def checkpoint() -> Awaitable[None]:
    return _ROUND


# After so many turns the loop looks at its own descriptor, by which signals come: a program that is never out of turns
# could not be stopped else. To look each time would cost a system call for each turn.
_TURNS_UNHEARD = 16


class _QuietSelector(selectors.DefaultSelector):
    """A selector that lets the next waiter go on where the loop would sleep."""

    turns: Turns | None = None
    loop_time: LoopTime | None = None
    _unheard = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.turns is None:
            return super().select(timeout)
        if timeout == 0:
            self.turns.another_round()
            return super().select(timeout)
        # One descriptor is the loop's own. Of the others the real events go first.
        self._unheard += 1
        if len(self.get_map()) > 1 or self._unheard >= _TURNS_UNHEARD:
            self._unheard = 0
            if events := super().select(0):
                return events
        time = self.loop_time
        if time is None:
            return [] if self.turns.step() else super().select(timeout)
        due_s = math.inf if timeout is None else time.now() + timeout
        if time.step(self.turns, due_s):
            return []
        sleep_s = time.sleep_s(due_s)
        return super().select(None if sleep_s == math.inf else sleep_s)


class QuietLoop(asyncio.SelectorEventLoop):
    """An event loop that knows when it is quiet. Under a clock with microsteps its own timers obey that."""

    def __init__(self) -> None:
        self._quiet_selector = _QuietSelector()
        super().__init__(self._quiet_selector)

    def adopt(self, turns: Turns) -> None:
        self._quiet_selector.turns = turns

    def time(self) -> float:
        selector = self._quiet_selector
        if selector.loop_time is None:
            selector.loop_time = loop_time_of(selector.turns)
        return super().time() if selector.loop_time is None else selector.loop_time.now()


def run_quietly(main: Callable[..., Awaitable[Any]], *args: object) -> Any:
    return anyio.run(main, *args, backend="asyncio", backend_options={"loop_factory": QuietLoop})


def new_turns(loop: asyncio.AbstractEventLoop) -> Turns:
    if isinstance(loop, QuietLoop):
        turns = Turns(_needs_no_arming)
        loop.adopt(turns)
        return turns
    return Turns(_Poller(_quiet_test(loop)).arm)


def _needs_no_arming(turns: Turns) -> None:
    """A loop that asks by itself whenever it is quiet has nothing to be told."""


class _Poller:
    """Works off the agenda on somebody else's loop: a callback that comes back until the loop is quiet.

    It keeps no reference to the loop, whose entry in a weak table it lives in.
    """

    def __init__(self, is_quiet: Callable[[asyncio.AbstractEventLoop], bool]) -> None:
        self._is_quiet = is_quiet
        self._armed = False

    def arm(self, turns: Turns) -> None:
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._poll, turns)

    def _poll(self, turns: Turns) -> None:
        loop = asyncio.get_running_loop()
        if not self._is_quiet(loop):
            turns.another_round()
            loop.call_soon(self._poll, turns)
        elif turns.step():
            loop.call_soon(self._poll, turns)
        elif turns.agenda.driven and turns.threads_at_work:
            loop.call_later(_THREADS_POLL_S, self._poll, turns)
        else:
            self._armed = False


def _quiet_test(loop: asyncio.AbstractEventLoop) -> Callable[[Any], bool]:
    return _nothing_is_ready if hasattr(loop, "_ready") else _all_tasks_wait


def _nothing_is_ready(loop: Any) -> bool:
    """asyncio's own loops, private but unchanged since 3.4: a test pins it. 50 times cheaper than to ask the tasks."""
    return not loop._ready


def _all_tasks_wait(loop: asyncio.AbstractEventLoop) -> bool:
    """Other loops, as uvloop: each task waits for a future that is not done, which is what anyio looks at too."""
    for task in asyncio.all_tasks(loop):
        future = getattr(task, "_fut_waiter", None)
        if future is None or future.done():
            return False
    return True
