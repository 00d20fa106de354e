"""A ZeroMQ socket as a link, on asyncio and on trio alike.

ZeroMQ's file descriptor only tells that something may have changed, once: it is edge-triggered, and a send can eat
the edge that a receive waits for. So everything is tried first and waited for afterwards, and after every send the
socket is asked whether something has come meanwhile.
"""

import errno

import anyio
import zmq

from geartrain.errors import WireError
from geartrain.ports.transport import Arrival

# At most so many frames are handed over at once, so that a flood leaves room for others.
_MOST = 64


def _number(socket: "zmq.Socket[bytes]", option: int) -> int:
    value = socket.get(option)
    assert isinstance(value, int)
    return value


class ZmqLink:
    """One socket, used from the loop's thread only."""

    def __init__(self, socket: "zmq.Socket[bytes]", address: str, *, bind: bool) -> None:
        self.address = address
        self._socket = socket
        self._binds = bind
        self._fd = _number(socket, zmq.FD)
        self._waiting: anyio.CancelScope | None = None

    def send(self, peer: bytes, frame: bytes | bytearray) -> bool:
        copy = len(frame) < 65_536
        try:
            if self._binds:
                self._socket.send(peer, zmq.SNDMORE | zmq.DONTWAIT)
            self._socket.send(frame, zmq.DONTWAIT, copy=copy)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        finally:
            if self._waiting is not None and _number(self._socket, zmq.EVENTS) & zmq.POLLIN:
                self._waiting.cancel()
        return True

    def reachable(self, peer: bytes) -> bool:
        """A router knows at the first part of a message whether there is a peer to take it."""
        if not self._binds:
            return bool(_number(self._socket, zmq.EVENTS) & zmq.POLLOUT)
        try:
            self._socket.send(peer, zmq.SNDMORE | zmq.DONTWAIT)
            self._socket.send(b"", zmq.DONTWAIT)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        return True

    async def receive(self) -> list[Arrival]:
        while not (arrivals := self._receive_now()):
            with anyio.CancelScope() as self._waiting:
                # An event between the last look and this wait would be waited for in vain.
                if not _number(self._socket, zmq.EVENTS) & zmq.POLLIN:
                    await anyio.wait_readable(self._fd)
            self._waiting = None
        return arrivals

    def _receive_now(self) -> list[Arrival]:
        arrivals: list[Arrival] = []
        receive = self._socket.recv
        while len(arrivals) < _MOST:
            try:
                first = receive(zmq.DONTWAIT)
            except zmq.Again:
                break
            if not self._binds:
                arrivals.append(Arrival(b"", first))
            elif self._socket.get(zmq.RCVMORE):
                arrivals.append(Arrival(first, receive(zmq.DONTWAIT)))
            self._skip_rest()
        return arrivals

    def _skip_rest(self) -> None:
        """We never send messages of several parts; what somebody else adds is not for us."""
        while self._socket.get(zmq.RCVMORE):
            self._socket.recv(zmq.DONTWAIT)

    async def aclose(self) -> None:
        if not self._socket.closed:
            anyio.notify_closing(self._fd)
            self._socket.close(0)


def refused(address: str, error: zmq.ZMQError) -> WireError:
    """What ZeroMQ says when it will not open an address, in words."""
    if error.errno == errno.EADDRINUSE:
        return WireError(f"{address} is in use by another process")
    return WireError(f"{address} cannot be opened: {error.strerror or error}")
