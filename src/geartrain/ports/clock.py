"""One clock to ask, two ways time can pass.

`WallClock` is real time. `SimClock` stands still until somebody drives it: then, whenever everything is quiet, it
moves straight to the next moment at which something is due. A daemon uses its `ctx.clock` and cannot tell.

    clock = SimClock()
    async with Supervisor(clock=clock) as sup:
        sup.add(blinker())
        await clock.advance(3600)      # an hour passes, exactly, in no time
"""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Literal, Protocol, Self, runtime_checkable

import anyio

from geartrain.errors import BadType, BadValue, Deadlock, Livelock
from geartrain.ports.observer import Guard, Watch, current_watch
from geartrain.ports.parking import Here, here_in_turns, loop_is_running, take_turn
from geartrain.ports.sleepers import sleep_until_ns
from geartrain.ports.turns import Turns
from geartrain.rules import grid
from geartrain.rules.checks import number, one_of, whole
from geartrain.rules.deadlines import ns_rounded_up
from geartrain.rules.deadlock import Waiting, stuck
from geartrain.rules.microsteps import LIMIT, Microsteps
from geartrain.rules.timestep import Timeline

First = Literal["now", "after"]

# What is called in the place of a body that is held.
Handler = Callable[[], Awaitable[object]]

# Real time in whole nanoseconds: `CLOCK_MONOTONIC`, the same for all processes of a host.
mono_ns = time.monotonic_ns


@runtime_checkable
class Clock(Protocol):
    """What a daemon may ask of time. All times are seconds since some start that only the clock knows."""

    def now(self) -> float:
        """The time now, in seconds."""

    def now_ns(self) -> int:
        """The same in whole nanoseconds, where nothing is rounded."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long; 0 or less only lets others go first."""

    async def wait_until(self, deadline: float) -> None:
        """Wait for a moment; one in the past only lets others go first."""

    async def wait_until_ns(self, deadline_ns: int) -> None:
        """The same in whole nanoseconds."""

    def every(self, period: float, *, first: First = "after", instead: Handler | None = None) -> AsyncIterator[float]:
        """The moments of an absolute grid, one by one; those missed are skipped and counted.

        While the daemon is held, for a body took longer than its budget, ticks pass without it; `instead`, an async
        function without arguments, is called at each of them.
        """

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """A scope that is cancelled when that time has passed, and then left quietly."""

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        """A scope that is cancelled when that time has passed, and then raises TimeoutError."""

    def hold(self) -> AbstractAsyncContextManager[None]:
        """Keep virtual time still while work goes on that the clock cannot see. Real time is not impressed."""


class WallClock:
    """Real time: `CLOCK_MONOTONIC`, which all processes of a host share."""

    def now(self) -> float:
        return time.monotonic()

    def now_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        if number("sleep() seconds", seconds) == math.inf:
            await anyio.sleep_forever()
        await sleep_until_ns(time.monotonic_ns() + ns_rounded_up(max(0.0, seconds)))

    async def wait_until(self, deadline: float) -> None:
        if number("wait_until() deadline", deadline) == math.inf:
            await anyio.sleep_forever()
        await sleep_until_ns(_ns(deadline))

    async def wait_until_ns(self, deadline_ns: int) -> None:
        await sleep_until_ns(deadline_ns)

    def every(self, period: float, *, first: First = "after", instead: Handler | None = None) -> AsyncIterator[float]:
        return Ticks(self, period, first, instead)

    def move_on_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        return anyio.move_on_after(number("move_on_after() seconds", seconds))

    def fail_after(self, seconds: float) -> AbstractContextManager[anyio.CancelScope]:
        return anyio.fail_after(number("fail_after() seconds", seconds))

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        yield


