"""The typed channel between two daemons: one writer, one reader, and never more than `maxsize` items between them.

    writer                        pipe                         reader
    await send(x)   ---------->   [ x y z ]   ---------->      await receive()
    waits while it is full                                     waits while it is empty

An operation that can be done at once is done at once, without a checkpoint; after `BUDGET` of them in a row the loop
goes round once. In real time an end that must wait lets the loop go round twice before it parks: the other end is
often just behind, and a park costs more than a round.

What waits, waits for a state of the pipe, and takes nothing before it goes on: so a cancelled `send` has not sent, and
a cancelled `receive` has lost nothing.

`maxsize=0` is a rendezvous: there is room only while the reader is asking.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from msgspec import Struct

from geartrain.engine.holders import who_could_use
from geartrain.errors import BadType, BadValue, ChannelClosed, ChannelInUse, EndClosed, EndOfStream, WouldBlock
from geartrain.ports.parking import here, park
from geartrain.ports.turns import Owner, Wait, current_owner
from geartrain.rules.checks import one_of
from geartrain.rules.deadlock import Waiting
from geartrain.rules.pipeline import POLICIES, Mark, Policy

T = TypeVar("T")

# How many operations may follow each other before the loop goes round. The checkpoint is nearly all a message costs.
BUDGET = 64


class ChannelStats(Struct, frozen=True):
    """What an end knows of its channel. Counts are since the channel was opened."""

    current_buffer_used: int
    max_buffer_size: float
    open_send_streams: int
    open_receive_streams: int
    waiters_send: int
    waiters_receive: int
    accepted: int = 0
    taken: int = 0
    stable: int = 0
    dropped: int = 0
    redelivered: int = 0


class SendStream(ABC, Generic[T]):
    """The writing end of a channel. One task at a time may use it."""

    __slots__ = ("__weakref__",)

    @abstractmethod
    async def send(self, item: T) -> None:
        """Hand over an item, waiting for room. Cancelled, it has not sent."""

    @abstractmethod
    def send_nowait(self, item: T) -> None:
        """Hand over an item, or raise `WouldBlock` when there is no room."""

    @abstractmethod
    async def wait_room(self) -> None:
        """Return when `send_nowait` would succeed. Takes nothing."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether `send_nowait` would succeed now; raises what it would raise if the channel is closed."""

    @abstractmethod
    async def drain(self) -> None:
        """Return when all that was sent is stable: the reader has asked past it, or closed."""

    @abstractmethod
    async def aclose(self) -> None:
        """Say that no more will come: the reader gets `EndOfStream` after what was sent. Never waits."""

    @abstractmethod
    def statistics(self) -> ChannelStats:
        """How the channel stands."""


