"""A supervisor inside a task group of one's own, and in a thread for callers that are not async."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import anyio
import pytest

from geartrain import Context, Daemon, DaemonError, SimClock, Supervisor
from geartrain.errors import BadType, BadValue, NotInUse, SetupFailed
from geartrain.recipes import SupervisorHost, host_async_dispatcher

Backend = Literal["asyncio", "trio"]

on_both_loops = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Counter(Daemon):
    """Counts what is pushed into it, until it is asked to stop."""

    def __init__(self, log: list[str] | None = None, name: str = "counter") -> None:
        self.name = name
        self.total = 0
        self.log = [] if log is None else log

    async def on_start(self, ctx: Context) -> None:
        self.log.append(f"{self.name} starts")

    async def run(self, ctx: Context) -> None:
        await ctx.stop_event.wait()

    async def on_stop(self, ctx: Context) -> None:
        self.log.append(f"{self.name} stops")

    async def push(self, number: int) -> int:
        self.total += number
        return self.total


class FailsAtStart(Daemon):
    name = "broken"

    async def on_start(self, ctx: Context) -> None:
        raise RuntimeError("bad start")

    async def run(self, ctx: Context) -> None:
        """Never comes to it."""


class FailsLater(Daemon):
    name = "fragile"

    def __init__(self) -> None:
        self.now = anyio.Event()

    async def run(self, ctx: Context) -> None:
        await self.now.wait()
        raise RuntimeError("bad run")


class IgnoresStop(Daemon):
    name = "stubborn"

    async def run(self, ctx: Context) -> None:
        await anyio.sleep_forever()


class StartsForEver(Daemon):
    name = "slow"

    async def on_start(self, ctx: Context) -> None:
        await anyio.sleep_forever()

    async def run(self, ctx: Context) -> None:
        """Never comes to it."""


def leaves(error: BaseException | None) -> list[BaseException]:
    """The errors in all the groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [] if error is None else [error]


def hosting(*daemons: Daemon, **options: Any) -> SupervisorHost:
    supervisor = Supervisor()
    for daemon in daemons:
        supervisor.add(daemon)
    return SupervisorHost(supervisor, **options)


# -- in a task group --------------------------------------------------------------------------------------------------


async def test_start_returns_when_all_daemons_have_started_and_stop_when_all_have_ended() -> None:
    log: list[str] = []
    host = hosting(Counter(log, "a"), Counter(log, "b"))
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        assert sorted(log) == ["a starts", "b starts"]
        assert {health.state for health in host.snapshot().values()} == {"running"}
        assert await host.stop(grace=5) == ()
        assert log[2:] == ["b stops", "a stops"]
        assert {health.state for health in host.snapshot().values()} == {"stopped"}


async def test_a_host_stays_until_it_is_stopped_also_when_its_daemons_have_ended() -> None:
    class Short(Daemon):
        async def run(self, ctx: Context) -> None:
            """Has nothing to do."""

    host = hosting(Short())
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        host.supervisor.add(Short(), name="added later")
        await host.stop()
    assert [health.state for health in host.snapshot().values()] == ["stopped", "stopped"]


async def test_a_host_that_was_never_started_has_nobody_to_tell() -> None:
    log: list[str] = []
    assert await hosting(Counter(log), on_stopping=lambda: log.append("told")).stop() == ()
    assert log == []


