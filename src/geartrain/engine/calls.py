"""Request and reply: the two ends of a call port, over a pair of channels.

    client    answer = await svc.call(request)             Caller[Request, Reply]
    server    await calls.serve(handler)                   Calls[Request, Reply]
              async for call in calls:                     the same by hand
                  async with call:                         what is raised in here is the answer
                      await call.reply(...)

Several tasks of a client may call at a time: they take turns at the one writing end, and whoever brings a reply wakes
the task it is for. At most `maxsize` calls are under way. A call that is cancelled, or takes too long, is withdrawn:
a late reply is dropped and counted.
"""

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import msgspec

from geartrain.engine.channel import open_channel
from geartrain.engine.ends import Asker, Channel, ChannelStats, ReceiveStream, SendStream
from geartrain.engine.signal import Bell, Lock
from geartrain.errors import (
    BadReply,
    CallFailed,
    CallTimeout,
    ChannelClosed,
    GeartrainError,
    NotInUse,
    PeerLost,
    PeerRefused,
    ServerGone,
    WireError,
)
from geartrain.ports.clock import Clock, WallClock
from geartrain.ports.parking import park
from geartrain.ports.turns import Owner, Wait, current_owner
from geartrain.rules.calls import (
    MESSAGE_MOST,
    TRACE_MOST,
    Answered,
    Book,
    CallStats,
    Failure,
    Reply,
    Request,
    RequestHead,
)
from geartrain.rules.checks import number, whole
from geartrain.rules.deadlock import Waiting
from geartrain.rules.pipeline import MAXSIZE, Mark

Q = TypeVar("Q")
A = TypeVar("A")

_wall = WallClock()


# -- the client -------------------------------------------------------------------------------------------------------


class _Pending:
    """One call that waits for its reply."""

    __slots__ = ("reply", "wait")

    def __init__(self) -> None:
        self.reply: Reply[Any] | None = None
        self.wait: Wait | None = None

    def wake(self) -> None:
        if self.wait is not None:
            self.wait.wake()


class Caller(Generic[Q, A]):
    """The end that asks. Any number of tasks of one daemon may call at a time."""

    def __init__(
        self,
        requests: SendStream[Request[Q]],
        replies: ReceiveStream[Reply[A]],
        *,
        name: str = "",
        maxsize: int = MAXSIZE,
        life: int = 0,
    ) -> None:
        self._requests = requests
        self._replies = replies
        self._name = name
        self._book = Book(life, maxsize)
        self._pending: dict[int, _Pending] = {}
        self._door = Lock()
        self._room = Bell()
        self._asks = False
        self._lost: GeartrainError | None = None
        self._owner: Owner | None = None

    def __repr__(self) -> str:
        return f"<calls over {self}>"

    def __str__(self) -> str:
        return f"channel {self._name!r}" if self._name else "a call port"

    async def call(self, request: Q, timeout: float | None = None, *, clock: Clock | None = None) -> A:
        """Ask, and wait for the answer. Cancelled, the call is withdrawn.

        `timeout` are seconds of `clock`, of real time without one, from now to the answer; then `CallTimeout`.
        `CallFailed` when the server raised, `ServerGone` when there is none any more, and will be none.
        """
        if timeout is None:
            return await self._call(request)
        with (clock or _wall).move_on_after(number("call() timeout", timeout, least=0)):
            return await self._call(request)
        raise CallTimeout(f"no answer over {self} within {timeout:g} s; the call is withdrawn")

    async def _call(self, request: Q) -> A:
        pending = _Pending()
        call_number = await self._ask(request, pending)
        try:
            return self._result(await self._answer(pending))
        finally:
            self._pending.pop(call_number, None)
            self._book.withdraw(call_number)

    async def _ask(self, request: Q, pending: _Pending) -> int:
        """Send the request. Between the sending and the noting nothing waits, so a cancelled one was not sent."""
        async with self._door:
            self._owner = current_owner.get()
            while self._listen() and not self._book.has_room:
                await self._room.wait()
            self._check_there()
            asked = self._book.next_request(request)
            try:
                await self._requests.send(asked)
            except (ChannelClosed, PeerLost, PeerRefused, WireError) as error:
                raise self._gone(error) from error
            self._book.begin()
            self._pending[asked.number] = pending
            return asked.number

    async def _answer(self, pending: _Pending) -> Reply[Any]:
        while pending.reply is None:
            self._check_there()
            pending.wait = park(self)
            await pending.wait.wait()
        return pending.reply

    def _result(self, reply: Reply[A]) -> A:
        failure = reply.failure
        if failure is not None:
            raise CallFailed(failure.daemon, failure.kind, failure.message, failure.trace)
        return cast(A, reply.item)

    def _check_there(self) -> None:
        if self._lost is not None:
            raise self._gone(self._lost) from self._lost

    def _gone(self, error: GeartrainError) -> ServerGone:
        return ServerGone(f"nobody answers calls over {self} any more: {error}")

    # -- replies

    def wake(self) -> None:
        """A reply has come, or will never come: this is called by whoever brings it."""
        self._asks = False
        self._replies.withdraw()
        self._listen()

    def _listen(self) -> bool:
        """Take what has come, and be woken by what comes next; False when nothing can come any more."""
        if self._lost is not None:
            return False
        if self._asks:
            return True
        try:
            while self._replies.has_item():
                self._take(self._replies.receive_nowait())
        except GeartrainError as error:
            self._lose(error)
            return False
        # In whose task this may be: it is the client who asks.
        token = current_owner.set(self._owner)
        try:
            self._asks = True
            self._replies.ask(self)
        finally:
            current_owner.reset(token)
        return True

    def _take(self, reply: Reply[A]) -> None:
        if self._book.expects(reply.life, reply.number, failed=reply.failure is not None):
            pending = self._pending[reply.number]
            pending.reply = reply
            pending.wake()
        self._room.ring()

    def _lose(self, error: GeartrainError) -> None:
        self._lost = error
        for pending in self._pending.values():
            pending.wake()
        self._room.ring()

    def waiting_for(self, owner: Owner) -> Waiting:
        there = self._replies.waiting_for(owner)
        return Waiting(owner.name, f"waits for an answer over {self}", there.helpers)

    # -- its life

    def begin(self) -> None:
        """From now on replies are taken, also those that nobody has asked for in this life."""
        self._listen()

    def begin_again(self) -> None:
        """For another owner: what the last one has asked for is answered to nobody."""
        self._book.begin_life()
        self._pending.clear()

    def set_aside(self, item: bytes | memoryview) -> None:
        """A request has killed its servers, and none will get it again."""
        head = msgspec.msgpack.decode(item, type=RequestHead)
        died = Failure("ServerDied", "every server that had this request in hand died; it is set aside", "", "")
        self._take(Reply(head.life, head.number, failure=died))

    async def aclose(self) -> None:
        """Say that no more calls will come. Those that wait for an answer still get it."""
        await self._requests.aclose()

    def statistics(self) -> CallStats:
        return self._book.stats()


