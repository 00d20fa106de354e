"""Recipes that wait for more than one thing: the first of several channels or clients, a batch, a tick or a stop."""

import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from geartrain.engine.calls import Calls
from geartrain.engine.channel import open_channel
from geartrain.engine.context import Context
from geartrain.engine.ends import Channel, ReceiveStream, SendStream
from geartrain.engine.signal import Lock, Signal
from geartrain.errors import BadReply, BadValue, ChannelClosed, EndOfStream, WouldBlock
from geartrain.ports.clock import Clock, Ticks
from geartrain.ports.parking import park
from geartrain.ports.turns import Owner
from geartrain.rules.checks import number, whole
from geartrain.rules.deadlock import Waiting

T = TypeVar("T")
Req = TypeVar("Req")
Resp = TypeVar("Resp")


# -- select ---------------------------------------------------------------------------------------------------------


async def select(*receivers: ReceiveStream[T]) -> tuple[int, T]:
    """The first item to be had from any of them, and the index of its channel. The others keep theirs.

    When several have one, the channel that was served longest ago goes first; in virtual time with microsteps, the item
    that came first. Ended channels are passed over;
    `EndOfStream` when all have ended.
    """
    index = await first_ready(*receivers)
    return index, await receivers[index].receive()


async def first_ready(*receivers: ReceiveStream[T]) -> int:
    """The index of the channel that `select` would take from. Takes nothing."""
    if not receivers:
        raise BadValue("select() requires at least one receiver")
    while True:
        living = _living(receivers)
        ready = [index for index in living if receivers[index].has_item()]
        if ready:
            index = _first_of(ready, receivers)
            _served[receivers[index]] = next(_turns)
            return index
        await _Asking([receivers[index] for index in living]).wait()


def _first_of(ready: Sequence[int], receivers: Sequence[ReceiveStream[Any]]) -> int:
    came = {index: receivers[index].came for index in ready}
    if all(when is not None for when in came.values()):
        return min(ready, key=lambda index: came[index] or ())
    return min(ready, key=lambda index: (_served.get(receivers[index], 0), index))


_turns = itertools.count(1)
_served: WeakKeyDictionary[ReceiveStream[Any], int] = WeakKeyDictionary()


def _living(receivers: Sequence[ReceiveStream[Any]]) -> list[int]:
    living = []
    ended: EndOfStream | None = None
    for index, receiver in enumerate(receivers):
        try:
            receiver.has_item()
        except EndOfStream as end:
            ended = end
        else:
            living.append(index)
    if not living:
        raise EndOfStream("all channels of this select() have ended") from ended
    return living


class _Asking:
    """One wait at several ends. The first to have something withdraws it from all, before another can answer."""

    def __init__(self, receivers: Sequence[ReceiveStream[Any]]) -> None:
        self._receivers = receivers
        self._asked: list[ReceiveStream[Any]] = []
        self._wait = park(self)

    async def wait(self) -> None:
        try:
            for receiver in self._receivers:
                receiver.ask(self)
                self._asked.append(receiver)
            await self._wait.wait()
        finally:
            self._withdraw()

    def wake(self) -> None:
        self._withdraw()
        self._wait.wake()

    def _withdraw(self) -> None:
        for receiver in self._asked:
            receiver.withdraw()
        self._asked = []

    def waiting_for(self, owner: Owner) -> Waiting:
        waits = [receiver.waiting_for(owner) for receiver in self._receivers]
        if any(wait.helpers is None for wait in waits):
            return Waiting(owner.name, "waits in select()", None)
        helpers = tuple(helper for wait in waits for helper in wait.helpers or ())
        return Waiting(owner.name, "; or ".join(wait.what for wait in waits), helpers)


# -- batches --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pending(Generic[Req, Resp]):
    """A request on its way into a batch, and the channel its answer goes to."""

    req: Req
    reply: Channel[Resp | Exception]


async def batcher_loop(
    incoming: ReceiveStream[Pending[Req, Resp]],
    forward: Callable[[list[Req]], Awaitable[list[Resp]]],
    *,
    max_batch: int = 32,
    max_queue_delay: float = 0.0,
    clock: Clock | None = None,
) -> None:
    """Answer requests in batches, until `incoming` ends.

    A batch is what is there already, or what comes within `max_queue_delay` seconds of its first request, and
    `max_batch` at most. What `forward` raises is the answer to everybody in the batch. Cancelled, the batch
    in hand is forwarded again when the loop runs again.
    """
    whole("max_batch", max_batch, least=1)
    number("max_queue_delay", max_queue_delay, least=0)
    if max_queue_delay > 0 and clock is None:
        raise BadValue("max_queue_delay > 0 requires a clock for the timer")
    desk: _Desk[Req, Resp] = _desks.setdefault(incoming, _Desk())
    while True:
        await desk.answer()
        if not await desk.fill(incoming, max_batch, max_queue_delay, clock):
            return
        desk.keep_answers(await desk.forwarded(forward))