async def test_a_host_that_is_cancelled_still_says_that_it_is_stopping() -> None:
    log: list[str] = []
    host = hosting(Counter([]), on_stopping=lambda: log.append("told"))
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        tasks.cancel_scope.cancel()
    assert log == ["told"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_stopping_is_called_before_the_daemons_are_stopped(is_async: bool) -> None:
    log: list[str] = []

    def told() -> None:
        log.append("told")

    async def told_async() -> None:
        await anyio.lowlevel.checkpoint()
        log.append("told")

    host = hosting(Counter(log), on_stopping=told_async if is_async else told)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        await host.stop(grace=5)
    assert log == ["counter starts", "told", "counter stops"]


async def test_the_daemons_are_stopped_even_when_on_stopping_raises() -> None:
    def told() -> None:
        raise ValueError("not told")

    host = hosting(Counter(), on_stopping=told)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        with pytest.raises(ValueError, match="not told"):
            await host.stop(grace=5)
        state = host.snapshot()["counter"].state
        tasks.cancel_scope.cancel()
    assert state == "stopped"


async def test_stop_answers_who_was_late() -> None:
    host = hosting(Counter(), IgnoresStop())
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        assert await host.stop(grace=0.01) == ("stubborn",)


async def test_the_grace_of_the_host_is_used_unless_another_is_given() -> None:
    class Wants(Supervisor):
        async def stop(self, grace: float = 5.0, finalize_timeout: float = 2.0) -> tuple[str, ...]:
            asked.append((grace, finalize_timeout))
            return await super().stop(grace, finalize_timeout)

    asked: list[tuple[float, float]] = []
    supervisor = Wants()
    supervisor.add(Counter())
    host = SupervisorHost(supervisor, default_grace=3.0, default_finalize_timeout=4.0)
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        await host.stop()
        await host.stop(grace=1.0)
        await host.stop(finalize_timeout=0.0, grace=0.0)
    assert asked == [(3.0, 4.0), (1.0, 4.0), (0.0, 0.0)]


async def test_a_daemon_that_fails_at_start_is_raised_by_start() -> None:
    raised: BaseException | None = None
    with suppress(ExceptionGroup):
        async with anyio.create_task_group() as tasks:
            try:
                await hosting(Counter(), FailsAtStart()).start(tasks)
            except ExceptionGroup as error:
                raised = error
                raise
    (failure,) = leaves(raised)
    assert isinstance(failure, DaemonError)
    assert str(failure) == "daemon 'broken' failed in on_start: RuntimeError: bad start"


async def test_a_daemon_that_fails_later_ends_the_task_group_with_its_error() -> None:
    fragile, log = FailsLater(), list[str]()
    with pytest.raises(ExceptionGroup) as ended:
        async with anyio.create_task_group() as tasks:
            await hosting(fragile, Counter(log)).start(tasks)
            fragile.now.set()
            await anyio.sleep_forever()
    (failure,) = leaves(ended.value)
    assert str(failure) == "daemon 'fragile' failed in run: RuntimeError: bad run"
    assert log == ["counter starts", "counter stops"]


async def test_a_start_that_is_cancelled_ends_what_has_started() -> None:
    log: list[str] = []
    host = hosting(Counter(log), StartsForEver())
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel_when, scope, lambda: log == ["counter starts"])
            await host.start(tasks)
        assert scope.cancelled_caught
    assert log == ["counter starts", "counter stops"]


async def cancel_when(scope: anyio.CancelScope, condition: Callable[[], bool]) -> None:
    while not condition():
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_host_is_started_once() -> None:
    host = hosting(Counter())
    async with anyio.create_task_group() as tasks:
        await host.start(tasks)
        with pytest.raises(NotInUse):
            await host.start(tasks)
        await host.stop(grace=5)


# -- in a thread ------------------------------------------------------------------------------------------------------


@on_both_loops
def test_a_sync_caller_uses_an_object_whose_daemons_run_in_a_thread(backend: Backend) -> None:
    log: list[str] = []
    threads_before = threading.active_count()

    async def setup(supervisor: Supervisor) -> Counter:
        counter = Counter(log)
        supervisor.add(counter)
        return counter

    with host_async_dispatcher(setup, backend=backend) as (portal, counter):
        # Inside the block everybody has started.
        assert log == ["counter starts"]
        assert portal.call(counter.push, 1) == 1
        assert portal.call(counter.push, 10) == 11
    # After it everybody has ended, and the thread is gone.
    assert log == ["counter starts", "counter stops"]
    assert threading.active_count() == threads_before


@on_both_loops
def test_leaving_the_block_lets_the_daemons_finish_what_is_in_hand(backend: Backend) -> None:
    class Careful(Daemon):
        async def run(self, ctx: Context) -> None:
            await ctx.stop_event.wait()
            for number in range(20):
                await anyio.lowlevel.checkpoint()
                put_away.append(number)

    async def setup(supervisor: Supervisor) -> None:
        supervisor.add(Careful())

    put_away: list[int] = []
    with host_async_dispatcher(setup, backend=backend):
        assert put_away == []
    assert put_away == [*range(20)]


@on_both_loops
def test_the_daemons_have_the_clock_that_was_given(backend: Backend) -> None:
    clock = SimClock(5.0)

    async def setup(supervisor: Supervisor) -> float:
        return supervisor.clock.now()

    with host_async_dispatcher(setup, clock=clock, backend=backend) as (portal, now_s):
        assert now_s == 5.0
        portal.call(clock.advance, 10)
    assert clock.now() == 15.0


