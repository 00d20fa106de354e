"""Calls at given moments: never early, late by as little as the system allows, and counted.

    async with DeadlineScheduler() as deadlines:
        deadlines.schedule_after(0.25, look_again, name="look again")
        deadlines.schedule_every(0.001, control)
        ...

One task sleeps until the first moment and makes the calls that are due then, in the order of their moments. Callbacks
are plain functions: one that takes long holds everybody up, and is counted and named. After 64 of them, or 2 ms, all
others on the loop have their turn. Any thread may schedule and cancel.
"""

import logging
import threading
from collections.abc import Callable
from types import CoroutineType, TracebackType
from typing import Self, TypeVar

import anyio
import anyio.abc

from geartrain.errors import BadType, BadValue, NotInUse
from geartrain.ports.clock import Clock, WallClock, mono_ns
from geartrain.ports.parking import take_turn
from geartrain.ports.timer import Timer, open_timer
from geartrain.ports.turns import current_owner
from geartrain.rules.checks import number, one_of, whole
from geartrain.rules.deadlines import (
    MISSED,
    Callback,
    Deadline,
    Deadlines,
    Firing,
    Missed,
    PeriodicDeadline,
    ns_rounded_up,
)
from geartrain.rules.histogram import LatencyHistogram

D = TypeVar("D", bound=Deadline)
OnCallbackError = Callable[[Deadline, Exception], object]

# Others on the loop have their turn after so many calls, or so much time.
_BATCH = 64
_BATCH_NS = 2_000_000

# From here on a call is called slow, and a deadline late.
SLOW_NS = 5_000_000
LATE_NS = 1_000_000

# 292 years, and a hundred of them: what is due later is a mistake.
_MOST_NS = (1 << 63) - 1
_LONGEST_S = 3.2e9

_NEVER_NS = 1 << 200

# After so many turns without a pause something is wrong; a million deadlines of one moment take a sixth of that.
_RESTLESS = 100_000
_RESTLESS_WORDS = (
    "for %d turns there was always a deadline due: a callback schedules itself in the past, or for now, again and "
    "again; in virtual time nothing else will ever come. Let it use schedule_every, or a delay"
)

_log = logging.getLogger("geartrain.deadlines")