class SimClock:
    """Virtual time, exact: sleepers wake in the order (deadline, registration), one at a time, each until quiet.

    With `microsteps=True` what a daemon does in one microstep of an instant is seen by others in the next, so that a
    run does not depend on the order in which anybody was woken, nor on where a daemon lives (`engine/simulated.py`).
    Then it is the only clock of its loop, and no instant has more than `livelock_after` microsteps.
    """

    def __init__(
        self,
        t0: float = 0.0,
        *,
        seed: int = 0,
        settle_rounds: int = 8,
        microsteps: bool = False,
        livelock_after: int = LIMIT,
    ) -> None:
        """`seed` is where the chance of its daemons begins: their `ctx.random`, and the jitter of their restarts.

        `settle_rounds` is accepted for programs that tuned it elsewhere; there is no such budget here.
        """
        if math.isinf(number("SimClock t0", t0)):
            raise BadValue(f"SimClock t0 must be finite, got {t0!r}")
        whole("settle_rounds", settle_rounds, least=1)
        whole("livelock_after", livelock_after, least=1)
        self.seed = whole("SimClock seed", seed, least=0)
        self._timeline = Timeline(_ns(t0))
        self._microsteps = self._new_microsteps(livelock_after) if microsteps else None
        self._drivers = 0
        if loop_is_running():
            self.take_part()

    def _new_microsteps(self, limit: int) -> Microsteps:
        return Microsteps(self._timeline, limit)

    def take_part(self) -> tuple[Here, Turns]:
        """From now on the waits of the running loop take turns."""
        return here_in_turns(self._microsteps)

    def __repr__(self) -> str:
        return f"<SimClock at {self.now():g} s, {len(self._timeline)} waiting>"

    @property
    def driven(self) -> bool:
        """Whether somebody lets this clock's time pass now."""
        return self._drivers > 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is due any more: what is left waits for something else than time."""
        loop_is_idle = self._microsteps is None or self._microsteps.loop_due_ns is None
        return not self._timeline and loop_is_idle

    @property
    def has_microsteps(self) -> bool:
        return self._microsteps is not None

    @property
    def instant(self) -> tuple[int, int]:
        """The time in whole nanoseconds, and the microstep; without microsteps there is one only."""
        return self._timeline.now_ns, 0 if self._microsteps is None else self._microsteps.k

    def now(self) -> float:
        return self._timeline.now_ns / 1e9

    def now_ns(self) -> int:
        return self._timeline.now_ns

    async def sleep(self, seconds: float) -> None:
        if number("sleep() seconds", seconds) == math.inf:
            await self._sleep_forever()
        await self.wait_until_ns(self._timeline.now_ns + _ns(seconds))

    async def wait_until(self, deadline: float) -> None:
        if number("wait_until() deadline", deadline) == math.inf:
            await self._sleep_forever()
        await self.wait_until_ns(_ns(deadline))

    async def wait_until_ns(self, deadline_ns: int) -> None:
        spot, _ = self.take_part()
        if deadline_ns <= self._timeline.now_ns:
            await take_turn()
            return
        wait = spot.park()
        timer = self._timeline.add(deadline_ns, wait.number, wait)
        try:
            await wait.wait()
        finally:
            self._timeline.cancel(timer)

    def every(self, period: float, *, first: First = "after", instead: Handler | None = None) -> AsyncIterator[float]:
        return Ticks(self, period, first, instead)

    @contextmanager
    def move_on_after(self, seconds: float) -> Iterator[anyio.CancelScope]:
        number("move_on_after() seconds", seconds)
        with anyio.CancelScope() as scope, self._cancelling(scope, seconds):
            yield scope

    @contextmanager
    def fail_after(self, seconds: float) -> Iterator[anyio.CancelScope]:
        number("fail_after() seconds", seconds)
        with anyio.CancelScope() as scope, self._cancelling(scope, seconds) as timeout:
            yield scope
        if scope.cancelled_caught and timeout.expired:
            raise TimeoutError(f"{seconds:g} s of virtual time have passed")

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        _, turns = self.take_part()
        self._timeline.holds += 1
        try:
            yield
        finally:
            self._timeline.holds -= 1
            turns.arm()

    async def advance(self, dt: float) -> None:
        """Let `dt` seconds pass, and return when everything due until then has been done."""
        if number("advance() dt", dt) < 0:
            raise BadValue(f"cannot advance backwards (dt={dt!r})")
        await self._drive(self._timeline.now_ns + _finite_ns(dt))

    async def advance_to(self, t: float) -> None:
        """Let time pass until `t`; if that is past already, only what is due now is done."""
        number("advance_to() t", t)
        await self._drive(max(self._timeline.now_ns, _finite_ns(t)))

    async def run(self) -> None:
        """Let time pass until nothing is left to do.

        Raises `Deadlock` when daemons are left that wait for each other, or for somebody who has finished. A daemon
        that waits for its stop, or for a caller from outside, is idle.
        """
        turns = await self._drive(None)
        if in_vain := self._in_vain(turns):
            lines = "".join(f"\n  {wait.who} {wait.what}" for wait in sorted(in_vain, key=lambda wait: wait.who))
            raise Deadlock(f"at t={self.now():g} s nothing is left to do, yet these daemons wait in vain:{lines}")

    async def _drive(self, until_ns: int | None) -> Turns:
        spot, turns = self.take_part()
        arrival = spot.park()
        drive = turns.agenda.drive(self._timeline, until_ns, arrival)
        turns.arm()
        self._drivers += 1
        try:
            await arrival.wait()
        finally:
            self._drivers -= 1
            turns.agenda.give_up(drive)
        if drive.livelock is not None:
            raise self._livelock(drive.livelock)
        return turns

    def _in_vain(self, turns: Turns) -> tuple[Waiting, ...]:
        waits = waits_of(turns)
        return stuck(waits, {helper for wait in waits for helper in wait.helpers or ()})

    def _livelock(self, awake: tuple[str, ...]) -> Livelock:
        t_ns, k = self.instant
        return Livelock(
            f"time does not pass: at t={t_ns / 1e9:g} s there were {k} microsteps, and still somebody went on; awake "
            f"were {', '.join(awake) or 'tasks of no daemon'}. Let one of them sleep; or, where so much is really done "
            "in one instant, give SimClock a larger livelock_after",
            awake,
        )

    async def _sleep_forever(self) -> None:
        await self.take_part()[0].park().wait()

    @contextmanager
    def _cancelling(self, scope: anyio.CancelScope, seconds: float) -> Iterator["_Timeout"]:
        timeout = _Timeout(scope)
        if seconds <= 0:
            timeout.release()
            yield timeout
            return
        if seconds == math.inf:
            yield timeout
            return
        _, turns = self.take_part()
        timer = self._timeline.add(self._timeline.now_ns + _ns(seconds), turns.number(), timeout)
        try:
            yield timeout
        finally:
            self._timeline.cancel(timer)


class _Timeout:
    """A waiter that is not a task: when its time comes, a scope is cancelled."""

    __slots__ = ("_scope", "expired")

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        self.expired = False

    def release(self) -> bool:
        self.expired = True
        self._scope.cancel()
        return True


class Ticks:
    """The ticks of `every`: an iterator that also tells the observer, if there is one, how each cycle went.

    While the daemon is held it does not come back from `__anext__`: ticks pass there, until it is released, or stops.
    """

    def __init__(self, clock: Clock, period: float, first: First, instead: Handler | None = None) -> None:
        if number("every() period", period) <= 0 or math.isinf(period):
            raise BadValue(f"every() period must be positive, got {period!r}")
        one_of("every() first", first, ("now", "after"))
        if instead is not None and not callable(instead):
            raise BadType(f"every() instead must be an async function without arguments, got {instead!r}")
        self._clock = clock
        self._period_ns = max(1, _ns(period))
        self._epoch_ns: int | None = None
        self._slot = -1 if first == "now" else 0
        self._watch: Watch | None = current_watch.get()
        self._guard: Guard | None = None if self._watch is None else self._watch.guard
        self._instead = instead
        self._index = 0
        self._skipped = 0
        self._started_ns = 0
        self._previous_ns: int | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> float:
        due_ns = self._begin_wait()
        await self._clock.wait_until_ns(due_ns)
        while self._guard is not None and self._guard.holds_back():
            await self._pass(self._guard)
            await self._clock.wait_until_ns(self._begin_wait())
        return self._begin_cycle()

    async def _pass(self, guard: Guard) -> None:
        """This tick is not for the body. Whoever is to stop would never hear of it, so then there are no more."""
        if guard.stopping:
            raise StopAsyncIteration
        if self._instead is None:
            self._started_ns = self._clock.now_ns()
            self._index += 1
        else:
            self._begin_cycle()
            await self._instead()

    def _begin_wait(self) -> int:
        now_ns = self._clock.now_ns()
        if self._epoch_ns is None:
            self._epoch_ns = now_ns
        if self._watch is not None and self._watch.open_cycle is self:
            took_ns = self._end_cycle(ok=True)
            # Where a body ended that was left by `break` or an error, nobody knows: such a one is not judged.
            if self._guard is not None:
                self._guard.judge(took_ns)
        # The very first tick of first="now" is the epoch itself.
        slot = 0 if self._slot < 0 else grid.next_slot(self._epoch_ns, self._period_ns, self._slot, now_ns)
        self._skipped = max(0, slot - self._slot - 1)
        self._slot = slot
        return self._due_ns

    def _begin_cycle(self) -> float:
        if self._watch is not None:
            self._previous_ns = self._started_ns if self._index else None
            self._started_ns = self._clock.now_ns()
            self._watch.cycle_begins(self, self._started_ns)
        return self._due_ns / 1e9

    @property
    def _due_ns(self) -> int:
        assert self._epoch_ns is not None
        return self._epoch_ns + self._slot * self._period_ns

    def end(self, *, ok: bool) -> None:
        """The body of the present cycle is over: the daemon has left its loop."""
        self._end_cycle(ok=ok)

    def _end_cycle(self, *, ok: bool) -> int:
        """The answer is how long its body took."""
        assert self._watch is not None
        ended_ns = self._clock.now_ns()
        cycle = grid.cycle(
            index=self._index,
            period_ns=self._period_ns,
            due_ns=self._due_ns,
            started_ns=self._started_ns,
            ended_ns=ended_ns,
            skipped=self._skipped,
            previous_ns=self._previous_ns,
        )
        self._index += 1
        took_ns = ended_ns - self._started_ns
        self._watch.cycle_ends(self._started_ns, took_ns, cycle if ok else None)
        return took_ns


def waits_of(turns: Turns) -> list[Waiting]:
    """Where the daemons of this loop wait, and for whom."""
    return [
        Waiting(wait.owner.name, "waits", None) if wait.subject is None else wait.subject.waiting_for(wait.owner)
        for wait in turns.waits
        if wait.owner is not None
    ]


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _finite_ns(seconds: float) -> int:
    if math.isinf(seconds):
        raise BadValue("cannot advance to infinity; run() advances until nothing is left to do")
    return _ns(seconds)
