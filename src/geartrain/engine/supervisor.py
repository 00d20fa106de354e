"""The root of a program of daemons: it starts them, decides what a failure does, and stops them.

    async with Supervisor(clock=SimClock(), on_error="restart") as sup:
        sup.add(Camera, out)
        sup.add(detector(inp), on_error="shutdown")
        ...
        await sup.stop(grace=5)       # or leave the block when all daemons have returned

What a failure means is decided in `rules.lifecycle`; here the orders are carried out.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc

from geartrain.engine.daemon import Daemon, DaemonFactory, FunctionDaemon, checked_function
from geartrain.engine.holders import holders
from geartrain.engine.hosted import FINALIZE_TIMEOUT_S, DaemonHealth, Hosted
from geartrain.engine.reporter import Reporter
from geartrain.engine.signal import Signal
from geartrain.errors import BadType, BadValue, DaemonError, NotInUse
from geartrain.ports.clock import Clock, SimClock, WallClock
from geartrain.ports.observer import Observer, current_watch
from geartrain.ports.parking import here, take_turn
from geartrain.ports.turns import Wait, current_owner
from geartrain.rules.budgets import Budgets, in_ns
from geartrain.rules.checks import number, one_of
from geartrain.rules.lifecycle import POLICIES, End, OnError
from geartrain.rules.restart import RestartPolicy

# How long the end of the block waits in real time before it says that nobody drives its virtual clock.
_PATIENCE_S = 1.0

# How long a cancelled daemon is waited for beyond its cleanup, before it is called defiant.
_DEFIANCE_S = 1.0


class Supervisor:
    """Hosts daemons for the length of an `async with` block, which ends when all of them have.

    `budget` is how many seconds the body of a cycle of `every` may take, whichever daemon's it is. One that takes more
    holds all of them: their bodies are entered no more, until `clear_executor_fault`.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        on_error: OnError = "shutdown",
        restart: RestartPolicy | None = None,
        logger: logging.Logger | None = None,
        observer: Observer | None = None,
        budget: float | None = None,
    ) -> None:
        _check_clock(clock)
        if logger is not None and not isinstance(logger, logging.Logger):
            raise BadType(f"Supervisor logger must be a logging.Logger, got {logger!r}")
        if observer is not None and not isinstance(observer, Observer):
            raise BadType(f"Supervisor observer must inherit from geartrain.Observer, got {observer!r}")
        self._clock: Clock = WallClock() if clock is None else clock
        self._on_error: OnError = _checked_policy("Supervisor", on_error)
        self._restart = _checked_restart("Supervisor", restart) or RestartPolicy()
        self._logger = logging.getLogger("geartrain") if logger is None else logger
        self._reporter = Reporter(self._logger, self._clock, observer)
        self._budgets = Budgets(in_ns("Supervisor", budget))
        self._hosted: dict[str, Hosted] = {}
        self._launched: list[Hosted] = []
        self._tasks: anyio.abc.TaskGroup | None = None
        self._closed = False
        self._stop = Signal("the supervisor's stop")
        self._all_ended = Signal("the end of all daemons")
        self._exit: BaseException | None = None

    def __repr__(self) -> str:
        daemons = ", ".join(f"{name} {health.state}" for name, health in self.snapshot().items())
        return f"<Supervisor of {daemons or 'nobody'}>"

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def logger(self) -> logging.Logger:
        return self._logger

    @property
    def stop_event(self) -> Signal:
        """Set when the supervisor as a whole was told to stop."""
        return self._stop

    # -- hosting ------------------------------------------------------------------------------------------------

    def add(
        self,
        daemon: "Daemon | type[Daemon] | DaemonFactory[Any]",
        *args: Any,
        name: str | None = None,
        on_error: OnError | None = None,
        restart: RestartPolicy | None = None,
        budget: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Host a daemon. A class, or an `@daemon` factory with its arguments, makes a new object for every life.

        `on_error` and `restart` are the supervisor's unless they are given here. `budget` is how many seconds the body
        of a cycle of `every` may take. One that takes more is the last until `clear_fault`: it is not entered again.
        """
        self._host_new(_recipe(daemon, args, kwargs), name, on_error, restart, budget)

    def add_factory(
        self,
        fn: Callable[[], Daemon],
        *,
        name: str | None = None,
        on_error: OnError | None = None,
        restart: RestartPolicy | None = None,
        budget: float | None = None,
    ) -> None:
        """Host what `fn()` returns, asked again for every life of the daemon."""
        if not callable(fn):
            raise BadType(f"add_factory() expected a function that returns a Daemon, got {fn!r}")
        self._host_new(fn, name, on_error, restart, budget)

    def spawn(self, fn: Callable[..., Awaitable[object]], *args: Any, name: str | None = None, **kwargs: Any) -> None:
        """Host a plain `async def fn(ctx, *args)` as a daemon of its own."""
        checked_function("spawn()", fn)
        title = name or str(getattr(fn, "__name__", type(fn).__name__))
        self._host_new(lambda: FunctionDaemon(fn, title, *args, **kwargs), title, None, None)

    def _host_new(
        self,
        make: Callable[[], Daemon],
        name: str | None,
        on_error: OnError | None,
        restart: RestartPolicy | None,
        budget: float | None = None,
    ) -> None:
        if self._closed:
            raise NotInUse("this supervisor's block has been left; add daemons before or inside `async with`")
        daemon = make()
        if not isinstance(daemon, Daemon):
            raise BadType(f"expected a Daemon from the factory, got {daemon!r}")
        title = _title(daemon, name)
        if title in self._hosted:
            raise BadValue(f"duplicate daemon name {title!r}; pass a unique `name=...`")
        policy = self._on_error if on_error is None else _checked_policy(f"daemon {title!r}", on_error)
        rule = _checked_restart(f"daemon {title!r}", restart) or self._restart
        if restart is not None and policy != "restart":
            raise BadValue(f"daemon {title!r} is given restart=..., which does nothing with on_error={policy!r}")
        budget_ns = in_ns(f"daemon {title!r}", budget)
        hosted = Hosted(title, daemon, make, policy, rule, self, self._reporter, self._budgets, budget_ns)
        self._hosted[title] = hosted
        holders.add(hosted)
        if self._tasks is not None:
            self._launch(hosted)

    def _launch(self, hosted: Hosted) -> None:
        assert self._tasks is not None
        self._launched.append(hosted)
        self._all_ended = Signal("the end of all daemons")
        if self._stop.is_set():
            hosted.ask_stop()
        spot = here()
        turn: Wait | None = None
        if spot.turns is not None:
            # The place in the queue is taken here: the order of start is the order of `add`, on every loop. With
            # microsteps it is that of the names, so the wait is the daemon's own.
            myself = current_owner.set(hosted)
            turn = spot.park()
            current_owner.reset(myself)
            turn.wake()
        self._tasks.start_soon(self._host, hosted, turn, name=hosted.name)

    # -- the block ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._tasks is not None or self._closed:
            raise NotInUse("this supervisor's block has been entered before; make a new Supervisor")
        if isinstance(self._clock, SimClock):
            self._clock.take_part()
        self._tasks = await anyio.create_task_group().__aenter__()
        self._reporter.up()
        for hosted in self._hosted.values():
            self._launch(hosted)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._tasks is not None
        try:
            handled = await self._leave(error)
        except BaseException as failure:
            self._reporter.down(failure)
            raise
        self._reporter.down(None if handled else error)
        return handled

    async def _leave(self, error: BaseException | None) -> bool:
        assert self._tasks is not None
        body_error = error
        if error is None:
            try:
                await self._wait_all_ended()
            except BaseException as met:
                error = met
        if error is not None:
            self._bound_cleanups()
            if isinstance(error, SystemExit | KeyboardInterrupt):
                self._exit = self._exit or error
        try:
            handled = bool(await self._tasks.__aexit__(type(error) if error else None, error, _trace_of(error)))
        finally:
            self._closed = True
            self._tasks = None
            if self._exit is not None:
                raise self._exit
        if error is not body_error and not handled:
            assert error is not None
            raise error
        return handled

    async def _wait_all_ended(self) -> None:
        with anyio.move_on_after(_PATIENCE_S if isinstance(self._clock, SimClock) else None):
            await self._all_have_ended()
        if isinstance(self._clock, SimClock) and not self._clock.driven:
            left = [hosted.name for hosted in self._launched if not hosted.finished]
            if left:
                self._reporter.undriven(left)
        await self._all_have_ended()

    async def _all_have_ended(self) -> None:
        while not all(hosted.finished for hosted in self._launched):
            await self._all_ended.wait()

    # -- stopping -----------------------------------------------------------------------------------------------

    def signal_stop(self) -> None:
        """Tell all daemons at once to stop, and return. Before the block is entered there is nobody to tell."""
        if self._tasks is None:
            return
        self._stop.set()
        for hosted in self._hosted.values():
            hosted.ask_stop()

    async def stop(self, grace: float = 5.0, finalize_timeout: float = 2.0) -> tuple[str, ...]:
        """Stop the daemons in reverse order of start, one after another; answer the names of those that were late.

        All of them together have `grace` seconds: of real time, unless somebody drives a clock with microsteps. Those
        who have not ended by then are cancelled, and their `on_stop` has `finalize_timeout` seconds each. Outside of
        the block nobody is told.
        """
        number("stop() grace", grace, least=0)
        number("stop() finalize_timeout", finalize_timeout, least=0)
        if self._tasks is None:
            return ()
        self._stop.set()
        myself = current_owner.get()
        order = [hosted for hosted in reversed(self._launched) if hosted is not myself]
        # Whoever was added before us has its first step first.
        await take_turn()
        if grace > 0:
            with self._within(grace):
                for hosted in order:
                    hosted.ask_stop()
                    await hosted.ended.wait()
        late = await self._cancel([hosted for hosted in order if not hosted.finished], finalize_timeout)
        if late and grace > 0:
            self._reporter.late(late, grace)
        return late

    async def stop_one(self, name: str, grace: float = 5.0, finalize_timeout: float = 2.0) -> bool:
        """Stop one daemon, as `stop` does; the answer is whether it went by itself."""
        number("stop_one() grace", grace, least=0)
        hosted = self._hosted[name]
        hosted.ask_stop()
        with self._within(grace):
            await hosted.ended.wait()
        return not await self._cancel([hosted] if not hosted.finished else [], finalize_timeout)

    def _within(self, seconds: float) -> AbstractContextManager[object]:
        """Where virtual time is to be the same everywhere, patience is a part of it."""
        clock = self._clock
        is_virtual = isinstance(clock, SimClock) and clock.has_microsteps and clock.driven
        return clock.move_on_after(seconds) if is_virtual else anyio.move_on_after(seconds)

    async def _cancel(self, order: list[Hosted], finalize_timeout: float) -> tuple[str, ...]:
        """Cancel those who do not go by themselves at the last call, one after another; answer who they are."""
        for hosted in order:
            hosted.ask_stop()
        await take_turn()
        cancelled = []
        for hosted in order:
            if not hosted.finished:
                cancelled.append(hosted.name)
                hosted.cancel(finalize_timeout)
                with anyio.move_on_after(finalize_timeout + _DEFIANCE_S) as patience:
                    await hosted.ended.wait()
                if patience.cancelled_caught:
                    self._reporter.defiant(hosted.name)
        return tuple(cancelled)

    # -- budgets ------------------------------------------------------------------------------------------------

    def clear_fault(self, name: str) -> None:
        """Release a daemon that is held because a body took longer than its budget; the next tick is for its body.

        `NotHeld` when it is not held for that, `UnknownDaemon` when nobody has this name: then nothing is done.
        """
        self._reporter.budgets(self._budgets.clear(name))

    def release(self, name: str) -> None:
        """Clear whatever keeps the body of a daemon from being entered: its own fault, and that of the executor.

        With the latter go all who are held for it. `NotHeld` and `UnknownDaemon` as in `clear_fault`.
        """
        self._reporter.budgets(self._budgets.release(name))

    def clear_executor_fault(self) -> None:
        """Release all who are held because a body took longer than the supervisor's budget, and not for their own.

        `NotHeld` when none did.
        """
        self._reporter.budgets(self._budgets.clear_executor())

    # -- watching -----------------------------------------------------------------------------------------------

    async def wait_all_started(self) -> None:
        """Return when `on_start` has returned, or failed for good, in every daemon added so far."""
        for hosted in tuple(self._launched):
            await hosted.started.wait()

    def snapshot(self) -> dict[str, DaemonHealth]:
        """How every daemon is, by name, in the order they were added."""
        return {name: hosted.health() for name, hosted in self._hosted.items()}

    # -- one daemon ---------------------------------------------------------------------------------------------

    async def _host(self, hosted: Hosted, turn: Wait | None) -> None:
        current_owner.set(hosted)
        current_watch.set(hosted.watch)
        try:
            if turn is not None:
                await turn.wait()
            end = await hosted.live()
        finally:
            hosted.end()
            if all(other.finished for other in self._launched):
                self._all_ended.set()
        if end.error is not None:
            self._escalate(hosted, end)

    def _escalate(self, hosted: Hosted, end: End) -> None:
        assert self._tasks is not None
        assert end.error is not None
        assert end.phase is not None
        self._bound_cleanups()
        if not end.exits:
            raise DaemonError(hosted.name, end.phase, end.error, end.deaths)
        if self._exit is None:
            end.error.add_note(f"raised in {end.phase} of daemon {hosted.name!r}")
            self._exit = end.error
        self._tasks.cancel_scope.cancel()

    def _bound_cleanups(self) -> None:
        """Everything is being cancelled: from now on no `on_stop` takes for ever."""
        for hosted in self._hosted.values():
            hosted.bound_cleanup(FINALIZE_TIMEOUT_S)


def _recipe(daemon: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Daemon]:
    """How a daemon is made, each time one is needed."""
    if isinstance(daemon, DaemonFactory):
        if not args and not kwargs:
            raise BadType(
                f"add() got a @daemon factory ({daemon.name!r}), not a Daemon. Call it, sup.add({daemon.name}(...)), "
                f"or, for a fresh one at every restart, give it its arguments, sup.add({daemon.name}, ...)"
            )
        return lambda: daemon(*args, **kwargs)
    if isinstance(daemon, type) and issubclass(daemon, Daemon):
        return lambda: daemon(*args, **kwargs)
    if not isinstance(daemon, Daemon):
        raise BadType(f"add() expected a Daemon, a Daemon class or an @daemon factory, got {daemon!r}")
    if args or kwargs:
        raise BadType(f"add() got arguments for {daemon!r}, which is made already; give them to its class instead")
    return lambda: daemon


def _title(daemon: Daemon, name: str | None) -> str:
    title = name if name is not None else daemon.name or type(daemon).__name__
    if not isinstance(title, str):
        raise BadType(f"a daemon's name must be a string, got {title!r}")
    if not title:
        raise BadValue("a daemon's name must not be empty")
    return title


def _check_clock(clock: object) -> None:
    if clock is None or (isinstance(clock, Clock) and not isinstance(clock, type)):
        return
    lacks = [name for name in dir(Clock) if not name.startswith("_") and not hasattr(clock, name)]
    hint = f"; it lacks {', '.join(lacks)}" if hasattr(clock, "now") and lacks else ""
    raise BadType(f"Supervisor clock must be a Clock, as WallClock() or SimClock(), got {clock!r}{hint}")


def _checked_policy(whose: str, on_error: OnError) -> OnError:
    one_of(f"{whose} on_error", on_error, POLICIES)
    return on_error


def _checked_restart(whose: str, restart: RestartPolicy | None) -> RestartPolicy | None:
    if restart is not None and not isinstance(restart, RestartPolicy):
        raise BadType(f"{whose} restart must be a RestartPolicy, got {restart!r}")
    return restart


def _trace_of(error: BaseException | None) -> TracebackType | None:
    return None if error is None else error.__traceback__
