"""What a recipe has taken from one channel and not yet passed on to another.

A recipe takes an item when its outputs have room, so that its hand is empty again before anything can cancel it.
Where that cannot be had (a rendezvous whose reader has just left, a job that is being worked on), what is in hand
is kept by the stream it belongs to, and passed on first when the recipe runs again.
"""

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import anyio

from geartrain.engine.ends import ReceiveStream, SendStream
from geartrain.engine.in_turn import start_in_turn
from geartrain.errors import ChannelClosed
from geartrain.ports.parking import park
from geartrain.ports.turns import Wait


class Hand:
    """Items on their way, each with the stream it goes to, in order."""

    def __init__(self) -> None:
        self._held: deque[tuple[SendStream[Any], Any]] = deque()

    def take(self, item: object, dests: Iterable[SendStream[Any]]) -> None:
        self._held.extend((dest, item) for dest in dests)

    async def pass_on(self) -> None:
        """Send what is in hand. Cancelled, the rest stays in hand."""
        while self._held:
            self._pass_on_at_once()
            if len(self._held) == 1:
                await self._send(*self._held[0])
            elif any(dest.offers_only for dest, _ in self._held):
                await self._offer_to_all()
            elif self._held:
                await self._send_to_whoever_asks()

    def _pass_on_at_once(self) -> None:
        """Send to those who have room, and keep the order for each of the others."""
        later: deque[tuple[SendStream[Any], Any]] = deque()
        waiting: set[SendStream[Any]] = set()
        try:
            while self._held:
                dest, item = self._held[0]
                if dest in waiting or not dest.has_room():
                    waiting.add(dest)
                    later.append((dest, item))
                else:
                    dest.send_nowait(item)
                self._held.popleft()
        except ChannelClosed:
            self._held.popleft()
            raise
        finally:
            later.extend(self._held)
            self._held = later

    async def _send_to_whoever_asks(self) -> None:
        """Nobody knows which of several readers asks first: wait for room in all of them, until one has some."""
        async with anyio.create_task_group() as tasks:
            for dest in {dest: None for dest, _ in self._held}:
                turn = park()
                turn.wake()
                tasks.start_soon(_end_when_there_is_room, turn, dest, tasks.cancel_scope)

    async def _offer_to_all(self) -> None:
        """Where nobody knows who asks, the first item of each is offered, to all at the same time."""
        first: dict[SendStream[Any], tuple[SendStream[Any], Any]] = {}
        for held in self._held:
            first.setdefault(held[0], held)
        gone: list[ChannelClosed] = []
        async with anyio.create_task_group() as tasks:
            for held in first.values():
                start_in_turn(tasks, self._offer, held, gone)
        if gone:
            raise gone[0]

    async def _offer(self, held: tuple[SendStream[Any], Any], gone: list[ChannelClosed]) -> None:
        dest, item = held
        try:
            await dest.send(item)
        except ChannelClosed as closed:
            gone.append(closed)
        self._held = deque(other for other in self._held if other is not held)

    async def _send(self, dest: SendStream[Any], item: object) -> None:
        try:
            await dest.send(item)
        except ChannelClosed:
            self._held.popleft()
            raise
        self._held.popleft()


async def _end_when_there_is_room(turn: Wait, dest: SendStream[Any], scope: anyio.CancelScope) -> None:
    # The order in which a loop starts its tasks is its own: their turns are in the order of the destinations.
    await turn.wait()
    with suppress(ChannelClosed):
        await dest.wait_room()
    scope.cancel()


_hands: WeakKeyDictionary[ReceiveStream[Any] | SendStream[Any], Hand] = WeakKeyDictionary()


def hand_of(stream: ReceiveStream[Any] | SendStream[Any]) -> Hand:
    """The hand that belongs to this stream, from run to run."""
    return _hands.setdefault(stream, Hand())


async def wait_room_in_all(dests: Iterable[SendStream[Any]]) -> None:
    """Return when every one of them has room at the same time.

    Of several rendezvous that cannot be asked: one task may well read them one after another, so that they never have
    room together; and in virtual time with microsteps not of a single one. What is taken for them is in hand for that
    time.
    """
    dests = tuple(dest for dest in dests if not dest.offers_only)
    rendezvous = [dest for dest in dests if dest.statistics().max_buffer_size == 0]
    asked = [dest for dest in dests if dest not in rendezvous] if len(rendezvous) > 1 else dests
    while not all(dest.has_room() for dest in asked):
        for dest in asked:
            await dest.wait_room()


async def close_all(dests: Iterable[SendStream[Any]]) -> None:
    for dest in dests:
        await dest.aclose()