class ReceiveStream(ABC, Generic[T]):
    """The reading end of a channel. One task at a time may use it; `async for` takes items until the writer closes."""

    __slots__ = ("__weakref__",)

    @abstractmethod
    async def receive(self) -> T:
        """The next item, waiting for it. Cancelled, nothing is lost."""

    @abstractmethod
    def receive_nowait(self) -> T:
        """The next item, or `WouldBlock` when there is none."""

    @abstractmethod
    def has_item(self) -> bool:
        """Whether `receive_nowait` would succeed now; raises `EndOfStream` when nothing will come any more."""

    @abstractmethod
    def discard_oldest(self) -> bool:
        """Throw away the item that waits longest, and count it as dropped; False when none waits."""

    @property
    @abstractmethod
    def mark(self) -> Mark:
        """Which item was handed over last."""

    @abstractmethod
    async def aclose(self) -> None:
        """Say that no more is wanted: the writer gets `ChannelClosed`. Never waits."""

    @abstractmethod
    def statistics(self) -> ChannelStats:
        """How the channel stands."""

    @abstractmethod
    def ask(self, asker: "Asker") -> None:
        """Wake the asker when `receive_nowait` would not block. `ChannelInUse` when somebody is asking already."""

    @abstractmethod
    def withdraw(self) -> None:
        """The asker asks no more."""

    @abstractmethod
    def waiting_for(self, owner: Owner) -> Waiting:
        """How a wait of this daemon at this end is described, and who could end it."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None


class Asker(Protocol):
    """Who waits for an item: one task in `receive`, or a `select` over several ends."""

    def wake(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Channel(Generic[T]):
    """Both ends of a channel."""

    send: SendStream[T]
    recv: ReceiveStream[T]


def open_channel(maxsize: float = 0, *, policy: Policy = "block", name: str = "") -> Channel[T]:
    """A channel inside this process. At most `maxsize` items are between its ends; `math.inf` is no bound at all.

    `policy` says what a full channel does: `block` the writer, keep only the `latest` item, `drop_oldest` or
    `drop_newest`. Drops are counted in `statistics().dropped`. The name is for messages.
    """
    one_of("policy", policy, POLICIES)
    pipe: _Pipe[T] = _Pipe(_checked_maxsize(maxsize, policy), policy, name)
    return Channel(pipe.sender, pipe.receiver)


def _checked_maxsize(maxsize: float, policy: Policy) -> float:
    if isinstance(maxsize, bool) or not (isinstance(maxsize, int) or maxsize == math.inf):
        raise BadType(f"maxsize must be a whole number or math.inf, got {maxsize!r}")
    if maxsize < 0:
        raise BadValue(f"maxsize cannot be negative, got {maxsize!r}")
    if policy == "latest":
        if maxsize > 1:
            raise BadValue(f"policy 'latest' keeps exactly one item, so maxsize must be 1 or left out, got {maxsize!r}")
        return 1
    if policy == "drop_oldest" and maxsize == 0:
        raise BadValue("policy 'drop_oldest' needs a maxsize of at least 1: at 0 there is no oldest item to drop")
    return maxsize


class _Pipe(Generic[T]):
    """What both ends share. `limit` is how many items there is room for right now."""

    __slots__ = (
        "asker",
        "buffer",
        "drainer",
        "dropped",
        "limit",
        "maxsize",
        "name",
        "policy",
        "reader_asks",
        "receive_closed",
        "receiver",
        "send_closed",
        "sender",
        "taken",
        "writer",
        "writer_waits",
    )

    def __init__(self, maxsize: float, policy: Policy, name: str) -> None:
        self.maxsize = maxsize
        self.policy = policy
        self.name = name
        self.buffer: deque[T] = deque()
        self.limit = maxsize
        self.taken = 0
        self.dropped = 0
        self.send_closed = False
        self.receive_closed = False
        self.writer: Wait | None = None
        self.writer_waits = False
        self.asker: Asker | None = None
        self.reader_asks = False
        self.drainer: Wait | None = None
        self.sender = _Sender(self)
        self.receiver = _Receiver(self)

    def make_room(self) -> bool:
        """What the lossy policies do when there is none: something is dropped. False when it is the new item."""
        self.dropped += 1
        if self.policy == "drop_newest":
            return False
        self.buffer.popleft()
        return True

    def take(self) -> T:
        item = self.buffer.popleft()
        self.taken += 1
        if self.writer is not None:
            self.writer.wake()
        return item

    def begin_asking(self, asker: Asker | None) -> None:
        """From now until `stop_asking` the reader is waiting; a rendezvous has room for just that long."""
        self.reader_asks = True
        self.asker = asker
        if self.maxsize == 0 and not self.receive_closed and not self.send_closed:
            self.limit = 1
            if self.writer is not None:
                self.writer.wake()
        if self.drainer is not None:
            self.drainer.wake()

    def stop_asking(self) -> None:
        self.reader_asks = False
        self.asker = None
        if self.maxsize == 0:
            self.limit = 0

    def close(self) -> None:
        """One of the ends has closed: everybody who waits looks again."""
        self.limit = 0
        for waiting in (self.writer, self.asker, self.drainer):
            if waiting is not None:
                waiting.wake()

    @property
    def stable(self) -> int:
        """The item last taken is in the reader's hand until it asks for the next."""
        in_hand = self.taken > 0 and not self.reader_asks and not self.receive_closed
        return self.taken - in_hand

    @property
    def settled(self) -> bool:
        return self.receive_closed or (not self.buffer and self.stable == self.taken)

    def statistics(self) -> ChannelStats:
        return ChannelStats(
            current_buffer_used=len(self.buffer),
            max_buffer_size=self.maxsize,
            open_send_streams=int(not self.send_closed),
            open_receive_streams=int(not self.receive_closed),
            waiters_send=int(self.writer_waits),
            waiters_receive=int(self.reader_asks),
            accepted=self.taken + self.dropped + len(self.buffer),
            taken=self.taken,
            stable=self.stable,
            dropped=self.dropped,
        )

    def __str__(self) -> str:
        return f"channel {self.name!r}" if self.name else f"a channel of maxsize {self.maxsize}"


