"""Opening ZeroMQ links at `ipc://` and `tcp://` addresses, and refusing those that would not be safe."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import zmq

from geartrain.errors import BadValue, WireError
from geartrain.ports.places import check_private
from geartrain.ports.transport import LinkSettings, place_of
from geartrain_zmq.link import ZmqLink, refused
from geartrain_zmq.sockets import new_socket

# What the kernel takes for the path of a unix socket, without the closing zero.
_PATH_MOST = 107


class ZmqTransport:
    """ipc and tcp."""

    def open(self, address: str, *, bind: bool, settings: LinkSettings) -> "ZmqLink":
        scheme = address.partition("://")[0]
        if scheme == "ipc":
            _check_path(place_of(address))
        elif not settings.insecure:
            raise BadValue(
                f"{address} would be open to everybody who can reach it, for there are no keys yet: "
                "use an ipc address, or say insecure=True"
            )
        lock = _claim(place_of(address)) if scheme == "ipc" and bind else None
        socket = new_socket(scheme, bind=bind, settings=settings)
        try:
            if bind:
                socket.bind(address)
            else:
                socket.connect(address)
        except zmq.ZMQError as error:
            socket.close(0)
            if lock is not None:
                os.close(lock)
            raise refused(address, error) from error
        return _LockedLink(socket, address, bind=bind, lock=lock)


class _LockedLink(ZmqLink):
    """A link that holds the lock beside its socket file, and takes the file away when it closes."""

    def __init__(self, socket: "zmq.Socket[bytes]", address: str, *, bind: bool, lock: int | None) -> None:
        super().__init__(socket, address, bind=bind)
        self._lock = lock

    async def aclose(self) -> None:
        await super().aclose()
        if self._lock is not None:
            with suppress(FileNotFoundError):
                place_of(self.address).unlink()
            os.close(self._lock)
            self._lock = None


def _check_path(path: Path) -> None:
    """A socket file is only as private as the folder it lies in."""
    if len(os.fsencode(path)) > _PATH_MOST:
        raise BadValue(f"the path {path} is longer than {_PATH_MOST} bytes, the most for an ipc address")
    check_private(path.parent)


def _claim(path: Path) -> int:
    """Hold a lock beside the socket file: to bind would steal it from a live owner without a word."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise WireError(f"ipc://{path} is bound by a live process; only one end of a channel binds") from error
        raise
    return lock


transport = ZmqTransport()