# -- the server -------------------------------------------------------------------------------------------------------


class Call(Generic[Q, A]):
    """One request in the hands of its server, to be answered once. `redelivered`: a server may have had it before.

    As a context, it takes what is raised inside for the answer.
    """

    __slots__ = ("_answered", "_calls", "_request", "mark", "redelivered")

    def __init__(self, calls: "Calls[Q, A]", request: Request[Q], mark: Mark) -> None:
        self.mark = mark
        self.redelivered = mark.redelivered
        self._calls = calls
        self._request = request
        self._answered = False

    def __repr__(self) -> str:
        return f"<call {self._request.number} over {self._calls}{', answered' if self._answered else ''}>"

    @property
    def request(self) -> Q:
        return self._request.item

    async def reply(self, item: A) -> None:
        """Answer. Cancelled, it is not answered. That the client has left is no error."""
        await self._send(Reply(self._request.life, self._request.number, item))

    async def fail(self, error: BaseException) -> None:
        """Answer that it cannot be done: the client's `call` raises `CallFailed`, which tells of this error."""
        await self._send(Reply(self._request.life, self._request.number, failure=_failure(error)))

    async def _send(self, reply: Reply[A]) -> None:
        async with self._calls.door:
            if self._answered:
                raise NotInUse(f"{self!r} cannot be answered again")
            await self._calls.send(reply)
            self._answered = True
        self._calls.answered(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._answered:
            return False
        if error is None:
            await self.fail(BadReply("the server has left the call without an answer"))
        elif isinstance(error, Exception):
            await self.fail(error)
            return True
        return False


class Calls(ReceiveStream[Call[Q, A]]):
    """The end that answers: a stream of calls. One task takes them; any task may answer, in any order.

    What was taken and never answered comes again to the next `async for`, marked as `redelivered`.
    """

    __slots__ = ("_again", "_mark", "_name", "_open", "_replies", "_requests", "_upto", "door")

    def __init__(
        self,
        requests: ReceiveStream[Request[Q]],
        replies: SendStream[Reply[A]],
        *,
        name: str = "",
    ) -> None:
        self.door = Lock()
        self._requests = requests
        self._replies = replies
        self._name = name
        self._upto = Answered()
        self._open: dict[Call[Q, A], None] = {}
        self._again: list[Call[Q, A]] = []
        self._mark = requests.mark

    def __repr__(self) -> str:
        return f"<server of {self}>"

    def __str__(self) -> str:
        return f"channel {self._name!r}" if self._name else "a call port"

    async def serve(self, handler: Callable[[Q], Awaitable[A]]) -> None:
        """Answer one call after the other by what the handler returns, or raises, until the client closes."""
        async for call in self:
            async with call:
                await call.reply(await handler(call.request))

    def __aiter__(self) -> Self:
        self.take_up()
        return self

    def take_up(self) -> None:
        """What was taken and not answered comes again: whoever had it has given up."""
        self._again = [*self._open]
        for call in self._again:
            call.redelivered = True

    async def receive(self) -> Call[Q, A]:
        return self._first_again() if self._again else self._new(await self._requests.receive())

    def receive_nowait(self) -> Call[Q, A]:
        return self._first_again() if self._again else self._new(self._requests.receive_nowait())

    def _first_again(self) -> Call[Q, A]:
        call = self._again.pop(0)
        self._mark = msgspec.structs.replace(call.mark, redelivered=True)
        return call

    def _new(self, request: Request[Q]) -> Call[Q, A]:
        self._mark = self._requests.mark
        call = Call(self, request, self._mark)
        self._open[call] = None
        self._upto.took(self._mark)
        return call

    async def wait_item(self) -> None:
        if not self._again:
            await self._requests.wait_item()

    def has_item(self) -> bool:
        return bool(self._again) or self._requests.has_item()

    def discard_oldest(self) -> bool:
        return self._requests.discard_oldest()

    @property
    def mark(self) -> Mark:
        return self._mark

    def done(self, mark: Mark) -> None:
        """A call is done with when it is answered: this changes nothing."""

    def ack_manually(self) -> None:
        """It is never otherwise."""

    async def aclose(self) -> None:
        """Answer no more: calls that wait, and new ones, raise `ServerGone`."""
        await self._replies.aclose()
        await self._requests.aclose()

    def statistics(self) -> ChannelStats:
        return self._requests.statistics()

    def ask(self, asker: Asker) -> None:
        self._requests.ask(asker)

    def withdraw(self) -> None:
        self._requests.withdraw()

    def waiting_for(self, owner: Owner) -> Waiting:
        return self._requests.waiting_for(owner)

    # -- answers

    async def send(self, reply: Reply[A]) -> None:
        """For `Call`, which holds the door: one task at a time writes."""
        try:
            await self._replies.send(reply)
        except ChannelClosed:
            # The client has left, and nobody waits for this.
            return

    def answered(self, call: Call[Q, A]) -> None:
        """For `Call`: it is done with."""
        if call not in self._open:
            return
        del self._open[call]
        # A task that was left over may have answered what was about to come again.
        self._again = [left for left in self._again if left is not call]
        upto = self._upto.answered(call.mark)
        if upto is not None:
            self._requests.done(upto)

    def begin_again(self) -> None:
        """For another owner, whose requests come again from below."""
        self._open.clear()
        self._again.clear()
        self._upto.forget()


def _failure(error: BaseException) -> Failure:
    owner = current_owner.get()
    trace = "".join(traceback.format_exception(error))
    return Failure(
        kind=type(error).__name__,
        message=_fit(str(error)[:MESSAGE_MOST]),
        trace=_fit(trace[-TRACE_MOST:]),
        daemon="" if owner is None else owner.name,
    )


def _fit(text: str) -> str:
    """Half a surrogate, as in the name of a strange file, has no encoding."""
    return text.encode("utf-8", "backslashreplace").decode()


# -- both -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallChannel(Generic[Q, A]):
    """Both ends of a call port."""

    caller: Caller[Q, A]
    calls: Calls[Q, A]


def open_calls(maxsize: int = MAXSIZE, *, name: str = "") -> CallChannel[Q, A]:
    """A call port inside this process. At most `maxsize` calls are under way. The name is for messages."""
    whole("open_calls() maxsize", maxsize, least=1)
    requests: Channel[Request[Q]] = open_channel(maxsize, ack="manual", name=name)
    replies: Channel[Reply[A]] = open_channel(maxsize, name=f"{name}.replies" if name else "")
    caller: Caller[Q, A] = Caller(requests.send, replies.recv, name=name, maxsize=maxsize)
    return CallChannel(caller, Calls(requests.recv, replies.send, name=name))