class _Desk(Generic[Req, Resp]):
    """The batch in hand and the answers not yet given. It outlives the run that is cancelled."""

    def __init__(self) -> None:
        self.batch: list[Pending[Req, Resp]] = []
        self._answers: deque[tuple[SendStream[Resp | Exception], Resp | Exception]] = deque()

    async def fill(
        self, incoming: ReceiveStream[Pending[Req, Resp]], most: int, delay_s: float, clock: Clock | None
    ) -> bool:
        """Gather a batch; False when there is none and there will be none."""
        try:
            if not self.batch:
                self.batch.append(await incoming.receive())
            self._fill_at_once(incoming, most)
            if clock is not None and delay_s > 0 and len(self.batch) < most:
                with clock.move_on_after(delay_s):
                    while len(self.batch) < most:
                        self.batch.append(await incoming.receive())
        except EndOfStream:
            # What was gathered so far is the last batch.
            return bool(self.batch)
        return True

    def _fill_at_once(self, incoming: ReceiveStream[Pending[Req, Resp]], most: int) -> None:
        try:
            while len(self.batch) < most:
                self.batch.append(incoming.receive_nowait())
        except WouldBlock:
            return

    async def forwarded(self, forward: Callable[[list[Req]], Awaitable[list[Resp]]]) -> Sequence[Resp | Exception]:
        requests = [pending.req for pending in self.batch]
        try:
            responses = await forward(requests)
        except Exception as error:
            return [error] * len(requests)
        if not isinstance(responses, Sequence):
            return [BadReply(f"forward returned {responses!r}, and no list of responses")] * len(requests)
        if len(responses) == len(requests):
            return responses
        return [BadReply(f"forward returned {len(responses)} responses for {len(requests)} requests")] * len(requests)

    def keep_answers(self, answers: Sequence[Resp | Exception]) -> None:
        self._answers.extend((pending.reply.send, answer) for pending, answer in zip(self.batch, answers, strict=True))
        self.batch = []

    async def answer(self) -> None:
        """Give the answers. A caller that has left does not get one."""
        while self._answers:
            reply, answer = self._answers[0]
            try:
                await reply.send(answer)
            except ChannelClosed:
                self._answers.popleft()
                continue
            self._answers.popleft()


_desks: WeakKeyDictionary[ReceiveStream[Any], _Desk[Any, Any]] = WeakKeyDictionary()


async def submit(out: SendStream[Pending[Req, Resp]], req: Req) -> Resp:
    """Send one request into a batcher and wait for its answer. Many tasks may submit through one stream."""
    reply: Channel[Resp | Exception] = open_channel(maxsize=1)
    async with _doors.setdefault(out, Lock()):
        await out.send(Pending(req, reply))
    try:
        answer = await reply.recv.receive()
    finally:
        await reply.recv.aclose()
    if isinstance(answer, Exception):
        raise answer
    return answer


_doors: WeakKeyDictionary[SendStream[Any], Lock] = WeakKeyDictionary()


# -- calls ----------------------------------------------------------------------------------------------------------


async def serve(handler: Callable[[Req], Awaitable[Resp]], *ports: Calls[Req, Resp]) -> None:
    """Answer the calls of several clients, one at a time, by what the handler returns or raises, until all have closed.

    So the handler needs no lock for what it keeps. When several wait, the one that was served longest ago goes first.
    """
    for port in ports:
        port.take_up()
    while True:
        try:
            _, call = await select(*ports)
        except EndOfStream:
            return
        async with call:
            await call.reply(await handler(call.request))


# -- ticks ----------------------------------------------------------------------------------------------------------


def cooperative_every(ctx: Context, period: float) -> AsyncIterator[float]:
    """The ticks of `ctx.clock.every(period)`, which end as soon as the daemon is asked to stop."""
    return _CooperativeTicks(ctx.clock, period, ctx.stop_event)


class _CooperativeTicks(Ticks):
    def __init__(self, clock: Clock, period: float, stop: Signal) -> None:
        super().__init__(clock, period, "after")
        self._stop = stop

    async def __anext__(self) -> float:
        await self._wait(self._begin_wait())
        while self._guard is not None and self._guard.holds_back():
            await self._pass(self._guard)
            await self._wait(self._begin_wait())
        return self._begin_cycle()

    async def _wait(self, due_ns: int) -> None:
        if not self._stop.is_set():
            with self._clock.move_on_after((due_ns - self._clock.now_ns()) / 1e9):
                await self._stop.wait()
        if self._stop.is_set():
            raise StopAsyncIteration