class _Sender(SendStream[T]):
    """The writing end of a pipe."""

    __slots__ = ("_pipe", "_steps", "last_user")

    def __init__(self, pipe: _Pipe[T]) -> None:
        self._pipe = pipe
        self._steps = BUDGET
        self.last_user: Owner | bool = False

    def __repr__(self) -> str:
        return f"<writing end of {self._pipe}>"

    async def send(self, item: T) -> None:
        pipe = self._pipe
        if not self._steps or len(pipe.buffer) >= pipe.limit or pipe.writer_waits:
            await self.wait_room()
        self._steps -= 1
        if len(pipe.buffer) < pipe.limit or pipe.make_room():
            pipe.buffer.append(item)
            if pipe.asker is not None:
                pipe.asker.wake()

    def send_nowait(self, item: T) -> None:
        pipe = self._pipe
        if pipe.writer_waits:
            raise self._in_use("send_nowait()")
        if not self.has_room():
            raise WouldBlock(f"{pipe} is full: {len(pipe.buffer)} items wait to be received")
        if len(pipe.buffer) < pipe.limit or pipe.make_room():
            pipe.buffer.append(item)
            if pipe.asker is not None:
                pipe.asker.wake()

    def has_room(self) -> bool:
        pipe = self._pipe
        if pipe.send_closed:
            raise ChannelClosed(f"the writing end of {pipe} was closed here; nothing can be sent any more")
        if pipe.receive_closed:
            raise ChannelClosed(f"the reader of {pipe} has closed; nothing can be sent any more")
        return len(pipe.buffer) < pipe.limit or pipe.policy != "block"

    async def wait_room(self) -> None:
        pipe = self._pipe
        if pipe.writer_waits:
            raise self._in_use("another send()")
        if self.has_room() and self._steps:
            return
        spot = here()
        turns = spot.turns
        if turns is not None:
            self.last_user = current_owner.get() or True
        pipe.writer_waits = True
        try:
            if turns is None or not self._steps:
                self._steps = BUDGET
                await spot.ways.checkpoint()
                if len(pipe.buffer) >= pipe.limit and turns is None:
                    await spot.ways.checkpoint()
            while not self.has_room():
                pipe.writer = spot.park(self)
                try:
                    await pipe.writer.wait()
                finally:
                    pipe.writer = None
        finally:
            pipe.writer_waits = False

    async def drain(self) -> None:
        pipe = self._pipe
        if pipe.drainer is not None:
            raise self._in_use("another drain()")
        while not pipe.settled:
            pipe.drainer = park(self)
            try:
                await pipe.drainer.wait()
            finally:
                pipe.drainer = None

    async def aclose(self) -> None:
        pipe = self._pipe
        if not pipe.send_closed:
            pipe.send_closed = True
            pipe.close()

    def statistics(self) -> ChannelStats:
        return self._pipe.statistics()

    def waiting_for(self, owner: Owner) -> Waiting:
        readers = who_could_use(self._pipe.receiver, not_by=owner)
        return Waiting(owner.name, f"waits to send into {self._pipe}{_named(readers, 'read by')}", _living(readers))

    def _in_use(self, second: str) -> ChannelInUse:
        return ChannelInUse(
            f"a task is waiting in the writing end of {self._pipe}, and {second} came beside it; "
            "one task writes to a channel: give each writer a channel of its own and merge() them"
        )


