"""The two ends of a channel marked `fenced`, as its daemons have them. What is below carries tokens beside items.

    arm      send(x)      the token of the lease it holds now     Sealed(5, x) --->
    cell     receive()    token 5, and 9 was seen: refused, before anybody sees x

Which token, the end asks the daemon's `leases` at the last moment before the item has its number. What is refused is
thrown away like what a lossy channel drops: it frees its room, nobody has it in hand, and it does not come again. All
channels with one region that are read in one run have one gate, and it outlives its readers (ADR 40).
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from geartrain.engine.ends import Asker, ChannelStats, ReceiveStream, SendStream
from geartrain.engine.leases import Leases
from geartrain.errors import Fenced
from geartrain.ports.high_water import FileHighWater, HighWater, MemoryHighWater
from geartrain.ports.turns import Owner
from geartrain.rules.deadlock import Waiting
from geartrain.rules.fence import FenceGate, Sealed
from geartrain.rules.pipeline import Mark

T = TypeVar("T")

_log = logging.getLogger("geartrain.fence")

# So many tokens that were too late are remembered, so that each is told of once.
_TOLD_MOST = 1_000


class Gate:
    """The gate of one region, with what was seen there before its time and in other processes."""

    def __init__(self, region: str, seen: HighWater) -> None:
        self.region = region
        self._gate = FenceGate(region)
        self._seen = seen
        self._told: set[int] = set()

    def lets_in(self, token: int, channel: str) -> bool:
        """Whether nothing newer was seen. Who is too late is told of once, in the log."""
        before = self._seen.read()
        if before:
            self._gate.learn(before)
        try:
            self._gate.admit(token)
        except Fenced as error:
            self._tell(token, channel, error)
            return False
        if token > before:
            # Before anybody has the item: whoever reads after a death here begins with it.
            self._seen.rise_to(token)
        return True

    def _tell(self, token: int, channel: str, error: Fenced) -> None:
        if token in self._told or len(self._told) >= _TOLD_MOST:
            return
        self._told.add(token)
        _log.warning("channel %r: what was sent with a lease that is lost is refused: %s", channel, error)


class Fences:
    """The gates of one process, one for each region."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._gates: dict[str, Gate] = {}

    def gate(self, region: str) -> Gate:
        if region not in self._gates:
            seen = MemoryHighWater() if self._folder is None else FileHighWater(self._folder, region)
            self._gates[region] = Gate(region, seen)
        return self._gates[region]


class FencedSend(SendStream[T]):
    """The writing end: it sends while a lease on its region is held, and raises `Fenced` else."""

    __slots__ = ("_channel", "_inner", "_leases", "_region")

    def __init__(self, inner: SendStream[Any], channel: str, region: str, leases: Sequence[Leases]) -> None:
        self._inner = inner
        self._channel = channel
        self._region = region
        self._leases = leases

    def __repr__(self) -> str:
        return f"<{self._inner!r}, fenced by {self._region!r}>"

    def _token(self) -> int:
        """The highest, if several are held."""
        found: list[int] = []
        why: Fenced | None = None
        for leases in self._leases:
            try:
                found.append(leases.token_for(self._region))
            except Fenced as error:
                why = error
        if not found:
            raise Fenced(f"channel {self._channel!r}: {why or f'{self._region!r} is fenced, and there are no leases'}")
        return max(found)

    @property
    def offers_only(self) -> bool:
        return self._inner.offers_only

    async def send(self, item: T) -> None:
        # Who may not send need not wait to hear so; and while there was no room the lease may have been lost.
        token = self._token()
        if self._inner.offers_only:
            await self._inner.send(Sealed(token, item))
        else:
            await self._inner.wait_room()
            self.send_nowait(item)

    def send_nowait(self, item: T) -> None:
        self._inner.send_nowait(Sealed(self._token(), item))

    async def wait_room(self) -> None:
        await self._inner.wait_room()

    def has_room(self) -> bool:
        return self._inner.has_room()

    async def drain(self) -> None:
        await self._inner.drain()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def statistics(self) -> ChannelStats:
        return self._inner.statistics()


class FencedReceive(ReceiveStream[T]):
    """The reading end: what is too late is not there."""

    __slots__ = ("_channel", "_gate", "_inner", "_refused")

    def __init__(self, inner: ReceiveStream[Any], channel: str, gate: Gate) -> None:
        self._inner = inner
        self._channel = channel
        self._gate = gate
        self._refused = 0

    def __repr__(self) -> str:
        return f"<{self._inner!r}, fenced by {self._gate.region!r}>"

    def has_item(self) -> bool:
        while self._inner.has_item():
            if self._gate.lets_in(self._inner.peek().token, self._channel):
                return True
            self._inner.discard_oldest()
            self._refused += 1
        return False

    async def wait_item(self) -> None:
        while True:
            await self._inner.wait_item()
            if self.has_item():
                return

    async def receive(self) -> T:
        await self.wait_item()
        # It has just been let in.
        item: T = self._inner.receive_nowait().item
        return item

    def receive_nowait(self) -> T:
        self.has_item()
        # What is too late is gone now, and if that was all, this raises `WouldBlock`.
        item: T = self._inner.receive_nowait().item
        return item

    def peek(self) -> T:
        item: T = self._inner.peek().item
        return item

    @property
    def came(self) -> tuple[int, int, str, int] | None:
        return self._inner.came

    def discard_oldest(self) -> bool:
        return self._inner.discard_oldest()

    @property
    def mark(self) -> Mark:
        return self._inner.mark

    def done(self, mark: Mark) -> None:
        self._inner.done(mark)

    def ack_manually(self) -> None:
        self._inner.ack_manually()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def statistics(self) -> ChannelStats:
        """What was refused is counted by itself, and not as dropped."""
        known = self._inner.statistics()
        return replace(known, refused=self._refused, dropped=known.dropped - self._refused)

    def ask(self, asker: Asker) -> None:
        self._inner.ask(asker)

    def withdraw(self) -> None:
        self._inner.withdraw()

    def waiting_for(self, owner: Owner) -> Waiting:
        return self._inner.waiting_for(owner)
