"""trio: how a task parks there, and how the loop shows that it is quiet.

trio asks its clock how long to sleep exactly when no task can run, so a clock of our own (`QuietClock`, used by
`simulate`) lets the next waiter go on there and answers 0. In somebody else's run a system task waits for
`wait_all_tasks_blocked(0)`. Both are public; neither polls.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import trio

from geartrain.ports.linger import LIMIT_NS, Linger
from geartrain.ports.loop_time import LoopTime, loop_time_of
from geartrain.ports.turns import Subject, Turns, Wait
from geartrain.rules.timestep import Number

_THREADS_POLL_S = 0.001

_log = logging.getLogger("geartrain.trio")


class TrioWait(Wait):
    """A wait of a parked trio task."""

    __slots__ = ("_over", "_task")

    def __init__(
        self, _token: object, turns: Turns | None, subject: Subject | None, number: Number | None = None
    ) -> None:
        super().__init__(turns, subject, number)
        self._over = False
        self._task: trio.lowlevel.Task | None = None

    def release(self) -> bool:
        if self._over:
            return False
        self._over = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
        return True

    async def _park(self) -> None:
        if self._over:
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _another(self) -> "TrioWait":
        return TrioWait(None, self._turns, self.subject, self.number)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._over = True
        return trio.lowlevel.Abort.SUCCEEDED


wait_on = TrioWait


class TrioFdWatch:
    """A descriptor, watched while a task waits for it."""

    def __init__(self, token: trio.lowlevel.TrioToken, fd: int, _look: Callable[[], bool], is_answer: bool) -> None:
        self._fd = fd
        self._is_answer = is_answer
        self._edge = _edge_of(token)
        self._edge.linger.add(fd)

    def wake(self) -> None:
        # Who waits is told that the descriptor is about to be closed; a scope to cancel would cost something each time.
        trio.lowlevel.notify_closing(self._fd)
        self._edge.stir()

    async def wait(self) -> None:
        with suppress(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(self._fd)
        if self._is_answer:
            self._edge.linger.woke()

    def close(self) -> None:
        self._edge.linger.remove(self._fd)
        trio.lowlevel.notify_closing(self._fd)


watch = TrioFdWatch


async def attend(token: trio.lowlevel.TrioToken, fd: int, look: Callable[[], None], over: Callable[[], None]) -> None:
    edge = _edge_of(token)
    edge.linger.add(fd)
    trio.lowlevel.spawn_system_task(_attend, edge, fd, look, over, name="geartrain timer")


async def _attend(edge: "_Edge", fd: int, look: Callable[[], None], over: Callable[[], None]) -> None:
    try:
        while True:
            await trio.lowlevel.wait_readable(fd)
            look()
    finally:
        edge.linger.remove(fd)
        over()


class _Edge(trio.abc.Instrument):
    """Where a run is about to sleep: what was put off is done, and the descriptors are looked at once more."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.works: list[Callable[[], None]] = []
        self.linger = Linger()
        self._run_soon = token.run_sync_soon
        self._will_sleep = False

    def before_io_wait(self, timeout: float) -> None:
        if not self.works:
            return
        self._will_sleep = timeout > 0
        while self.works:
            self.works.pop()()
        if self._will_sleep:
            self._will_sleep = False
            # Whatever it finds, trio finds too, and wakes who waits for it.
            self.linger.before_sleep(min(LIMIT_NS, int(timeout * 1e9)))

    def stir(self) -> None:
        """A task can go on. A run that has made up its mind to sleep does not see that by itself."""
        if self._will_sleep:
            self._will_sleep = False
            self._run_soon(_nothing)


def _nothing() -> None: ...


_edges: WeakKeyDictionary[trio.lowlevel.TrioToken, _Edge] = WeakKeyDictionary()


def _edge_of(token: trio.lowlevel.TrioToken) -> _Edge:
    edge = _edges.get(token)
    if edge is None:
        edge = _edges[token] = _Edge(token)
        trio.lowlevel.add_instrument(edge)
    return edge


def before_sleep(token: trio.lowlevel.TrioToken, work: Callable[[], None]) -> None:
    _edge_of(token).works.append(work)


class _Alarm:
    """Due at a time of the run's clock."""

    __slots__ = ("due", "work")

    def __init__(self, due: float, work: Callable[[], None]) -> None:
        self.due = due
        self.work: Callable[[], None] | None = work

    def __lt__(self, other: "_Alarm") -> bool:
        return self.due < other.due

    def cancel(self) -> None:
        self.work = None


