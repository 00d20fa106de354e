"""trio: how a task parks there, and how the loop shows that it is quiet.

trio asks its clock how long to sleep exactly when no task can run, so a clock of our own (`QuietClock`, used by
`simulate`) lets the next waiter go on there and answers 0. In somebody else's run a system task waits for
`wait_all_tasks_blocked(0)`. Both are public; neither polls.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio

from geartrain.ports.turns import Subject, Turns, Wait

_THREADS_POLL_S = 0.001


class TrioWait(Wait):
    """A wait of a parked trio task."""

    __slots__ = ("_over", "_task")

    def __init__(self, _token: object, turns: Turns | None, subject: Subject | None) -> None:
        super().__init__(turns, subject)
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
        return TrioWait(None, self._turns, self.subject)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._over = True
        return trio.lowlevel.Abort.SUCCEEDED


wait_on = TrioWait


def running_test(token: object) -> Callable[[], bool]:
    def is_running() -> bool:
        try:
            return trio.lowlevel.current_trio_token() is token
        except RuntimeError:
            return False

    return is_running


checkpoint = trio.lowlevel.checkpoint


class QuietClock(trio.abc.Clock):
    """Real time, and a way to know that trio is quiet."""

    def __init__(self) -> None:
        self.turns: Turns | None = None

    def start_clock(self) -> None:
        """Real time runs already."""

    def current_time(self) -> float:
        return time.perf_counter()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if self.turns is not None and self.turns.step():
            return 0
        return deadline - self.current_time()


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
