"""Recipes that host a supervisor inside something else: a task group of yours, or a thread for sync callers."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import anyio
import anyio.abc
from anyio.from_thread import BlockingPortal, start_blocking_portal

from geartrain.engine.hosted import DaemonHealth
from geartrain.engine.signal import Signal
from geartrain.engine.supervisor import Supervisor
from geartrain.errors import SetupFailed, in_words
from geartrain.ports.clock import Clock
from geartrain.ports.parking import here
from geartrain.rules.checks import number

D = TypeVar("D")


@dataclass
class SupervisorHost:
    """Runs a supervisor in a task group that you own: `await host.start(tasks)`, ..., `await host.stop()`."""

    supervisor: Supervisor
    on_stopping: Callable[[], Awaitable[None] | None] | None = None
    default_grace: float = 0.0
    default_finalize_timeout: float = 2.0

    def __post_init__(self) -> None:
        self._told_to_stop = Signal("the stop of a hosted supervisor")
        self._running = False
        self._told = False

    async def start(self, task_group: anyio.abc.TaskGroup) -> None:
        """Return when all daemons have started; a failure at start is raised here."""
        await task_group.start(self._run)

    async def stop(self, *, grace: float | None = None, finalize_timeout: float | None = None) -> tuple[str, ...]:
        """Call `on_stopping`, then stop the daemons; answer who was late. Without a start there is nobody to stop."""
        try:
            if self._running:
                await self._tell()
        finally:
            late = await self.supervisor.stop(
                grace=self.default_grace if grace is None else grace,
                finalize_timeout=self.default_finalize_timeout if finalize_timeout is None else finalize_timeout,
            )
            self._told_to_stop.set()
        return late

    def snapshot(self) -> dict[str, DaemonHealth]:
        return self.supervisor.snapshot()

    async def _run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with self.supervisor:
            await _ready(self.supervisor)
            self._running = True
            task_status.started()
            try:
                # Daemons may be added until the host is stopped, also when all the others have ended.
                await self._told_to_stop.wait()
            finally:
                with anyio.CancelScope(shield=True):
                    await self._tell()
                self._running = False

    async def _tell(self) -> None:
        """Call `on_stopping`, once, however it comes to the stop."""
        if self._told or self.on_stopping is None:
            return
        self._told = True
        answer = self.on_stopping()
        if inspect.isawaitable(answer):
            await answer


@contextmanager
def host_async_dispatcher(
    setup: Callable[[Supervisor], Coroutine[Any, Any, D]],
    *,
    clock: Clock | None = None,
    backend: Literal["asyncio", "trio"] = "asyncio",
    ready_timeout: float = 10.0,
) -> Iterator[tuple[BlockingPortal, D]]:
    """Run a supervisor in a thread of its own, for callers that are not async.

        with host_async_dispatcher(setup) as (portal, dispatcher):
            portal.call(dispatcher.push, 1)

    `setup(supervisor)` adds the daemons and returns the object to call. Leaving the block stops the daemons.
    """
    number("ready_timeout", ready_timeout, least=0)
    with start_blocking_portal(backend) as portal, ExitStack() as stack:
        hosting = portal.wrap_async_context_manager(_hosting(setup, clock, ready_timeout))
        try:
            dispatcher = stack.enter_context(hosting)
        except Exception as error:
            raise SetupFailed(f"async setup failed: {in_words(error)}") from error
        try:
            yield portal, dispatcher
        except BaseException:
            # The daemons are stopped in order, and the caller's error comes out as it is.
            stack.close()
            raise


@asynccontextmanager
async def _hosting(
    setup: Callable[[Supervisor], Coroutine[Any, Any, D]], clock: Clock | None, ready_timeout: float
) -> AsyncIterator[D]:
    async with Supervisor(clock=clock) as supervisor:
        with anyio.move_on_after(ready_timeout) as patience:
            dispatcher = await setup(supervisor)
            await _ready(supervisor)
        if patience.cancelled_caught:
            raise TimeoutError(f"not ready within {ready_timeout:g} s")
        yield dispatcher
        await supervisor.stop()


async def _ready(supervisor: Supervisor) -> None:
    """Return when all have started. After a failed start the supervisor is being cancelled: let that be met here."""
    await supervisor.wait_all_started()
    while any(health.state == "failed" for health in supervisor.snapshot().values()):
        await here().ways.checkpoint()
