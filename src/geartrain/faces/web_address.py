"""Where the gateway is reached: an address on this machine, a socket in a folder, or, with a token, an open address.

"127.0.0.1:8080"   "[::1]:8080"   "localhost:0"       anybody on this machine
"unix:/run/me/vision"                                 this user; the socket is removed afterwards
"0.0.0.0:8080"                                        refused without a token
"""

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from msgspec import Struct

from geartrain.errors import BadValue, CannotServe, Fault
from geartrain.rules.pipeline import PipelineSpec
from geartrain.rules.system import WEB_OBSERVER

BIND = "127.0.0.1:8080"

# What the extra `geartrain[web]` installs.
NEEDED = ("starlette", "anycorn", "prometheus_client")

_BACKLOG = 128
_LEAST_TOKEN = 16


class Bind(Struct, frozen=True):
    """An address that has been understood. `path` is that of a socket in a folder; otherwise there is a host."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_loopback(self) -> bool:
        if self.path or self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def understood(bind: str, token: str | None) -> Bind:
    """The address, if it may be served."""
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise BadValue(f"a token has at least {_LEAST_TOKEN} printable ASCII characters, this one has {len(token)}")
    found = _parsed(bind)
    if not found.is_loopback and token is None:
        raise CannotServe(
            f"{bind} can be reached from other machines, and without a token everybody there could read the run: "
            "say token, or bind 127.0.0.1 or a unix: path"
        )
    return found


def _parsed(bind: str) -> Bind:
    if bind.startswith("unix:"):
        path = bind.removeprefix("unix:")
        if not os.path.isabs(path):
            raise BadValue(f"bind = {bind!r}: the path of a socket begins with a slash, as in unix:/run/me/vision")
        return Bind(path=path)
    host, colon, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 65536):
        raise BadValue(f"bind = {bind!r}: expected HOST:PORT, as 127.0.0.1:8080, or unix:/a/path")
    return Bind(host=host, port=int(port))


@contextmanager
def listening(bind: Bind) -> Iterator[socket.socket]:
    """A socket at which clients may knock. One in a folder is of this user only, and goes afterwards."""
    opened = _at_path(bind) if bind.path else _at_port(bind)
    try:
        yield opened
    finally:
        opened.close()
        if bind.path:
            with suppress(OSError):
                os.unlink(bind.path)


def cannot_be_shown(spec: PipelineSpec) -> Iterator[Fault]:
    """Why an observer of this pipeline could not serve where it should: said before anything starts.

    What happens to the address later is the observer's own trouble, which begins again by itself.
    """
    for daemon in spec.daemons:
        if daemon.run == WEB_OBSERVER:
            said = _why_not(daemon.config)
            if said:
                yield Fault(spec.file, f"daemons.{daemon.name}.config", said)


def _why_not(config: Mapping[str, Any]) -> str:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        return f"to show a run, {missing[0]} is needed and not installed: pip install 'geartrain[web]'"
    try:
        with listening(understood(str(config.get("bind", BIND)), config.get("token"))):
            return ""
    except (BadValue, CannotServe) as error:
        return str(error)


def url_of(bind: Bind, opened: socket.socket) -> str:
    """What somebody types to get there; port 0 has become a real one."""
    if bind.path:
        return f"http+unix://{bind.path}"
    return f"http://{Bind(bind.host, opened.getsockname()[1])}"


def _at_port(bind: Bind) -> socket.socket:
    with _in_words(bind):
        family, kind, _, _, address = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind)
        try:
            # A port is free at once when its former owner has died.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(_BACKLOG)
            opened.setblocking(False)
        except OSError:
            opened.close()
            raise
        return opened


def _at_path(bind: Bind) -> socket.socket:
    with _in_words(bind):
        _clear_dead(bind.path)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.bind(bind.path)
            # Nobody can connect before it listens, and then only this user.
            os.chmod(bind.path, 0o600)
            opened.listen(_BACKLOG)
            opened.setblocking(False)
        except OSError:
            opened.close()
            raise
        return opened


def _clear_dead(path: str) -> None:
    """Remove a socket that nobody listens at any more. One in use, or a file, stays, and is in the way."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
                try:
                    knock.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)


@contextmanager
def _in_words(bind: Bind) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            said = "is taken by somebody else: stop that one, or say another address"
            raise CannotServe(f"{bind} {said}") from error
        raise CannotServe(f"{bind} cannot be served: {error.strerror or error}") from error
