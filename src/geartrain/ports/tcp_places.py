"""Where channels over tcp meet on this host: a port that nobody else takes, and keys that let nobody else in.

A port is bound here and never listened at. Whoever asks for the same port by number, as the reader of the channel does,
gets it; whoever asks for any port gets another.
"""

import socket

from msgspec import Struct

from geartrain.errors import BadValue
from geartrain.ports.transport import find
from geartrain.rules.keys import Curve, Keys

_HOST = "127.0.0.1"


class TcpPlace(Struct, frozen=True):
    """One channel: its address, and what each end needs to be let in by the other."""

    address: str
    writer: Curve
    reader: Curve


class TcpPlaces:
    """The places of one run."""

    def __init__(self) -> None:
        self._places: dict[str, TcpPlace] = {}
        self._held: list[socket.socket] = []

    def place(self, channel: str) -> TcpPlace:
        """Where this channel meets; the same whenever it is asked for."""
        if channel not in self._places:
            address = f"tcp://{_HOST}:{self._hold_port()}"
            writer, reader = new_keys(address), new_keys(address)
            self._places[channel] = TcpPlace(address, Curve(writer, reader.public), Curve(reader, writer.public))
        return self._places[channel]

    def close(self) -> None:
        for held in self._held:
            held.close()
        self._held.clear()

    def _hold_port(self) -> int:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((_HOST, 0))
        self._held.append(held)
        port: int = held.getsockname()[1]
        return port


def new_keys(address: str) -> Keys:
    """A new pair of keys, of the kind that the transport of this address takes."""
    transport = find(address)
    make = getattr(transport, "new_keys", None)
    if make is None:
        raise BadValue(f"the transport of {address} knows no keys, and without them everybody could come in")
    keys: Keys = make()
    return keys
