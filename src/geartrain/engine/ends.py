"""What every channel has in common, whatever carries it: the two ends, and how a task waits in one of them.

    SendStream, ReceiveStream    what daemons see
    WritingEnd, ReadingEnd       the same with the waiting done; a carrier says when there is room, and when an item

An operation that can be done at once is done at once, without a checkpoint; after `BUDGET` of them in a row the loop
goes round once. In real time an end that must wait for one in the same process lets the loop go round twice before it
parks: the other end is often just behind, and a park costs more than a round.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from msgspec import Struct

from geartrain.engine.holders import who_could_use
from geartrain.errors import BadValue, ChannelInUse, EndOfStream
from geartrain.ports.parking import here
from geartrain.ports.turns import Owner, Wait, current_owner
from geartrain.rules.deadlock import Waiting
from geartrain.rules.pipeline import Mark

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
    set_aside: int = 0
    refused: int = 0


class SendStream(ABC, Generic[T]):
    """The writing end of a channel. One task at a time may use it."""

    __slots__ = ("__weakref__",)

    @property
    def offers_only(self) -> bool:
        """Whether an item can only be offered, by `send`: that there is room is not known before it has been taken."""
        return False

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
    async def wait_item(self) -> None:
        """Return when `receive_nowait` would succeed. Takes nothing; raises `EndOfStream` as `receive` does."""

    @abstractmethod
    def has_item(self) -> bool:
        """Whether `receive_nowait` would succeed now; raises `EndOfStream` when nothing will come any more."""

    def peek(self) -> T:
        """The item that waits longest, where `has_item` says that there is one. It stays where it is."""
        raise NotImplementedError(f"{self!r} does not show what it has not handed over")

    @property
    def came(self) -> tuple[int, int, str, int] | None:
        """When the next item came (time, microstep, channel, sequence), where that is known: in microsteps."""
        return None

    @abstractmethod
    def discard_oldest(self) -> bool:
        """Throw away the item that waits longest, and count it as dropped; False when none waits."""

    @property
    @abstractmethod
    def mark(self) -> Mark:
        """Which item was handed over last."""

    @abstractmethod
    def done(self, mark: Mark) -> None:
        """With `ack="manual"`: all up to this mark will never be needed again. `BadValue` with any other `ack`."""

    @abstractmethod
    def ack_manually(self) -> None:
        """From now on only `done` says what is not needed any more, as with `ack="manual"`: for who holds items."""

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


class Carrier(Protocol):
    """What is between the two ends, as far as waiting in one of them goes."""

    writer: Wait | None
    writer_waits: bool
    asker: Asker | None
    reader_asks: bool

    def begin_asking(self, asker: Asker | None) -> None:
        """From now until `stop_asking` the reader is waiting."""

    def stop_asking(self) -> None: ...


class WritingEnd(SendStream[T]):
    """A writing end that waits for room. What has room, and what is done with an item, is the carrier's."""

    __slots__ = ("_carrier", "_steps", "users")

    other_end_is_near = True

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._steps = BUDGET
        self.users: tuple[Owner | None, ...] = ()

    def __repr__(self) -> str:
        return f"<writing end of {self._carrier}>"

    async def wait_room(self) -> None:
        carrier = self._carrier
        if carrier.writer_waits:
            raise self._in_use("another send()")
        if self.has_room() and self._steps:
            return
        spot = here()
        turns = spot.turns
        if turns is not None:
            note_user(self)
        carrier.writer_waits = True
        try:
            goes_round = turns is None and self.other_end_is_near
            if goes_round or not self._steps:
                self._steps = BUDGET
                await spot.ways.checkpoint()
                if goes_round and not self.has_room():
                    await spot.ways.checkpoint()
            while not self.has_room():
                carrier.writer = spot.park(self)
                try:
                    await carrier.writer.wait()
                finally:
                    carrier.writer = None
                self._steps = BUDGET
        finally:
            carrier.writer_waits = False

    @property
    @abstractmethod
    def _other_end(self) -> "ReadingEnd[T] | None":
        """The reading end, where it is in this process."""

    def waiting_for(self, owner: Owner) -> Waiting:
        readers = who_could_use(self._other_end, not_by=owner)
        return Waiting(owner.name, f"waits to send into {self._carrier}{_named(readers, 'read by')}", _living(readers))

    def _in_use(self, second: str) -> ChannelInUse:
        return ChannelInUse(
            f"a task is waiting in the writing end of {self._carrier}, and {second} came beside it; "
            "one task writes to a channel: give each writer a channel of its own and merge() them"
        )


class ReadingEnd(ReceiveStream[T]):
    """A reading end that waits for an item. Where items come from is the carrier's."""

    __slots__ = ("_carrier", "_steps", "users")

    other_end_is_near = True

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._steps = BUDGET
        self.users: tuple[Owner | None, ...] = ()

    def __repr__(self) -> str:
        return f"<reading end of {self._carrier}>"

    async def wait_item(self) -> None:
        carrier = self._carrier
        if carrier.reader_asks:
            raise self._in_use("another receive()")
        if self.has_item() and self._steps:
            return
        spot = here()
        turns = spot.turns
        if turns is not None:
            note_user(self)
        carrier.begin_asking(None)
        try:
            goes_round = turns is None and self.other_end_is_near
            if goes_round or not self._steps:
                self._steps = BUDGET
                await spot.ways.checkpoint()
                if goes_round and not self.has_item():
                    await spot.ways.checkpoint()
            while not self.has_item():
                wait = carrier.asker = spot.park(self)
                await wait.wait()
                self._steps = BUDGET
        finally:
            carrier.stop_asking()

    def ask(self, asker: Asker) -> None:
        if self._carrier.reader_asks:
            raise self._in_use("select()")
        note_user(self)
        self._carrier.begin_asking(asker)

    def withdraw(self) -> None:
        self._carrier.stop_asking()

    @property
    @abstractmethod
    def _other_end(self) -> WritingEnd[T] | None:
        """The writing end, where it is in this process."""

    def waiting_for(self, owner: Owner) -> Waiting:
        writers = who_could_use(self._other_end, not_by=owner)
        what = f"waits to receive from {self._carrier}{_named(writers, 'written by')}"
        return Waiting(owner.name, what, _living(writers))

    def _in_use(self, second: str) -> ChannelInUse:
        return ChannelInUse(
            f"a task is waiting in the reading end of {self._carrier}, and {second} came beside it; "
            "one task reads from a channel: use tee() or load_balance() to serve several"
        )


def not_manual(carrier: object, ack: str) -> BadValue:
    return BadValue(
        f'done() is for channels with ack="manual", and {carrier} has ack={ack!r}: there an item is done with when the '
        "next one is asked for"
    )


def note_user(end: WritingEnd[T] | ReadingEnd[T]) -> None:
    """Remember which daemons have waited here; None stands for whoever is none."""
    user = current_owner.get()
    if user not in end.users:
        end.users = (*end.users, user)


def _living(owners: Sequence[Owner] | None) -> tuple[str, ...] | None:
    return None if owners is None else tuple(owner.name for owner in owners if not owner.finished)


def _named(owners: Sequence[Owner] | None, role: str) -> str:
    if not owners:
        return ""
    names = (f"{owner.name}, who has finished without closing it" if owner.finished else owner.name for owner in owners)
    return f", {role} {' or '.join(names)}"
