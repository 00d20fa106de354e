"""Who is not in the pipeline asks its arbiter: words as lines of JSON over a socket beside the journal.

    geartrain lease acquire ...      Open, Acquire   ------>  the arbiter
                                     <------  Opened, Grant or Refusal

A connection is a client like any other: when it ends, its session ends, and what was bound to it. Only the user whose
arbiter it is gets there: the socket is 0600, its folder 0700.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from geartrain.errors import BadValue, LeaseRefused
from geartrain.rules.lease_words import Asked, Happened, Hello, Lost, Said, Told, Waiting

SOCKET = "arbiter.sock"
LINE_MOST = 256 * 1024

_asked: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)
_told: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)


def asked_in(line: bytes) -> Said:
    try:
        return _asked.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadValue(f"that is no question for an arbiter of leases: {error}") from error


def line_of(word: Said | Told) -> bytes:
    return msgspec.json.encode(word) + b"\n"


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """The socket by a path that is never too long for one."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{file}/{SOCKET}"
    finally:
        os.close(file)


class Asker:
    """A connection to an arbiter, for a program without a loop."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._come = b""

    @classmethod
    def of(cls, folder: Path) -> "Asker | None":
        """None if nobody listens there."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            with short_path(folder) as path:
                connection.connect(path)
        except OSError:
            connection.close()
            return None
        return cls(connection)

    def answer(self, command: Asked, within_s: float) -> Told:
        """The last word on it: not that it waits, nor what became of others."""
        try:
            self._connection.settimeout(within_s)
            self._connection.sendall(line_of(command))
            while True:
                told = _told.decode(self._line())
                if not isinstance(told, Waiting | Hello | Lost | Happened):
                    return told
        except OSError as error:
            said = f"the arbiter has not answered ({error.strerror or error}): whether it was done is not known"
            raise LeaseRefused(
                f"{said}; ask again by the same --request-id, or look with `geartrain lease ls`", "indeterminate"
            ) from error

    def tell(self, command: Asked) -> None:
        """What is not answered. What cannot be told is noticed by the next question."""
        with suppress(OSError):
            self._connection.sendall(line_of(command))

    def close(self) -> None:
        self._connection.close()

    def _line(self) -> bytes:
        while b"\n" not in self._come:
            chunk = self._connection.recv(LINE_MOST)
            if not chunk:
                raise ConnectionResetError("it ended without an answer")
            self._come += chunk
        line, _, self._come = self._come.partition(b"\n")
        return line
