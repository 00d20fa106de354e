"""A transport inside one process that is as bad as it is told to be: what the two ends of a channel must survive.

    pretend://name      one place to bind; who connects is met at once, or as soon as somebody binds

    connecting link  ==== connection, two queues in order ====  bound link
                                 cut: of what has not been handed over a suffix is gone, in both directions;
                                 the connecting side is back at once, under another name

Every fault comes from the seed of the transport, so that a bad run can be had again.
"""

import itertools
import random
from collections import deque
from typing import NoReturn

import anyio
import anyio.lowlevel
from msgspec import Struct

from geartrain.errors import BadValue, WireError
from geartrain.ports.transport import Hear, Link, LinkSettings

# A peer may add so much to the largest item, as over ZeroMQ.
SLACK_BYTES = 64 * 1024

# At most so many frames are handed over at once.
_MOST = 64


class Faults(Struct, frozen=True):
    """How often something goes wrong, from 0 to 1, each time a frame is sent; `late` when frames are received."""

    cut: float = 0
    refuse: float = 0
    drop: float = 0
    repeat: float = 0
    late: float = 0


class _Connection:
    """Two queues. What is in them has been sent and not been handed over."""

    def __init__(self, name: bytes, dialer: "PretendLink", bound: "PretendLink") -> None:
        self.name = name
        self.dialer = dialer
        self.bound = bound
        self.alive = True
        self.queues: dict[PretendLink, deque[bytes]] = {dialer: deque(), bound: deque()}

    def name_at(self, link: "PretendLink") -> bytes:
        return self.name if link is self.bound else b""

    def far_end(self, link: "PretendLink") -> "PretendLink":
        return self.dialer if link is self.bound else self.bound

    def put(self, link: "PretendLink", frame: bytes) -> None:
        self.queues[link].append(frame)
        link.wake()


class PretendTransport:
    """All links of one world."""

    def __init__(self, seed: int = 0, faults: Faults = Faults()) -> None:  # noqa: B008 - it is frozen
        self.random = random.Random(seed)
        self.faults = faults
        self.bound: dict[str, PretendLink] = {}
        self.dialers: list[PretendLink] = []
        self._names = itertools.count(1)

    def open(self, address: str, *, bind: bool, settings: LinkSettings) -> Link:
        scheme, _, name = address.partition("://")
        if scheme != "pretend" or not name.isidentifier():
            raise BadValue(f"a pretend address reads pretend://name, got {address!r}")
        link = PretendLink(self, name, binds=bind, settings=settings)
        if bind:
            self._bind(name, link)
        else:
            self.dialers.append(link)
            self.dial(link)
        return link

    def _bind(self, name: str, link: "PretendLink") -> None:
        if name in self.bound:
            raise WireError(f"pretend://{name} is bound already; only one end of a channel binds")
        self.bound[name] = link
        for dialer in self.dialers:
            if dialer.place == name:
                self.dial(dialer)

    def dial(self, dialer: "PretendLink") -> None:
        """Connect, and say so by an empty frame, if there is somebody."""
        bound = self.bound.get(dialer.place)
        if bound is not None:
            connection = _Connection(b"peer-%d" % next(self._names), dialer, bound)
            dialer.connections.append(connection)
            bound.connections.append(connection)
            connection.put(bound, b"")

    def cut(self, connection: _Connection) -> None:
        """What was on its way arrives up to some frame, and not from there on."""
        connection.alive = False
        for queue in connection.queues.values():
            for _ in range(self.random.randint(0, len(queue))):
                queue.pop()

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability


class PretendLink:
    """One end. What a dead connection has still to hand over is handed over, before or after what a new one brings."""

    def __init__(self, world: PretendTransport, place: str, *, binds: bool, settings: LinkSettings) -> None:
        self.place = place
        self.binds = binds
        self.connections: list[_Connection] = []
        self._world = world
        self._most_bytes = settings.max_frame_bytes + SLACK_BYTES
        self._closed = False
        self._news = anyio.Event()

    def send(self, peer: bytes, frame: bytes | bytearray | memoryview) -> bool:
        faults, happens = self._world.faults, self._world.happens
        connection = self._connection_to(peer)
        if connection is not None and happens(faults.cut):
            self._world.cut(connection)
            self._world.dial(connection.dialer)
            connection = self._connection_to(peer)
        if connection is None or happens(faults.refuse):
            return False
        far = connection.far_end(self)
        if len(frame) > far._most_bytes:
            self._world.cut(connection)
            self._world.dial(connection.dialer)
            return True
        for _ in range(1 - happens(faults.drop) + happens(faults.repeat)):
            connection.put(far, bytes(frame))
        return True

    def reachable(self, peer: bytes) -> bool:
        return self._connection_to(peer) is not None

    async def run(self, hear: Hear) -> NoReturn:
        while True:
            await anyio.lowlevel.checkpoint()
            while self._world.happens(self._world.faults.late):
                await anyio.lowlevel.checkpoint()
            if not self._hand_over(hear):
                self._news = anyio.Event()
                await self._news.wait()
            if self._closed:
                raise WireError(f"pretend://{self.place} was closed")

    def _hand_over(self, hear: Hear) -> bool:
        self.connections = [each for each in self.connections if each.alive or each.queues[self]]
        full = [each for each in self.connections if each.queues[self]]
        if not full:
            return False
        connection = self._world.random.choice(full)
        queue = connection.queues[self]
        count = self._world.random.randint(1, len(queue)) if self._world.faults.late else len(queue)
        for _ in range(min(count, _MOST)):
            # Who hears may answer, and the answer may cut the connection.
            if queue:
                hear(connection.name_at(self), queue.popleft())
        return True

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self.binds:
            del self._world.bound[self.place]
        else:
            self._world.dialers.remove(self)
        for connection in self.connections:
            if connection.alive:
                self._world.cut(connection)
        self.connections.clear()
        self.wake()

    def wake(self) -> None:
        self._news.set()

    def _connection_to(self, peer: bytes) -> _Connection | None:
        for connection in self.connections:
            if connection.alive and connection.name_at(self) == peer:
                return connection
        return None