class _Alarms:
    """All alarms of a run: a system task that lives while there is one."""

    def __init__(self) -> None:
        self._heap: list[_Alarm] = []
        self._sleep: trio.CancelScope | None = None
        self._running = False

    def add(self, alarm: _Alarm) -> None:
        heappush(self._heap, alarm)
        if not self._running:
            self._running = True
            trio.lowlevel.spawn_system_task(self._run, name="geartrain alarms")
        elif self._sleep is not None and self._sleep.deadline > alarm.due:
            self._sleep.deadline = alarm.due

    async def _run(self) -> None:
        try:
            while self._heap:
                with trio.CancelScope(deadline=self._heap[0].due) as self._sleep:
                    await trio.sleep_forever()
                self._sleep = None
                self._ring()
        finally:
            self._running = False

    def _ring(self) -> None:
        now = trio.current_time()
        while self._heap and self._heap[0].due <= now:
            work = heappop(self._heap).work
            try:
                if work is not None:
                    work()
            except Exception:
                # As asyncio does with a callback: what it was for is lost, the run is not.
                _log.exception("an alarm failed")


_alarms_of: WeakKeyDictionary[object, _Alarms] = WeakKeyDictionary()


def call_later(token: trio.lowlevel.TrioToken, seconds: float, work: Callable[[], None]) -> _Alarm:
    alarms = _alarms_of.get(token)
    if alarms is None:
        alarms = _alarms_of[token] = _Alarms()
    alarm = _Alarm(trio.current_time() + seconds, work)
    alarms.add(alarm)
    _edge_of(token).stir()
    return alarm


def running_test(token: object) -> Callable[[], bool]:
    def is_running() -> bool:
        try:
            return trio.lowlevel.current_trio_token() is token
        except RuntimeError:
            return False

    return is_running


checkpoint = trio.lowlevel.checkpoint


class QuietClock(trio.abc.Clock):
    """Real time, and a way to know that trio is quiet. Under a clock with microsteps it is that one's time."""

    def __init__(self) -> None:
        self.turns: Turns | None = None
        self._loop_time: LoopTime | None = None

    def start_clock(self) -> None:
        """Real time runs already."""

    def current_time(self) -> float:
        if self._loop_time is None:
            self._loop_time = loop_time_of(self.turns)
        return time.perf_counter() if self._loop_time is None else self._loop_time.now()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if self.turns is None:
            return deadline - self.current_time()
        its = self._loop_time
        if its is None:
            return 0 if self.turns.step() else deadline - self.current_time()
        return 0 if its.step(self.turns, deadline) else its.sleep_s(deadline)


def run_quietly(main: Callable[..., Awaitable[Any]], *args: object) -> Any:
    return anyio.run(main, *args, backend="trio", backend_options={"clock": QuietClock()})


def new_turns(_loop: object) -> Turns:
    clock = trio.lowlevel.current_clock()
    if isinstance(clock, QuietClock):
        turns = clock.turns = Turns(_needs_no_arming)
    else:
        turns = Turns(_Pump().arm)
    trio.lowlevel.add_instrument(_RoundCounter(turns))
    return turns


class _RoundCounter(trio.abc.Instrument):
    """Counts how often the run goes round without a pause."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def before_io_wait(self, timeout: float) -> None:
        if timeout == 0:
            self._turns.another_round()


def _needs_no_arming(turns: Turns) -> None:
    """A run that asks by itself whenever it is quiet has nothing to be told."""


class _Pump:
    """Works off the agenda in somebody else's run: a system task that lives while there is something to do."""

    def __init__(self) -> None:
        # Not loaded by those who never need it: it takes longer than all of geartrain.
        from trio.testing import wait_all_tasks_blocked

        self._wait_quiet = wait_all_tasks_blocked
        self._running = False

    def arm(self, turns: Turns) -> None:
        if not self._running:
            self._running = True
            trio.lowlevel.spawn_system_task(self._run, turns, name="geartrain turns")

    async def _run(self, turns: Turns) -> None:
        try:
            while True:
                await self._wait_quiet()
                if turns.step():
                    continue
                if not (turns.agenda.driven and turns.threads_at_work):
                    return
                await trio.sleep(_THREADS_POLL_S)
        finally:
            self._running = False