@on_both_loops
def test_a_setup_that_raises_is_told_with_its_cause(backend: Backend) -> None:
    error = LookupError("no such camera")

    async def setup(supervisor: Supervisor) -> None:
        raise error

    with pytest.raises(SetupFailed) as failed:
        with host_async_dispatcher(setup, backend=backend):
            pytest.fail("the block must not be entered")
    assert leaves(failed.value.__cause__) == [error]
    assert isinstance(failed.value, RuntimeError)


@on_both_loops
def test_a_daemon_that_does_not_start_is_a_setup_that_failed(backend: Backend) -> None:
    log: list[str] = []

    async def setup(supervisor: Supervisor) -> None:
        supervisor.add(Counter(log))
        supervisor.add(FailsAtStart())

    with pytest.raises(SetupFailed) as failed:
        with host_async_dispatcher(setup, backend=backend):
            pytest.fail("the block must not be entered")
    (failure,) = leaves(failed.value.__cause__)
    assert str(failure) == "daemon 'broken' failed in on_start: RuntimeError: bad start"
    assert log in ([], ["counter starts", "counter stops"])


@on_both_loops
def test_a_setup_that_failed_says_in_its_message_what_has_failed(backend: Backend) -> None:
    async def setup(supervisor: Supervisor) -> None:
        supervisor.add(FailsAtStart())

    with pytest.raises(SetupFailed, match="daemon 'broken' failed in on_start: RuntimeError: bad start"):
        with host_async_dispatcher(setup, backend=backend):
            pytest.fail("the block must not be entered")


@on_both_loops
def test_a_start_that_takes_longer_than_ready_timeout_is_given_up(backend: Backend) -> None:
    async def setup(supervisor: Supervisor) -> None:
        supervisor.add(StartsForEver())

    with pytest.raises(SetupFailed) as failed:
        with host_async_dispatcher(setup, backend=backend, ready_timeout=0.01):
            pytest.fail("the block must not be entered")
    assert [type(leaf) for leaf in leaves(failed.value.__cause__)] == [TimeoutError]


@on_both_loops
def test_a_setup_that_was_given_up_says_how_long_it_had(backend: Backend) -> None:
    async def setup(supervisor: Supervisor) -> None:
        await anyio.sleep_forever()

    with pytest.raises(SetupFailed, match=r"0\.01"):
        with host_async_dispatcher(setup, backend=backend, ready_timeout=0.01):
            pytest.fail("the block must not be entered")


@on_both_loops
def test_a_daemon_that_fails_inside_the_block_is_raised_when_it_is_left(backend: Backend) -> None:
    async def setup(supervisor: Supervisor) -> FailsLater:
        fragile = FailsLater()
        supervisor.add(fragile)
        return fragile

    with pytest.raises(ExceptionGroup) as ended:
        with host_async_dispatcher(setup, backend=backend) as (portal, fragile):
            portal.call(fragile.now.set)
    (failure,) = leaves(ended.value)
    assert str(failure) == "daemon 'fragile' failed in run: RuntimeError: bad run"


@on_both_loops
def test_an_error_inside_the_block_stops_the_daemons_and_is_raised(backend: Backend) -> None:
    log: list[str] = []
    error = LookupError("of the caller")

    async def setup(supervisor: Supervisor) -> None:
        supervisor.add(Counter(log))

    with pytest.raises(BaseException) as ended:  # noqa: PT011 -- what is raised is looked at below
        with host_async_dispatcher(setup, backend=backend):
            raise error
    assert leaves(ended.value) == [error]
    assert log == ["counter starts", "counter stops"]


@on_both_loops
def test_an_error_inside_the_block_is_raised_as_it_is_for_a_sync_caller_knows_no_groups(backend: Backend) -> None:
    async def setup(supervisor: Supervisor) -> None:
        supervisor.add(Counter())

    raised: BaseException | None = None
    try:
        with host_async_dispatcher(setup, backend=backend):
            raise LookupError("of the caller")
    except BaseException as error:
        raised = error
    assert type(raised) is LookupError


@pytest.mark.parametrize(("ready_timeout", "kind"), [(-1, BadValue), (float("nan"), BadValue), ("1s", BadType)])
def test_a_ready_timeout_that_makes_no_sense_is_refused(ready_timeout: Any, kind: type[Exception]) -> None:
    async def setup(supervisor: Supervisor) -> None:
        pytest.fail("it must not come to this")

    with pytest.raises(kind, match=r"^ready_timeout must be"):
        with host_async_dispatcher(setup, ready_timeout=ready_timeout):
            pytest.fail("the block must not be entered")