class _Receiver(ReceiveStream[T]):
    """The reading end of a pipe."""

    __slots__ = ("_pipe", "_steps", "last_user")

    def __init__(self, pipe: _Pipe[T]) -> None:
        self._pipe = pipe
        self._steps = BUDGET
        self.last_user: Owner | bool = False

    def __repr__(self) -> str:
        return f"<reading end of {self._pipe}>"

    async def receive(self) -> T:
        pipe = self._pipe
        if not self._steps or not pipe.buffer or pipe.reader_asks:
            await self._wait_item()
        self._steps -= 1
        return pipe.take()

    def receive_nowait(self) -> T:
        pipe = self._pipe
        if pipe.reader_asks:
            raise self._in_use("receive_nowait()")
        if not self.has_item():
            raise WouldBlock(f"{pipe} is empty")
        return pipe.take()

    async def _wait_item(self) -> None:
        pipe = self._pipe
        if pipe.reader_asks:
            raise self._in_use("another receive()")
        if pipe.send_closed or pipe.receive_closed:
            self.has_item()
        spot = here()
        turns = spot.turns
        if turns is not None:
            self.last_user = current_owner.get() or True
        pipe.begin_asking(None)
        try:
            if turns is None or not self._steps:
                self._steps = BUDGET
                await spot.ways.checkpoint()
                if not pipe.buffer and turns is None:
                    await spot.ways.checkpoint()
            while not (pipe.buffer or self.has_item()):
                wait = pipe.asker = spot.park(self)
                await wait.wait()
        finally:
            pipe.stop_asking()

    def has_item(self) -> bool:
        pipe = self._pipe
        if pipe.receive_closed:
            raise EndClosed(f"the reading end of {pipe} was closed here; nothing can be received any more")
        if pipe.buffer:
            return True
        if pipe.send_closed:
            raise EndOfStream(f"the writer of {pipe} has closed, and everything it sent has been received")
        return False

    def discard_oldest(self) -> bool:
        pipe = self._pipe
        if not pipe.buffer:
            return False
        pipe.buffer.popleft()
        pipe.dropped += 1
        if pipe.writer is not None:
            pipe.writer.wake()
        return True

    def ask(self, asker: Asker) -> None:
        if self._pipe.reader_asks:
            raise self._in_use("select()")
        self.last_user = current_owner.get() or True
        self._pipe.begin_asking(asker)

    def withdraw(self) -> None:
        self._pipe.stop_asking()

    @property
    def mark(self) -> Mark:
        return Mark(0, self._pipe.taken)

    async def aclose(self) -> None:
        pipe = self._pipe
        if not pipe.receive_closed:
            pipe.receive_closed = True
            pipe.dropped += len(pipe.buffer)
            pipe.buffer.clear()
            pipe.close()

    def statistics(self) -> ChannelStats:
        return self._pipe.statistics()

    def waiting_for(self, owner: Owner) -> Waiting:
        writers = who_could_use(self._pipe.sender, not_by=owner)
        return Waiting(
            owner.name, f"waits to receive from {self._pipe}{_named(writers, 'written by')}", _living(writers)
        )

    def _in_use(self, second: str) -> ChannelInUse:
        return ChannelInUse(
            f"a task is waiting in the reading end of {self._pipe}, and {second} came beside it; "
            "one task reads from a channel: use tee() or load_balance() to serve several"
        )


def _living(owners: Sequence[Owner] | None) -> tuple[str, ...] | None:
    return None if owners is None else tuple(owner.name for owner in owners if not owner.finished)


def _named(owners: Sequence[Owner] | None, role: str) -> str:
    if not owners:
        return ""
    names = (f"{owner.name}, who has finished without closing it" if owner.finished else owner.name for owner in owners)
    return f", {role} {' or '.join(names)}"
