"""Opening ZeroMQ links at `ipc://` and `tcp://` addresses, and refusing those that would not be safe."""

import errno
import fcntl
import os
import time
from contextlib import ExitStack
from pathlib import Path

import zmq
from zmq.utils import z85

from geartrain.errors import BadValue, WireError
from geartrain.ports.places import check_private
from geartrain.ports.transport import LinkSettings, place_of
from geartrain.rules.keys import Curve, Keys
from geartrain_zmq.handshakes import Attempts, Judge, Visitors, Watch
from geartrain_zmq.keys import check_pair, generate_keys
from geartrain_zmq.link import ZmqLink, refused
from geartrain_zmq.sockets import new_socket
from geartrain_zmq.zap import doorkeeper

# What the kernel takes for the path of a unix socket, without the closing zero.
_PATH_MOST = 107
_PORT_MOST = 65_535


class ZmqTransport:
    """ipc and tcp."""

    def new_keys(self) -> Keys:
        """For an end that crosses a network, or might."""
        return generate_keys()

    def open(self, address: str, *, bind: bool, settings: LinkSettings) -> ZmqLink:
        _check(address, settings)
        # What was opened is given back in the reverse order, at once if opening fails, else when the link closes.
        with ExitStack() as held:
            try:
                link = _open(address, held, bind=bind, settings=settings)
            except zmq.ZMQError as error:
                raise refused(address, error) from error
        return link


def _check(address: str, settings: LinkSettings) -> None:
    is_local = address.startswith("ipc://")
    if is_local:
        _check_path(place_of(address))
    else:
        _check_port(address)
    if not is_local and settings.curve is None and not settings.insecure:
        raise BadValue(
            f"{address} would be open to everybody who can reach it: make keys for both ends with "
            "geartrain_zmq.generate_keys() and say curve=Curve(keys=its_own, peer=the_other_public_key), "
            "use an ipc address, or say insecure=True"
        )
    if settings.curve is not None:
        check_pair(settings.curve.keys)


def _open(address: str, held: ExitStack, *, bind: bool, settings: LinkSettings) -> ZmqLink:
    scheme = address.partition("://")[0]
    if bind and scheme == "ipc":
        held.callback(os.close, _claim(place_of(address)))
    domain = _open_door(address, held, settings.curve) if bind and settings.curve is not None else None
    socket = new_socket(scheme, bind=bind, settings=settings, domain=domain)
    held.callback(socket.close, 0)
    judge = _judge(address, settings.curve, bind=bind, domain=domain)
    watch = None if judge is None else Watch(socket, address, judge)
    if watch is not None:
        held.callback(watch.close)
    if bind:
        _bind(socket, address)
        held.callback(_leave, address)
    else:
        socket.connect(address)
    if bind and scheme == "ipc":
        held.callback(place_of(address).unlink, missing_ok=True)
    return ZmqLink(socket, address, bind=bind, watch=watch, held=held.pop_all())


# Where this process was bound a moment ago: ZeroMQ closes behind our back.
_left_at_s: dict[str, float] = {}
_LEAVING_S = 0.2


def _leave(address: str) -> None:
    now_s = time.monotonic()
    for other in [other for other, left_s in _left_at_s.items() if left_s < now_s - _LEAVING_S]:
        del _left_at_s[other]
    _left_at_s[address] = now_s


def _bind(socket: "zmq.Socket[bytes]", address: str) -> None:
    """Bind, and where we have only just left, be patient until ZeroMQ has."""
    while True:
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > _left_at_s.get(address, 0) + _LEAVING_S:
                raise
            time.sleep(0.001)
        else:
            return


def _open_door(address: str, held: ExitStack, curve: Curve) -> bytes:
    domain = doorkeeper().open_door(address, z85.decode(curve.peer))
    held.callback(doorkeeper().close_door, domain)
    return domain


def _judge(address: str, curve: Curve | None, *, bind: bool, domain: bytes | None) -> Judge | None:
    """A bound end without keys has nothing to learn from its visitors' handshakes."""
    if domain is not None:
        return Visitors(address, doorkeeper().complaints(domain))
    return None if bind else Attempts(address, curve)


def _check_port(address: str) -> None:
    """ZeroMQ takes what it can read as a number, and its last 16 bits."""
    _host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not colon or not (port == "*" or (port.isascii() and port.isdigit() and int(port) <= _PORT_MOST)):
        raise BadValue(f"a tcp address reads tcp://host:port with a port from 0 to {_PORT_MOST}, got {address!r}")


def _check_path(path: Path) -> None:
    """A socket file is only as private as the folder it lies in."""
    if "\0" in str(path):
        raise BadValue(f"a path cannot hold a zero byte, got {str(path)!r}")
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
