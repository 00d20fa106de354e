"""One daemon under a supervisor, through all of its lives: carries out what `rules.lifecycle` orders.

live()   Call(on_start), Call(run)   inside the cancel scope that the daemon sees
         Call(on_stop)               shielded, and bounded in time once the daemon is stopped by force
         Pause                       on the daemon's clock, cut short by a stop
         End                         back to the supervisor
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct

from geartrain.engine.budgets import BodyGuard
from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.reporter import Reporter
from geartrain.engine.signal import Signal
from geartrain.errors import ChannelClosed
from geartrain.ports.clock import Clock, SimClock
from geartrain.rules.budgets import Budgets, Hold
from geartrain.rules.lifecycle import (
    Began,
    Call,
    Cancelled,
    DaemonFailurePhase,
    DaemonState,
    End,
    Event,
    Exited,
    Failed,
    Life,
    OnError,
    Order,
    Pause,
    Returned,
)
from geartrain.rules.restart import RestartPolicy

if TYPE_CHECKING:
    from geartrain.engine.supervisor import Supervisor

# How long an `on_stop` may take when everything is being cancelled and nobody has said another limit.
FINALIZE_TIMEOUT_S = 2.0


class DaemonHealth(Struct, frozen=True):
    """How one daemon is. Times are of the supervisor's clock."""

    name: str
    state: DaemonState
    restart_count: int
    last_error: BaseException | None
    last_error_phase: DaemonFailurePhase | None
    started_at: float | None
    uptime: float | None
    # While its body is not entered: why, and since when. The two counts are since the supervisor was made.
    held: Hold | None = None
    overruns: int = 0
    passed_ticks: int = 0


