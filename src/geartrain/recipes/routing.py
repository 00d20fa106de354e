"""Recipes that move items between channels: every edge stays one writer and one reader.

    tee             one to all        each item to every destination
    merge           all to one        whichever source is ready, each in its turn
    load_balance    one to one of n   round robin
    worker_pool     n at work         results in the order of finishing

Each runs until its sources have ended, then closes its outputs. None loses or doubles an item when it is
cancelled: run again on the same channels, it goes on where it was.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

import anyio

from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.engine.signal import Bell
from geartrain.errors import BadValue, ChannelClosed, EndOfStream, WouldBlock
from geartrain.recipes.coordination import first_ready
from geartrain.recipes.in_hand import close_all, hand_of, wait_room_in_all
from geartrain.rules.checks import whole

T = TypeVar("T")
Req = TypeVar("Req")
Resp = TypeVar("Resp")


async def tee(src: ReceiveStream[T], *dests: SendStream[T]) -> None:
    """Send every item to every destination; the slowest of them sets the pace."""
    if not dests:
        raise BadValue("tee() requires at least one destination")
    hand = hand_of(src)
    with suppress(EndOfStream):
        while True:
            await hand.pass_on()
            await src.wait_item()
            await wait_room_in_all(dests)
            # A lossy writer may have thrown it away meanwhile.
            if src.has_item():
                hand.take(src.receive_nowait(), dests)
    await close_all(dests)


async def merge(sources: Sequence[ReceiveStream[T]], dest: SendStream[T], *, close_dest: bool = True) -> None:
    """Send the items of all sources to one destination. A busy source does not shut out the others."""
    if not sources:
        raise BadValue("merge() requires at least one source")
    hand = hand_of(dest)
    with suppress(EndOfStream):
        while True:
            await hand.pass_on()
            ready = sources[await first_ready(*sources)]
            await dest.wait_room()
            with suppress(EndOfStream, WouldBlock):
                hand.take(ready.receive_nowait(), (dest,))
    if close_dest:
        await dest.aclose()


async def load_balance(source: ReceiveStream[T], dests: Sequence[SendStream[T]], *, close_dests: bool = True) -> None:
    """Send each item to one destination, in turn."""
    if not dests:
        raise BadValue("load_balance() requires at least one destination")
    hand = hand_of(source)
    turn = 0
    with suppress(EndOfStream):
        while True:
            await hand.pass_on()
            await source.wait_item()
            dest = dests[turn % len(dests)]
            await dest.wait_room()
            if source.has_item():
                hand.take(source.receive_nowait(), (dest,))
                turn += 1
    if close_dests:
        await close_all(dests)


async def worker_pool(
    incoming: ReceiveStream[Req],
    results: SendStream[Resp | Exception],
    handle: Callable[[Req], Awaitable[Resp]],
    *,
    workers: int = 1,
    worker_buffer: int = 0,
    close_results: bool = True,
) -> None:
    """Handle up to `workers` items at a time. What `handle` raises is its result.

    `worker_buffer` items per worker are fetched ahead. Cancelled, an item that was being handled is handled
    again when the pool runs again.
    """
    whole("workers", workers, least=1)
    whole("worker_buffer", worker_buffer, least=0)
    pool = cast("_Pool[Req, Resp]", _pools.setdefault(incoming, _Pool()))
    pool.ended = False
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.fetch, incoming, workers * (1 + worker_buffer))
            for _ in range(workers):
                tasks.start_soon(pool.work, handle)
            await pool.deliver(results)
    except ExceptionGroup as group:
        # Whoever reads the results has closed: that is said plainly, as by the other recipes.
        if isinstance(group.exceptions[0], ChannelClosed):
            raise group.exceptions[0] from None
        raise
    if close_results:
        await results.aclose()


class _Pool(Generic[Req, Resp]):
    """The jobs of a pool: waiting, in work, done but not delivered. It outlives the run that is cancelled."""

    def __init__(self) -> None:
        self.ended = False
        self._changed = Bell()
        self._waiting: deque[Req] = deque()
        self._at_work = 0
        self._done: deque[Resp | Exception] = deque()

    @property
    def _in_hand(self) -> int:
        return len(self._waiting) + self._at_work + len(self._done)

    async def fetch(self, incoming: ReceiveStream[Req], most: int) -> None:
        try:
            while True:
                while self._in_hand >= most:
                    await self._changed.wait()
                self._waiting.append(await incoming.receive())
                self._changed.ring()
        except EndOfStream:
            self.ended = True
            self._changed.ring()

    async def work(self, handle: Callable[[Req], Awaitable[Resp]]) -> None:
        while True:
            while not self._waiting:
                if self.ended:
                    return
                await self._changed.wait()
            job = self._waiting.popleft()
            self._at_work += 1
            try:
                result = await _outcome(handle, job)
            except BaseException:
                self._waiting.appendleft(job)
                raise
            finally:
                self._at_work -= 1
            self._done.append(result)
            self._changed.ring()

    async def deliver(self, results: SendStream[Resp | Exception]) -> None:
        while True:
            while self._done:
                await results.send(self._done[0])
                self._done.popleft()
                self._changed.ring()
            if self.ended and not self._in_hand:
                return
            await self._changed.wait()


_pools: WeakKeyDictionary[ReceiveStream[Any], _Pool[Any, Any]] = WeakKeyDictionary()


async def _outcome(handle: Callable[[Req], Awaitable[Resp]], job: Req) -> Resp | Exception:
    try:
        return await handle(job)
    except Exception as error:
        return error