class DeadlineScheduler:
    """Makes calls for the length of an `async with` block; what is pending at its end is dropped.

    An error of a callback goes to `on_error(deadline, error)`, or else to the log. What is no `Exception`, as
    KeyboardInterrupt, ends the block and is raised there.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        on_error: OnCallbackError | None = None,
        lateness: LatencyHistogram | None = None,
    ) -> None:
        """`lateness` is where it is recorded how late each call was; a histogram of its own if none is given."""
        if clock is not None and not isinstance(clock, Clock):
            raise BadType(f"DeadlineScheduler clock must be a Clock, as WallClock() or SimClock(), got {clock!r}")
        if on_error is not None and not callable(on_error):
            raise BadType(f"DeadlineScheduler on_error must be a function of (deadline, error), got {on_error!r}")
        if lateness is not None and not isinstance(lateness, LatencyHistogram):
            raise BadType(f"DeadlineScheduler lateness must be a LatencyHistogram, got {lateness!r}")
        self.clock: Clock = WallClock() if clock is None else clock
        self.lateness = LatencyHistogram("deadline lateness") if lateness is None else lateness
        self.fired_count = 0
        self.failed_count = 0
        self.late_count = 0
        self.early_count = 0
        self.slow_count = 0
        self.dropped_count = 0
        self.wake_count = 0
        self._on_error = on_error
        self._deadlines = Deadlines()
        # Not a plain lock: a finalizer may run anywhere, and may cancel a deadline.
        self._lock = threading.RLock()
        self._armed_ns = _NEVER_NS
        self._timer: Timer | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<DeadlineScheduler, {self.pending} pending, {self.fired_count} fired>"

    @property
    def pending(self) -> int:
        """How many deadlines are still to fire."""
        return self._deadlines.pending

    @property
    def cancelled_count(self) -> int:
        """How many deadlines were cancelled in time."""
        return self._deadlines.cancelled_count

    # -- scheduling ---------------------------------------------------------------------------------------------

    def schedule_at(self, due_ns: int, callback: Callback, *, name: str = "") -> Deadline:
        """Call it at a moment of the clock; at one that has passed, as soon as possible."""
        if type(due_ns) is not int or not -_MOST_NS <= due_ns <= _MOST_NS:
            due_ns = _checked_moment(due_ns)
        _check(callback, name)
        return self._add(Deadline(self, due_ns, callback, name))

    def schedule_after(self, delay_s: float, callback: Callback, *, name: str = "") -> Deadline:
        """Call it when so many seconds have passed, 0 being as soon as possible."""
        delay_ns = ns_rounded_up(number("schedule_after() delay_s", delay_s, least=0, most=_LONGEST_S))
        _check(callback, name)
        return self._add(Deadline(self, self.clock.now_ns() + delay_ns, callback, name))

    def schedule_every(
        self, period_s: float, callback: Callback, *, name: str = "", missed: Missed = "skip", burst: int = 8
    ) -> PeriodicDeadline:
        """Call it every so many seconds, on an absolute grid that begins now; the first call is in a period.

        When calls were late, those `missed` are skipped; or up to `burst` of them are made up for; or with "delay" the
        grid begins anew at the late call.
        """
        number("schedule_every() period_s", period_s, least=1e-9, most=_LONGEST_S)
        one_of("schedule_every() missed", missed, MISSED)
        whole("schedule_every() burst", burst, least=1)
        _check(callback, name)
        epoch_ns, period_ns = self.clock.now_ns(), round(period_s * 1e9)
        return self._add(PeriodicDeadline(self, epoch_ns, period_ns, callback, name, missed=missed, burst=burst))

    def cancel(self, deadline: Deadline) -> bool:
        """Call a deadline off, as its own `cancel` does; the answer is whether that has prevented a call."""
        # Let go of outside of the lock: its end may run anybody's code.
        callback = deadline.callback
        with self._lock:
            prevented = self._deadlines.cancel(deadline)
        del callback
        return prevented

    def _add(self, deadline: D) -> D:
        with self._lock:
            if self._timer is None:
                raise NotInUse("a DeadlineScheduler schedules inside of its `async with` block only")
            self._deadlines.insert(deadline)
            if deadline.due_ns < self._armed_ns:
                self._armed_ns = deadline.due_ns
                self._timer.arm(deadline.due_ns)
        return deadline

    # -- the block ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._timer is not None:
            raise NotInUse("this DeadlineScheduler's block has been entered already")
        self._timer = open_timer(self.clock)
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._live, self._timer, name="deadlines")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        # A group would wrap an error of the block, which is none of its business; a cancellation is.
        is_ours = error is None or isinstance(error, anyio.get_cancelled_exc_class() | BaseExceptionGroup)
        leaving = (kind, error, trace) if is_ours else (None, None, None)
        try:
            handled = bool(await self._tasks.__aexit__(*leaving)) and is_ours
        finally:
            self._close()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return handled

    def _close(self) -> None:
        with self._lock:
            timer, self._timer, self._tasks = self._timer, None, None
            dropped = self._deadlines.drop()
        assert timer is not None
        timer.close()
        self.dropped_count += len(dropped)

    # -- the driver ---------------------------------------------------------------------------------------------

    async def _live(self, timer: Timer) -> None:
        # What it waits for is no wait of the daemon whose block this is.
        current_owner.set(None)
        try:
            await self._drive(timer)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as failure:
            assert self._tasks is not None
            self._failure = failure
            self._tasks.cancel_scope.cancel()

    async def _drive(self, timer: Timer) -> None:
        while True:
            with self._lock:
                next_ns = self._deadlines.next_ns()
                self._armed_ns = _NEVER_NS if next_ns is None else next_ns
                timer.arm(next_ns)
            await timer.wait()
            self.wake_count += 1
            turns = 0
            while self._fire_some():
                turns += 1
                if turns == _RESTLESS:
                    _log.warning(_RESTLESS_WORDS, turns)
                await take_turn()

    def _fire_some(self) -> bool:
        """Make calls that are due, not too many; the answer is whether there are more."""
        until_ns = mono_ns() + _BATCH_NS
        for _ in range(_BATCH):
            now_ns = self.clock.now_ns()
            with self._lock:
                firing = self._deadlines.take(now_ns)
            if firing is None:
                break
            self._note(now_ns - firing.due_ns)
            self._call(firing)
            if mono_ns() >= until_ns:
                break
        with self._lock:
            next_ns = self._deadlines.next_ns()
        return next_ns is not None and next_ns <= self.clock.now_ns()

    def _note(self, late_ns: int) -> None:
        self.fired_count += 1
        self.late_count += late_ns > LATE_NS
        self.early_count += late_ns < 0
        self.lateness.record(late_ns)

    def _call(self, firing: Firing) -> None:
        began_ns = mono_ns()
        try:
            answer = firing.callback()
            if isinstance(answer, CoroutineType):
                answer.close()
                raise BadType(
                    f"the callback of {_title(firing)} is async; a deadline calls plain functions only: let it set an "
                    "event, or send_nowait() to a channel, and do the rest in a task that waits for that"
                )
        except Exception as error:
            self._report(firing, error)
        took_ns = mono_ns() - began_ns
        if took_ns > SLOW_NS:
            self.slow_count += 1
            _log.warning("%s took %.1f ms, and everybody waited for it", _title(firing), took_ns / 1e6)

    def _report(self, firing: Firing, error: Exception) -> None:
        self.failed_count += 1
        if self._on_error is None:
            _log.error("%s failed", _title(firing), exc_info=error)
            return
        try:
            self._on_error(firing.deadline, error)
        except Exception:
            _log.exception("on_error failed, told of %r by %s", error, _title(firing))


def _title(firing: Firing) -> str:
    # Of a partial the function says more than its arguments do.
    callback = getattr(firing.callback, "func", firing.callback)
    return f"deadline {firing.deadline.name or getattr(callback, '__qualname__', None) or repr(callback)!r}"


def _check(callback: object, name: object) -> None:
    if not callable(callback):
        raise BadType(f"a deadline's callback must be a function without arguments, got {callback!r}")
    if not isinstance(name, str):
        raise BadType(f"a deadline's name must be a string, got {name!r}")


def _checked_moment(due_ns: int) -> int:
    whole("schedule_at() due_ns", due_ns, least=-_MOST_NS)
    if due_ns > _MOST_NS:
        raise BadValue(f"schedule_at() due_ns must be below 2**63, which is in 292 years, got {due_ns!r}")
    return int(due_ns)