class Hosted:
    """A daemon, the recipe to make it again, and how far it has come."""

    def __init__(
        self,
        name: str,
        daemon: Daemon,
        make: Callable[[], Daemon],
        policy: OnError,
        restart: RestartPolicy,
        supervisor: "Supervisor",
        reporter: Reporter,
        budgets: Budgets,
        budget_ns: int | None,
    ) -> None:
        self.name = name
        self.stop = Signal(f"the stop of {name}")
        self.started = Signal(f"the start of {name}")
        self.ended = Signal(f"the end of {name}")
        is_guarded = budgets.add(name, budget_ns)
        self._budgets = budgets
        self.watch = reporter.watch(
            name, BodyGuard(name, budgets, reporter, supervisor.clock, self.stop) if is_guarded else None
        )
        self._daemon = daemon
        self._make = make
        self._life = Life(policy, restart)
        self._supervisor = supervisor
        self._clock = supervisor.clock
        self._reporter = reporter
        self._chance = _chance(self._clock, f"the restarts of {name}")
        self._started_at: float | None = None
        self._failure: BaseException | None = None
        self._context: Context | None = None
        self._scope: anyio.CancelScope | None = None
        self._cleanup: anyio.CancelScope | None = None
        self._finalize_timeout: float | None = None
        self._cancelled = False

    @property
    def finished(self) -> bool:
        return self.ended.is_set()

    def roots(self) -> Iterable[object]:
        return (self._daemon,)

    def health(self) -> DaemonHealth:
        life = self._life
        running = life.state == "running" and self._started_at is not None
        return DaemonHealth(
            name=self.name,
            state=life.state,
            restart_count=life.restart_count,
            last_error=life.last_error,
            last_error_phase=life.last_error_phase,
            started_at=self._started_at,
            uptime=self._clock.now() - (self._started_at or 0.0) if running else None,
            held=self._budgets.hold_of(self.name),
            overruns=self._budgets.overruns_of(self.name),
            passed_ticks=self._budgets.passed_of(self.name),
        )

    # -- from outside -------------------------------------------------------------------------------------------

    def ask_stop(self) -> None:
        self._life.ask_stop()
        self.stop.set()

    def cancel(self, finalize_timeout: float) -> None:
        """Stop by force. `on_stop` is still called, and has that long."""
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()
        self.bound_cleanup(finalize_timeout)

    def bound_cleanup(self, finalize_timeout: float) -> None:
        """From now on `on_stop` may not take longer than this. The first limit stays."""
        if self._finalize_timeout is not None:
            return
        self._finalize_timeout = finalize_timeout
        if self._cleanup is not None:
            self._cleanup.deadline = anyio.current_time() + finalize_timeout

    def end(self) -> None:
        """It is over, at the latest now: also for a daemon that was cancelled before its first step."""
        self._life.step(Cancelled(), self._clock.now_ns())
        self.started.set()
        self.ended.set()
        self._reporter.ended(self.name)

    # -- its life -----------------------------------------------------------------------------------------------

    async def live(self) -> End:
        """Carry out the orders until the end. A cancellation from outside is passed on after `on_stop`."""
        order = self._step(Began())
        while not isinstance(order, End):
            try:
                order = await self._carry_out(order)
            except anyio.get_cancelled_exc_class():
                self._life.ask_stop()
                self.bound_cleanup(FINALIZE_TIMEOUT_S)
                if isinstance(self._step(Cancelled()), Call):
                    self._step(await self._clean_up())
                raise
        return order

    async def _carry_out(self, order: Call | Pause) -> Order:
        match order:
            case Pause(delay_s):
                with self._clock.move_on_after(delay_s):
                    await self.stop.wait()
                return self._step(Began())
            case Call("on_stop"):
                return self._step(await self._clean_up())
            case Call():
                return await self._work(order)

    async def _work(self, order: Order) -> Order:
        """`on_start` and `run`, inside the cancel scope that the daemon sees."""
        with self._new_scope() as scope:
            self._context = self._new_context(scope)
            while isinstance(order, Call) and order.phase != "on_stop":
                if order.phase == "on_start":
                    self._reporter.starting(self.name, self._life.restart_count)
                else:
                    self._started_at = self._clock.now()
                    self.started.set()
                    self._reporter.started(self.name)
                order = self._step(await self._call(order))
            return order
        return self._step(Cancelled())

    def _new_scope(self) -> anyio.CancelScope:
        """A scope is entered once; a cancellation that came before counts."""
        scope = self._scope = anyio.CancelScope()
        if self._cancelled:
            scope.cancel()
        return scope

    async def _clean_up(self) -> Event:
        with anyio.CancelScope(shield=True) as self._cleanup:
            if self._finalize_timeout is not None:
                self._cleanup.deadline = anyio.current_time() + self._finalize_timeout
            return await self._call(Call("on_stop"))
        self._reporter.cleanup_cut(self.name)
        return Cancelled()

    async def _call(self, call: Call) -> Event:
        """Call one hook. What it raises is an event; only a cancellation is raised."""
        try:
            if call.fresh:
                self._daemon = self._make()
            await self._enter(call.phase)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            if call.phase == "run" and self.stop.is_set() and isinstance(error, ChannelClosed):
                # Everybody is stopped, its reader went first: there is nothing left to do.
                return Returned()
            event = _event_of(error, self._chance.random())
            if event is None:
                raise
            self._failure = event.error
            self._reporter.failed(self.name, call.phase, event.error)
            return event
        return Returned()

    async def _enter(self, phase: DaemonFailurePhase) -> None:
        ok = False
        try:
            await getattr(self._daemon, phase)(self._context)
            ok = True
        finally:
            if self.watch is not None and phase == "run":
                self.watch.run_ended(ok=ok)

    def _new_context(self, scope: anyio.CancelScope) -> Context:
        logger = self._reporter.logger_of(self.name)
        chance = _chance(self._clock, f"life {self._life.restart_count} of {self.name}")
        return Context(self._clock, scope, logger, self.name, self._supervisor, self.stop, chance)

    def _step(self, event: Event) -> Order:
        order = self._life.step(event, self._clock.now_ns())
        if self._failure is not None and not isinstance(order, Call):
            self._reporter.outcome(self.name, self._failure, order)
            self._failure = None
        return order


def _chance(clock: Clock, what: str) -> Random:
    """Under virtual time chance is part of the program: the same on every run with the same seed."""
    return Random(f"{clock.seed}: {what}") if isinstance(clock, SimClock) else Random()


def _event_of(error: BaseException, roll: float) -> Failed | Exited | None:
    """What an error from a hook means; None for one that is nothing but cancellation."""
    if isinstance(error, BaseExceptionGroup):
        _, rest = error.split(anyio.get_cancelled_exc_class())
        if rest is None:
            return None
        error = rest
    if isinstance(error, Exception):
        return Failed(error, roll)
    while isinstance(error, BaseExceptionGroup):
        error = next(part for part in error.exceptions if not isinstance(part, Exception))
    return None if isinstance(error, GeneratorExit) else Exited(error)
