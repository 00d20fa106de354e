"""Recipes that keep the newest and let the rest go: a shared value, and senders that never wait.

A channel can do the same by itself: `open_channel(8, policy="drop_oldest")`.
"""

from abc import abstractmethod
from typing import Generic, TypeVar

from geartrain.engine.ends import BUDGET, ChannelStats, ReceiveStream, SendStream
from geartrain.ports.parking import here

T = TypeVar("T")


class Latest(Generic[T]):
    """The latest value of something, for those who only ever want that."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value: T | None = None

    def set(self, value: T) -> None:
        self._value = value

    def get(self) -> T | None:
        """The value set last; None before the first."""
        return self._value


class _LossySend(SendStream[T]):
    """A sending end that always has room, and counts what it drops for it."""

    def __init__(self, inner: SendStream[T]) -> None:
        self._inner = inner
        self._dropped = 0
        self._steps = BUDGET

    @property
    def dropped(self) -> int:
        """How many items were thrown away so far."""
        return self._dropped

    async def send(self, item: T) -> None:
        if not self._steps:
            self._steps = BUDGET
            await here().ways.checkpoint()
        self._steps -= 1
        self.send_nowait(item)

    @abstractmethod
    def send_nowait(self, item: T) -> None: ...

    def has_room(self) -> bool:
        self._inner.has_room()
        return True

    async def wait_room(self) -> None:
        self.has_room()

    async def drain(self) -> None:
        await self._inner.drain()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def statistics(self) -> ChannelStats:
        return self._inner.statistics()


class DropNewestSend(_LossySend[T]):
    """When the channel is full, the new item is dropped."""

    def send_nowait(self, item: T) -> None:
        if self._inner.has_room():
            self._inner.send_nowait(item)
        else:
            self._dropped += 1


class DropOldestSend(_LossySend[T]):
    """When the channel is full, its oldest item is dropped. A rendezvous holds none: there the new one is."""

    def __init__(self, send: SendStream[T], recv: ReceiveStream[T]) -> None:
        super().__init__(send)
        self._recv = recv
        self._is_rendezvous = send.statistics().max_buffer_size == 0

    def send_nowait(self, item: T) -> None:
        if not self._inner.has_room():
            self._dropped += 1
            if self._is_rendezvous or not self._recv.discard_oldest():
                return
        self._inner.send_nowait(item)


class CoalesceSend(DropOldestSend[T]):
    """Only the newest item is kept: the last value wins, however large the channel is."""

    def send_nowait(self, item: T) -> None:
        self.has_room()
        while not self._is_rendezvous and self._recv.discard_oldest():
            self._dropped += 1
        super().send_nowait(item)
