"""Recipes as daemons, for pipelines: `run = "geartrain.recipes:Merge"`.

    Tee           one to all       LoadBalance    one to one of n
    Merge         all to one       WorkerPool     n at work

They carry whatever their channels carry: the type of an item is that of the other end. They keep no item of their own
between two lives, so they may be restarted.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio

from geartrain.engine.channel import open_channel
from geartrain.engine.context import Context
from geartrain.engine.daemon import Daemon
from geartrain.engine.declare import load
from geartrain.engine.ends import Channel, ReceiveStream, SendStream
from geartrain.errors import CannotLoad, EndOfStream, WouldBlock
from geartrain.recipes.in_hand import hand_of
from geartrain.recipes.routing import load_balance, merge, tee, worker_pool

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

    What the handler raises is the daemon's error, and its policy decides: an exception cannot travel as a result.
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
        done: Channel[Resp | Exception] = open_channel()
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._work, done.send)
                failure = await self._deliver(done.recv)
                tasks.cancel_scope.cancel()
        except ExceptionGroup as group:
            # Nobody is behind this pool any more, or nobody before it: said plainly, as by the other recipes.
            raise group.exceptions[0] from None
        finally:
            self._keep_what_is_done(done.recv)
        if failure is not None:
            raise failure
        await self.results.aclose()

    async def _work(self, done: SendStream[Resp | Exception]) -> None:
        await worker_pool(self.incoming, done, self._handle, workers=self._workers, worker_buffer=self._worker_buffer)

    async def _deliver(self, done: ReceiveStream[Resp | Exception]) -> Exception | None:
        """Pass results on; the first that is an error ends it, and is the answer."""
        hand = hand_of(self.results)
        with suppress(EndOfStream):
            while True:
                await hand.pass_on()
                await done.wait_item()
                await self.results.wait_room()
                result = done.receive_nowait()
                if isinstance(result, Exception):
                    return result
                hand.take(result, (self.results,))
        return None

    def _keep_what_is_done(self, done: ReceiveStream[Resp | Exception]) -> None:
        """A result that was given, and not taken because of a cancellation, goes out in the next life."""
        with suppress(WouldBlock, EndOfStream):
            result = done.receive_nowait()
            if not isinstance(result, Exception):
                hand_of(self.results).take(result, (self.results,))


def _handler(name: str) -> Callable[[Any], Awaitable[Any]]:
    handle: Callable[[Any], Awaitable[Any]] = load(name)
    if not callable(handle):
        raise CannotLoad(f"{name} is a {type(handle).__name__}; expected an `async def` that handles one item")
    return handle
