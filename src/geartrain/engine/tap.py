"""A tap at the writer of a channel: somebody looks at what passes, and the channel does not notice.

    session -> wire -> Tap -> link          every frame goes on first, and as it is
                        '- kept frames --every 50 ms--> a few items, decoded --> tell

It stands in the place of the link, and only while somebody looks: nothing is asked of a channel that nobody taps. What
is kept is bounded, in frames, bytes and items, and what does not find room is counted.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio

from geartrain.errors import WireError
from geartrain.ports.transport import Hear, Link
from geartrain.rules.frames import PAYLOAD, REPEATED, Data, decode_data, is_data
from geartrain.rules.shown import Few, Shown, put_items

_FRAMES = 128
_FRAMES_BYTES = 256 * 1024
_ITEMS = 100
_ITEMS_BYTES = 128 * 1024
_EVERY_S = 0.05


class Tap:
    """A link that remembers some of the data frames that it hands on."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.is_open = True
        self._frames: deque[Data] = deque()
        self._bytes = 0
        self._missed = 0
        self._upto = 0
        # The next message is what the last frame has announced.
        self._payload_follows = False
        self._few = Few(_ITEMS, _ITEMS_BYTES)

    def send(self, peer: bytes, frame: bytes | bytearray | memoryview) -> bool:
        went = self.link.send(peer, frame)
        if went:
            self._passed(frame)
        return went

    async def run(self, hear: Hear) -> NoReturn:
        await self.link.run(hear)

    def reachable(self, peer: bytes) -> bool:
        return self.link.reachable(peer)

    async def aclose(self) -> None:
        self.is_open = False
        await self.link.aclose()

    def _passed(self, frame: bytes | bytearray | memoryview) -> None:
        if self._payload_follows or not is_data(frame):
            self._payload_follows = False
            return
        data = decode_data(frame)
        self._payload_follows = bool(data.flags & PAYLOAD)
        # A batch that goes to the same reader once more is thrown away there; to another one it goes as a repeat.
        if data.first <= self._upto and not data.flags & REPEATED:
            return
        self._upto = max(self._upto, data.first + data.count - 1)
        # Once something is missed, nothing is kept until the next look: so what is missed comes after what is kept.
        if self._missed or len(self._frames) >= _FRAMES or self._bytes + len(frame) > _FRAMES_BYTES:
            self._missed += data.count
        elif data.count:
            self._frames.append(data)
            self._bytes += len(frame)

    def take(self) -> tuple[Shown, ...]:
        """A few of the items that have passed since the last time."""
        while self._frames:
            put_items(self._frames.popleft(), self._few)
        self._few.missed += self._missed
        self._missed = self._bytes = 0
        return self._few.take()

    async def show(self, tell: Callable[[tuple[Shown, ...]], Awaitable[None]]) -> None:
        """Tell what passes until the tap is closed. Whoever is told slowly misses more."""
        while self.is_open:
            await anyio.sleep(_EVERY_S)
            try:
                shown = self.take()
            except (ValueError, RecursionError, WireError):
                # It is the reader's to say what is wrong with such a frame.
                continue
            if shown:
                await tell(shown)
