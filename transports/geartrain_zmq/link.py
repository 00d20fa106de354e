"""A ZeroMQ socket as a link, on asyncio and on trio alike.

ZeroMQ's file descriptor only tells that something may have changed, once: it is edge-triggered, and a send can eat
the edge that a receive waits for. So everything is tried first and waited for afterwards, and after every send the
socket is asked whether something has come meanwhile.
"""

import errno
from collections.abc import Callable
from contextlib import ExitStack
from typing import NoReturn, cast

import anyio
import zmq

from geartrain.errors import WireError
from geartrain.ports.parking import checkpoint, watch_fd
from geartrain.ports.transport import Hear
from geartrain_zmq.handshakes import Watch

# As numbers: arithmetic on the enumerations costs as much as a send.
_AT_ONCE = int(zmq.DONTWAIT)
_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)
_WRITABLE = int(zmq.POLLOUT)
_EVENTS = int(zmq.EVENTS)
_FD = int(zmq.FD)

# From this size on a frame is not copied on its way.
_LARGE_BYTES = 64 * 1024

# At most so many frames are handed over at once, so that a flood leaves room for others.
_MOST = 64


class ZmqLink:
    """One socket, used from the loop's thread only, and what is to be given back with it."""

    def __init__(
        self, socket: "zmq.Socket[bytes]", address: str, *, bind: bool, watch: Watch | None, held: ExitStack
    ) -> None:
        self.address = address
        self._watch = watch
        self._held = held
        self._socket = socket
        self._binds = bind
        self._hear: Hear | None = None
        self._get = cast("Callable[[int], int]", socket.get)
        self._fd = watch_fd(self._get(_FD), self._look)

    def send(self, peer: bytes, frame: bytes | bytearray | memoryview) -> bool:
        if self._socket.closed:
            return False
        copy = len(frame) < _LARGE_BYTES
        try:
            if self._binds:
                self._socket.send(peer, _MORE)
            self._socket.send(frame, _AT_ONCE, copy=copy)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        finally:
            if self._get(_EVENTS) & _READABLE:
                self._fd.wake()
        return True

    def reachable(self, peer: bytes) -> bool:
        """A router knows at the first part of a message whether there is a peer to take it."""
        if self._socket.closed:
            return False
        if not self._binds:
            return bool(self._get(_EVENTS) & _WRITABLE)
        try:
            self._socket.send(peer, _MORE)
            self._socket.send(b"", _AT_ONCE)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    async def run(self, hear: Hear) -> NoReturn:
        self._hear = hear
        try:
            if self._watch is None:
                await self._receive()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._receive)
                refusal = await self._watch.refused()
                tasks.cancel_scope.cancel()
            raise refusal
        finally:
            self._hear = None

    async def _receive(self) -> NoReturn:
        while True:
            if self._look():
                await checkpoint()
            else:
                await self._fd.wait()

    def _look(self) -> bool:
        """Hand over what has come; not all of it if it is very much, and then there is more to look for."""
        receive = self._socket.recv
        for _ in range(_MOST):
            hear = self._hear
            # To ask is half as dear as to be refused.
            if hear is None or not self._get(_EVENTS) & _READABLE:
                return False
            peer = receive(_AT_ONCE) if self._binds else b""
            part = receive(_AT_ONCE, copy=False)
            hear(peer, part.bytes if len(part) < _LARGE_BYTES else part.buffer)
            # We never send messages of several parts; what somebody else adds is not for us.
            while part.more:
                part = receive(_AT_ONCE, copy=False)
        return True

    async def aclose(self) -> None:
        if not self._socket.closed:
            self._fd.close()
            self._held.close()


def refused(address: str, error: zmq.ZMQError) -> WireError:
    """What ZeroMQ says when it will not open an address, in words."""
    if error.errno == errno.EADDRINUSE:
        return WireError(f"{address} is in use by another process")
    return WireError(f"{address} cannot be opened: {error.strerror or error}")
