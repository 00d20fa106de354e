"""A line between two processes of one host: whole messages, in order, until the other end is gone. Its calls block.

For those who have nothing else to do until the other has spoken. A message is its length, in four bytes, and itself.
"""

import socket
import struct

_LENGTH = struct.Struct(">I")
_CHUNK = 64 * 1024


class Line:
    """One end of a pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._unread = b""

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: bytes) -> bool:
        """False when nobody is there any more to hear it."""
        try:
            self._end.sendall(_LENGTH.pack(len(message)) + message)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self) -> bytes | None:
        """The next message; None when the other end is gone. Whoever is asked speaks once before it is asked again."""
        whole = self._unread
        while len(whole) < _LENGTH.size or len(whole) < (needed := _LENGTH.size + _LENGTH.unpack_from(whole)[0]):
            try:
                more = self._end.recv(_CHUNK)
            except ConnectionResetError:
                return None
            if not more:
                return None
            whole += more
        self._unread = whole[needed:]
        return whole[_LENGTH.size : needed]

    def close(self) -> None:
        self._end.close()


def pair() -> tuple[Line, socket.socket]:
    """A line, and the socket at its other end, for a child to inherit."""
    ours, theirs = socket.socketpair()
    return Line(ours), theirs
