"""What a recipe has taken from one channel and not yet passed on to another.

A recipe takes an item when its outputs have room, so that its hand is empty again before anything can cancel it.
Where that cannot be had (a rendezvous whose reader has just left, a job that is being worked on), what is in hand
is kept by the stream it belongs to, and passed on first when the recipe runs again.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.errors import ChannelClosed


class Hand:
    """Items on their way, each with the stream it goes to, in order."""

    def __init__(self) -> None:
        self._held: deque[tuple[SendStream[Any], Any]] = deque()

    def take(self, item: object, dests: Iterable[SendStream[Any]]) -> None:
        self._held.extend((dest, item) for dest in dests)

    async def pass_on(self) -> None:
        """Send what is in hand. Cancelled, the rest stays in hand."""
        while self._held:
            dest, item = self._held[0]
            try:
                await dest.send(item)
            except ChannelClosed:
                self._held.popleft()
                raise
            self._held.popleft()


_hands: WeakKeyDictionary[ReceiveStream[Any] | SendStream[Any], Hand] = WeakKeyDictionary()


def hand_of(stream: ReceiveStream[Any] | SendStream[Any]) -> Hand:
    """The hand that belongs to this stream, from run to run."""
    return _hands.setdefault(stream, Hand())


async def wait_room_in_all(dests: Iterable[SendStream[Any]]) -> None:
    """Return when every one of them has room at the same time."""
    dests = tuple(dests)
    while not all(dest.has_room() for dest in dests):
        for dest in dests:
            await dest.wait_room()


async def close_all(dests: Iterable[SendStream[Any]]) -> None:
    for dest in dests:
        await dest.aclose()
