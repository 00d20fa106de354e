"""A transport that stays inside its process: `inner://name`, where both ends are opened on one loop.

It never loses a frame. It is for channels between daemons of one process that must keep what links keep: an item is
sent again when the daemon that had it in hand is made anew, and is stable only when all that came of it is.
"""

from collections import deque
from typing import NoReturn

from geartrain.errors import WireError
from geartrain.ports.parking import checkpoint, park
from geartrain.ports.transport import Hear, LinkSettings
from geartrain.ports.turns import Wait

# At most so many frames are handed over at once, so that a flood leaves room for others.
_MOST = 64

_NAME = b"inner"


class InnerLink:
    """One of two ends. What one sends lies ready for the other."""

    def __init__(self, address: str, *, bind: bool) -> None:
        self.address = address
        self._binds = bind
        self._frames: deque[bytes | memoryview] = deque()
        self._wait: Wait | None = None
        self._other: InnerLink | None = None

    def meet(self, other: "InnerLink") -> None:
        self._other = other

    def send(self, peer: bytes, frame: bytes | bytearray | memoryview) -> bool:
        if self._other is None:
            return False
        # The sender may write into its batch again, to mark it as repeated.
        self._other.put(bytes(frame) if isinstance(frame, bytearray) else frame)
        return True

    def put(self, frame: bytes | memoryview) -> None:
        self._frames.append(frame)
        if self._wait is not None:
            self._wait.wake()

    def reachable(self, peer: bytes) -> bool:
        return self._other is not None

    async def run(self, hear: Hear) -> NoReturn:
        peer = _NAME if self._binds else b""
        while True:
            for _ in range(min(len(self._frames), _MOST)):
                hear(peer, self._frames.popleft())
            if self._frames:
                await checkpoint()
                continue
            self._wait = park()
            try:
                await self._wait.wait()
            finally:
                self._wait = None

    async def aclose(self) -> None:
        if self._other is not None:
            self._other._other = None
            self._other = None


class InnerTransport:
    """The inner links of one process, or of one part of it: who opens one end, waits for the other here."""

    def __init__(self) -> None:
        self._waiting: dict[str, InnerLink] = {}

    def open(self, address: str, *, bind: bool, settings: LinkSettings) -> InnerLink:
        link = InnerLink(address, bind=bind)
        other = self._waiting.pop(address, None)
        if other is None:
            self._waiting[address] = link
            return link
        if other._binds == bind:
            self._waiting[address] = other
            raise WireError(f"{address} is {'bound' if bind else 'connected'} already")
        link.meet(other)
        other.meet(link)
        # An empty frame only says: here I am.
        (other if other._binds else link).put(b"")
        return link
