"""How frames get from one process to another: a door that anyone can fit.

A transport opens links. A link moves whole frames, in order, or says that it cannot; what the frames mean, it does not
know. The side that binds hears many peers and tells them apart by a name of the link's own making, which changes
with every connection; the side that connects has one peer, the empty name. An empty frame only says: here I am.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NoReturn, Protocol

from msgspec import Struct

from geartrain.errors import BadType, BadValue
from geartrain.rules.keys import Curve

GROUP = "geartrain.transports"


class LinkSettings(Struct, frozen=True):
    """What a transport must know of the channel it carries."""

    max_frame_bytes: int
    insecure: bool = False
    curve: Curve | None = None

    def __post_init__(self) -> None:
        if self.curve is not None and not isinstance(self.curve, Curve):
            raise BadType(f"curve must be a Curve(keys, peer), got {type(self.curve).__name__}")
        if self.insecure and self.curve is not None:
            raise BadValue("insecure=True and curve= contradict each other; keep the one that is meant")


# Called with a peer and a frame from it. It never waits, and may send.
Hear = Callable[[bytes, bytes | memoryview], None]


class Link(Protocol):
    """An open end of a transport."""

    def send(self, peer: bytes, frame: bytes | bytearray | memoryview) -> bool:
        """Take a frame for a peer. Never waits; False when there is nobody to take it to."""

    async def run(self, hear: Hear) -> NoReturn:
        """Hand over every frame that comes, with the name of its peer, until cancelled. Called again, it goes on.

        Raises a `GeartrainError` when this link will never work, as when the other end refuses its keys.
        """

    def reachable(self, peer: bytes) -> bool:
        """Whether a frame for this peer would be taken."""

    async def aclose(self) -> None:
        """Give everything back. Never hangs; `run` is cancelled before."""


class Transport(Protocol):
    """Opens links at the addresses of its schemes."""

    def open(self, address: str, *, bind: bool, settings: LinkSettings) -> Link:
        """Bind or connect, at once, whether or not there is anybody at the other end."""


def find(address: str) -> Transport:
    """The transport for an address, by its scheme: `ipc://...`, `tcp://...`."""
    return load(locate(address))


def locate(address: str) -> str:
    """Where the transport for an address is, as "module:attr". To look is dear: it reads what is installed."""
    scheme, colon, rest = address.partition("://")
    if not colon or not rest:
        raise BadValue(
            f"an address reads scheme://place, as ipc:///run/me/frames or tcp://127.0.0.1:5000, got {address!r}"
        )
    places = installed()
    found = {place for name, place in places if name == scheme}
    if not found:
        known = ", ".join(sorted(name for name, _ in places)) or "none"
        raise BadValue(f"no transport is installed for {scheme!r} (of {address!r}); there are: {known}")
    if len(found) > 1:
        claims = " and ".join(sorted(found))
        raise BadValue(f"the scheme {scheme!r} is claimed by {claims}; uninstall one of them")
    return found.pop()


def load(place: str) -> Transport:
    """The transport at "module:attr"."""
    module, _, name = place.partition(":")
    transport: Transport = getattr(import_module(module), name)
    return transport


def installed() -> list[tuple[str, str]]:
    """Each scheme that an installed package serves, and where."""
    # A process of a pipeline is told where its transports are, and does without this import.
    from importlib.metadata import entry_points

    return [(entry.name, entry.value) for entry in entry_points(group=GROUP)]


def place_of(address: str) -> Path:
    """The path in an address that is one."""
    return Path(address.partition("://")[2])
