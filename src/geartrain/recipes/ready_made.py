"""Recipes as daemons, for pipelines: `run = "geartrain.recipes:Merge"`.

    Tee           one to all       LoadBalance    one to one of n
    Merge         all to one       WorkerPool     n at work

They carry whatever their channels carry: the type of an item is that of the other end. They keep no item of their own
between two lives, so they may be restarted.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.declare import load
from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.errors import CannotLoad
from geartrain.recipes.routing import load_balance, merge, tee, work_through

T = TypeVar("T")
Req = TypeVar("Req")
Resp = TypeVar("Resp")


class Tee(Daemon, Generic[T]):
    """Sends every item to every destination; the slowest of them sets the pace."""

    def __init__(self, source: ReceiveStream[T], dests: list[SendStream[T]]) -> None:
        self.source = source
        self.dests = dests

    async def run(self, ctx: Context) -> None:
        await tee(self.source, *self.dests)


class Merge(Daemon, Generic[T]):
    """Sends the items of all sources to one destination. A busy source does not shut out the others."""

    def __init__(self, sources: list[ReceiveStream[T]], dest: SendStream[T]) -> None:
        self.sources = sources
        self.dest = dest

    async def run(self, ctx: Context) -> None:
        await merge(self.sources, self.dest)


class LoadBalance(Daemon, Generic[T]):
    """Sends each item to one destination, in turn."""

    def __init__(self, source: ReceiveStream[T], dests: list[SendStream[T]]) -> None:
        self.source = source
        self.dests = dests

    async def run(self, ctx: Context) -> None:
        await load_balance(self.source, self.dests)


class WorkerPool(Daemon, Generic[Req, Resp]):
    """Handles up to `workers` items at a time with an `async def` named "module:attr"; results as they are finished.

    What the handler raises is the daemon's error, and its policy decides: an exception cannot travel as a result. In a
    pipeline an item is stable when its result is, so a pool that dies loses none: it meets again what it had in hand,
    one item at a time, and one that fails it again and again is set aside.
    """

    def __init__(
        self,
        incoming: ReceiveStream[Req],
        results: SendStream[Resp],
        handle: str,
        workers: int = 1,
        worker_buffer: int = 0,
    ) -> None:
        self.incoming = incoming
        self.results = results
        self._handle = _handler(handle)
        self._workers = workers
        self._worker_buffer = worker_buffer

    async def run(self, ctx: Context) -> None:
        await work_through(
            self.incoming, self._put, self._handle, workers=self._workers, worker_buffer=self._worker_buffer
        )
        await self.results.aclose()

    async def _put(self, result: Resp | Exception) -> None:
        if isinstance(result, Exception):
            raise result
        await self.results.send(result)


def _handler(name: str) -> Callable[[Any], Awaitable[Any]]:
    handle: Callable[[Any], Awaitable[Any]] = load(name)
    if not callable(handle):
        raise CannotLoad(f"{name} is a {type(handle).__name__}; expected an `async def` that handles one item")
    return handle
