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
from geartrain.rules.pipeline import Mark

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
    again when the pool runs again. An item is stable when its result is, and that of every item before it.
    """
    await work_through(incoming, results.send, handle, workers=workers, worker_buffer=worker_buffer)
    if close_results:
        await results.aclose()


async def work_through(
    incoming: ReceiveStream[Req],
    put: Callable[[Resp | Exception], Awaitable[None]],
    handle: Callable[[Req], Awaitable[Resp]],
    *,
    workers: int,
    worker_buffer: int,
) -> None:
    """A pool whose results go where `put` brings them. What it raises ends the pool."""
    whole("workers", workers, least=1)
    whole("worker_buffer", worker_buffer, least=0)
    incoming.ack_manually()
    pool = cast("_Pool[Req, Resp]", _pools.setdefault(incoming, _Pool()))
    pool.begin(incoming)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.fetch, incoming, workers * (1 + worker_buffer))
            for _ in range(workers):
                tasks.start_soon(pool.work, handle)
            await pool.deliver(incoming, put)
    except ExceptionGroup as group:
        # Nobody wants what it says: that is said plainly, as by the other recipes.
        if len(group.exceptions) == 1 or isinstance(group.exceptions[0], ChannelClosed):
            raise group.exceptions[0] from None
        raise


class _Job(Generic[Req, Resp]):
    """An item, its mark, and what has come of it."""

    def __init__(self, item: Req, mark: Mark) -> None:
        self.item = item
        self.mark = mark
        self.result: Resp | Exception | None = None


class _Pool(Generic[Req, Resp]):
    """The jobs of a pool: waiting, in work, done but not delivered. It outlives the run that is cancelled."""

    def __init__(self) -> None:
        self.ended = False
        self._changed = Bell()
        self._waiting: deque[_Job[Req, Resp]] = deque()
        self._at_work = 0
        self._done: deque[_Job[Req, Resp]] = deque()
        # Those whose results have not been delivered, in the order in which they came.
        self._open: dict[_Job[Req, Resp], None] = {}

    def begin(self, incoming: ReceiveStream[Req]) -> None:
        """Once more. What the channel will bring again is forgotten, and so is what ended the last pool."""
        self.ended = False
        last = incoming.mark
        self._waiting = deque(job for job in self._waiting if job.mark <= last)
        self._done = deque(job for job in self._done if job.mark <= last)
        kept = {*self._waiting, *self._done}
        self._open = {job: None for job in self._open if job in kept}

    @property
    def _in_hand(self) -> int:
        return len(self._waiting) + self._at_work + len(self._done)

    async def fetch(self, incoming: ReceiveStream[Req], most: int) -> None:
        try:
            while True:
                # One item of those that come again may be what killed the last pool: each is in hand alone.
                while self._in_hand >= (1 if incoming.mark.redelivered else most):
                    await self._changed.wait()
                item = await incoming.receive()
                job: _Job[Req, Resp] = _Job(item, incoming.mark)
                self._open[job] = None
                self._waiting.append(job)
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
                job.result = await _outcome(handle, job.item)
            except BaseException:
                self._waiting.appendleft(job)
                raise
            finally:
                self._at_work -= 1
            self._done.append(job)
            self._changed.ring()

    async def deliver(self, incoming: ReceiveStream[Req], put: Callable[[Resp | Exception], Awaitable[None]]) -> None:
        while True:
            while self._done:
                job = self._done[0]
                await self._put(job, put)
                self._done.popleft()
                self._close(job, incoming)
                self._changed.ring()
            if self.ended and not self._in_hand:
                return
            await self._changed.wait()

    async def _put(self, job: _Job[Req, Resp], put: Callable[[Resp | Exception], Awaitable[None]]) -> None:
        try:
            await put(cast("Resp | Exception", job.result))
        except Exception as error:
            if error is job.result:
                # It is no result but the end of this pool, and the next one goes on behind it.
                self._done.popleft()
            raise

    def _close(self, job: _Job[Req, Resp], incoming: ReceiveStream[Req]) -> None:
        """Done with is what came before the first job that is open."""
        del self._open[job]
        first = next(iter(self._open), None)
        incoming.done(incoming.mark if first is None else Mark(first.mark.epoch, first.mark.sequence - 1))


_pools: WeakKeyDictionary[ReceiveStream[Any], _Pool[Any, Any]] = WeakKeyDictionary()


async def _outcome(handle: Callable[[Req], Awaitable[Resp]], job: Req) -> Resp | Exception:
    try:
        return await handle(job)
    except Exception as error:
        return error
